"""What trains a rung of a ladder, and the part of the corpus that it reads."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import transformers

import studying
from climb_opt.attributes import FACTS, RUNG, SLOT
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.command import CommandTrainer
from climb_opt.proxy.cost import shape_size, share_of, trial_cost
from climb_opt.proxy.data import MixtureIndex, Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.ladders import ladder_of
from climb_opt.proxy.rungs import Rungs
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.retrain.sibling import at_target
from climb_opt.shards import Corpus, Domain, Stream
from climb_opt.study import open_study, work
from studying import PACE
from training import SMALL, Watch

recipe, journal = studying.recipe, studying.journal  # fixtures

JOB = Job("slot-0", {"web": 0.6, "code": 0.3, "math": 0.1}, seed=3)


def test_a_trial_states_the_flops_it_used(tiny_corpus: Corpus, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_corpus, tmp_path, report_every=4)
    whole = trainer.train(JOB, Watch()).facts["flops"]
    assert whole == trial_cost(SMALL, shape_size(SMALL.model, tiny_corpus.vocab_size)).flops
    pruned = trainer.train(replace(JOB, name="slot-1"), Watch(hopeless_at=4)).facts
    assert pruned["flops"] == pytest.approx(whole * 4 / 16)
    stated = trainer_of(tiny_corpus, tmp_path, flops=1e9).train(JOB, Watch()).facts
    assert stated["flops"] == 1e9


def trainer_of(corpus: Corpus, folder: Path, share: float = 1.0, **changes: Any) -> Trainer:
    recipe = replace(SMALL, **changes)
    sequences = Sequences(corpus, recipe.sequence, share=share)
    return Trainer(corpus, recipe, ProxyGroup("fp32"), directory=folder, sequences=sequences)


# --- pools ---------------------------------------------------------------------------------------


def corpus_of(folder: Path, shards: list[list[int]], length: int = 4) -> Corpus:
    """Domains d0, d1, ... with shards of so many sequences, each token of its own."""
    domains, last = [], 0
    for k, rows in enumerate(shards):
        streams = []
        for n, count in enumerate(rows):
            tokens = count * length + 1
            np.arange(last, last + tokens, dtype=np.uint32).tofile(folder / f"{k}-{n}.bin")
            streams.append(Stream(f"{k}-{n}.bin", tokens, 1, tokens, "0"))
            last += tokens
        domains.append(Domain(f"d{k}", tuple(streams)))
    return Corpus(folder, "c", tuple(domains), {}, "uint32", last, 0)


def read_by(corpus: Corpus, share: float, mixture: dict[str, float], total: int, seed: int) -> Any:
    index = MixtureIndex(Sequences(corpus, 4, share=share), mixture, total=total, seed=seed)
    ids = index.ids(0, total)
    return index, ids, index.domain_of(ids)


def test_a_smaller_pool_lies_within_a_larger_one_and_is_spread_over_the_shards(
    tmp_path: Path,
) -> None:
    corpus = corpus_of(tmp_path, [[50] * 8, [3], [1]])
    mixture = dict.fromkeys(("d0", "d1", "d2"), 1.0)
    before: set[int] = set()
    for share in (1 / 64, 1 / 16, 1 / 4, 1 / 2, 0.9, 1.0):
        index, ids, domains = read_by(corpus, share, mixture, 1500, seed=5)  # all of it and more
        sizes = [max(round(share * n), 1) for n in (400, 3, 1)]
        assert list(index.pools) == sizes
        read = set(ids.tolist())
        assert len(read) == sum(sizes) and before <= read
        before = read
        for k, size in enumerate(sizes):  # a pass reads each once, before any is read again
            first = ids[domains == k][:size]
            assert len(set(first.tolist())) == size
    quarter = np.unique(read_by(corpus, 0.25, {"d0": 1.0}, 100, seed=5)[1])
    assert len(quarter) == 100
    assert np.all(np.bincount(quarter // 50, minlength=8) >= 5)  # 12.5 of each shard, on average


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
    st.sampled_from([0.1, 0.25, 0.5]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_where_nothing_is_repeated_a_share_changes_nothing_and_later_passes_are_shuffled_anew(
    sizes: list[int], share: float, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_of(Path(folder), [[n] for n in sizes])
        mixture = {f"d{k}": 1.0 + seed % (k + 2) for k in range(len(sizes))}
        total = 3 * sum(sizes)
        index, ids, domains = read_by(corpus, share, mixture, total, seed)
        _, whole, _ = read_by(corpus, 1.0, mixture, total, seed)
        np.testing.assert_array_equal(domains, index.domain_of(whole))
        for k, pool in enumerate(index.pools):
            own, all_of = ids[domains == k], whole[domains == k]
            np.testing.assert_array_equal(own[:pool], all_of[:pool])
            assert set(own.tolist()) <= set(all_of[:pool].tolist())
            passes = [set(own[a : a + pool]) for a in range(0, len(own) - pool, pool)]
            assert all(len(once) == pool for once in passes)
        np.testing.assert_allclose(index.epochs, index.counts / index.pools)


def test_a_quarter_of_the_tokens_from_a_quarter_of_the_pools_repeats_as_the_whole(
    tmp_path: Path,
) -> None:
    corpus = corpus_of(tmp_path, [[4000], [40], [4]])
    mixture = {"d0": 0.5, "d1": 0.4, "d2": 0.1}
    full = MixtureIndex(Sequences(corpus, 4), mixture, total=2000, seed=0)
    matched = MixtureIndex(Sequences(corpus, 4, share=0.25), mixture, total=500, seed=1)
    whole = MixtureIndex(Sequences(corpus, 4), mixture, total=500, seed=1)
    np.testing.assert_allclose(matched.epochs, full.epochs)
    np.testing.assert_allclose(whole.epochs, full.epochs / 4)


def test_most_epochs_are_those_of_the_target(tiny_corpus: Corpus, tmp_path: Path) -> None:
    # 8192 tokens of math are 2.9 epochs; of a quarter of them, a quarter of the tokens.
    only = replace(JOB, mixture={"math": 1.0})
    for share, tokens in ((1.0, SMALL.tokens), (0.25, SMALL.tokens // 4)):
        trainer_of(tiny_corpus, tmp_path, share, tokens=tokens, max_epochs=3.2).index(only)
        with pytest.raises(TrialFailed, match=r"'math' would be repeated 2\.\d+ times; .* is 2"):
            trainer_of(tiny_corpus, tmp_path, share, tokens=tokens, max_epochs=2).index(only)
    trainer_of(tiny_corpus, tmp_path, tokens=SMALL.tokens // 4, max_epochs=2).index(only)


def test_a_trial_of_another_pool_is_not_resumed(tiny_corpus: Corpus, tmp_path: Path) -> None:
    names = {trainer_of(tiny_corpus, tmp_path, share).fingerprint(JOB) for share in (1, 0.5, 0.25)}
    assert len(names) == 3


def test_a_command_is_told_its_share_and_its_flops_are_noted(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    script = tmp_path / "train.sh"
    script.write_text('echo \'{"a": 1}\' > "$1/scores.json"\n')
    recipe = ProxyRecipe(tokens=5000, command=f"sh {script} {{directory}}", flops=3e12)
    outcome = CommandTrainer(tiny_corpus, recipe, directory=tmp_path, share=0.25).train(
        JOB, Watch()
    )
    assert outcome.facts["flops"] == 3e12
    assert json.loads((tmp_path / "slot-0" / "trial.json").read_text())["share"] == 0.25
    whole = CommandTrainer(tiny_corpus, replace(recipe, flops=None), directory=tmp_path)
    assert whole.describe(JOB)["share"] == 1.0
    assert "flops" not in whole.train(JOB, Watch()).facts


# --- a study's rungs -----------------------------------------------------------------------------

SHORT = replace(SMALL, tokens=SMALL.tokens // 4, lr=2e-2)


def study_recipe(corpus: Corpus, *proxies: ProxyRecipe, **changes: Any) -> StudyRecipe:
    recipe = StudyRecipe(
        corpus=str(corpus.path),
        proxy=proxies[-1],
        ladder=proxies,
        rungs=tuple(range(len(proxies))),
        rounds=(2,) * len(proxies),
        evaluators=(Choice("heldout", {"target": "sums", "max_tokens": 1000}),),
        score=["sums/bpb"],
    )
    return replace(recipe, **changes)


def tried(
    objective: ProxyObjective, study: optuna.Study, rung: int | None, slot: int = 0
) -> dict[str, Any]:
    """The facts of a trial of `JOB`'s mixture on a rung."""
    attrs = {SLOT: slot} if rung is None else {SLOT: slot, RUNG: rung}
    params = objective.space.params(objective.space.weights(JOB.mixture))
    study.enqueue_trial(params, user_attrs=attrs)
    study.optimize(objective, n_trials=1)
    return dict(study.trials[-1].user_attrs[FACTS])


def test_a_trial_is_trained_on_its_rung_and_without_one_at_the_target(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    target = replace(SMALL, keep=2)
    recipe = study_recipe(tiny_corpus, SHORT, target)
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    study = optuna.create_study()
    low, top, plain, again = (
        tried(objective, study, rung, slot) for slot, rung in enumerate((0, 1, None, 0))
    )
    assert (low["tokens"], top["tokens"]) == (SHORT.tokens, SMALL.tokens)
    costs = ladder_of(recipe.ladder, tiny_corpus.vocab_size).costs
    assert [low["flops"], top["flops"]] == list(costs) and costs[0] == costs[1] / 4
    for name, epochs in top["epochs"].items():  # matched
        assert low["epochs"][name] == pytest.approx(epochs, rel=0.05)
    one, two, three, four = (trial.value for trial in study.trials)
    assert two == three and one == four and one != two  # the rungs leave nothing in each other
    assert top["epochs"] == plain["epochs"] and low["epochs"] == again["epochs"]
    assert {p.name for p in (tmp_path / "models").iterdir()} == {"slot-1", "slot-2"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models"]


def test_a_trial_that_was_stopped_on_a_cheap_rung_resumes_there(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    recipe = study_recipe(tiny_corpus, SHORT, SMALL)
    straight = optuna.create_study()
    tried(ProxyObjective(tiny_corpus, recipe, directory=tmp_path / "straight"), straight, 0)
    looks = iter([False] * 2 + [True])
    stopping = ProxyObjective(
        tiny_corpus, recipe, directory=tmp_path / "stopped", stop=lambda: next(looks, False)
    )
    study = optuna.create_study()
    with pytest.raises(Interrupted):
        tried(stopping, study, 0)
    facts = tried(stopping, study, 0)
    assert facts["resumed_at"] == 2 and study.trials[-1].value == straight.best_value
    assert facts["flops"] == straight.trials[0].user_attrs[FACTS]["flops"]


def test_a_rung_may_read_the_whole_corpus(tiny_corpus: Corpus, tmp_path: Path) -> None:
    recipe = study_recipe(tiny_corpus, SHORT, SMALL, repetition="whole")
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    study = optuna.create_study()
    low, top = (tried(objective, study, rung) for rung in (0, 1))
    for name, epochs in top["epochs"].items():
        assert low["epochs"][name] == pytest.approx(epochs / 4, rel=0.05)


def test_a_study_of_one_rung_trains_as_it_did_without_a_ladder(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    values = []
    for number, ladder in enumerate(((), (SMALL,), (SHORT, SMALL))):
        recipe = study_recipe(tiny_corpus, SMALL, ladder=ladder, rungs=())
        study = optuna.create_study()
        tried(ProxyObjective(tiny_corpus, recipe, directory=tmp_path / str(number)), study, None)
        values.append(study.best_value)
    assert len(set(values)) == 1


def test_what_is_wrong_with_a_rung_is_said_of_it_before_any_training(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    other = transformers.LlamaConfig(
        vocab_size=100, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    transformers.LlamaForCausalLM(other).save_pretrained(tmp_path / "other")
    foreign = replace(SHORT, model=ModelRecipe(checkpoint=str(tmp_path / "other")))
    odd = replace(SHORT, model=replace(SMALL.model, heads=3))
    few = replace(SHORT, tokens=100)
    for proxy, said in (
        (foreign, "other on 2,048 tokens\\): Checkpoint .* knows 100 tokens, but corpus 'tiny'"),
        (odd, "1 x 16 on 2,048 tokens\\): proxy.model: hidden .* must be an even multiple"),
        (few, "1 x 16 on 100 tokens\\): proxy.tokens .* is less than one step"),
        (replace(SHORT, command="train {trail}"), "unknown placeholder {trail}"),
    ):
        for number, ladder in enumerate(((proxy, SMALL), (SHORT, proxy))):
            recipe = study_recipe(tiny_corpus, *ladder)
            with pytest.raises(UserError, match=rf"^study.ladder\[{number}\] \(.*{said}"):
                ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    unscored = study_recipe(tiny_corpus, SHORT, replace(SMALL, command="train"), score=["mine/x"])
    with pytest.raises(UserError, match="no evaluator gives 'mine/x'"):  # nor does the first rung
        ProxyObjective(tiny_corpus, unscored, directory=tmp_path)


def test_a_pruner_sees_trials_of_the_target_alone(tiny_corpus: Corpus, tmp_path: Path) -> None:
    proxies = [replace(proxy, report_every=2) for proxy in (SHORT, SMALL)]
    recipe = study_recipe(
        tiny_corpus, *proxies, pruner=Choice("median"), prune_first_round=True, baselines=()
    )
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.0))  # all of them
    tried(objective, study, 0, 0)
    tried(objective, study, 1, 2)
    low, top = study.trials
    assert low.state == optuna.trial.TrialState.COMPLETE and low.intermediate_values == {}
    assert top.state == optuna.trial.TrialState.PRUNED and list(top.intermediate_values) == [2]


def test_a_pruner_of_a_persons_own_objective_sees_trials_of_the_target_alone(
    recipe: StudyRecipe, journal: str
) -> None:
    target = replace(recipe.proxy, tokens=4096, batch_tokens=1024)
    pruner = Choice("optuna.pruners:ThresholdPruner", {"upper": 0.0})
    ladder = (replace(target, tokens=1024), target)
    wanted = replace(recipe, proxy=target, ladder=ladder, rungs=(0, 1), pruner=pruner)
    study = open_study(wanted, storage=journal, study_name="s")

    def reporting(trial: optuna.Trial) -> float:
        trial.report(1.0, 5)
        if trial.should_prune():
            raise optuna.TrialPruned
        return 1.0

    work(study, objective=reporting, pace=PACE)
    searched = [t for t in study.trials if isinstance(t.user_attrs[SLOT], int)]
    assert {(t.user_attrs[RUNG], t.state.name, len(t.intermediate_values)) for t in searched} == {
        (0, "COMPLETE", 0),
        (1, "PRUNED", 1),
    }


def test_each_rung_trains_in_its_own_precision(tiny_corpus: Corpus, tmp_path: Path) -> None:
    low, top = replace(SHORT, precision="bf16"), replace(SMALL, precision="fp32")
    recipe = study_recipe(tiny_corpus, low, top)
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    study = optuna.create_study()
    found = [tried(objective, study, rung)["precision"] for rung in (0, 1, 0)]
    assert found == ["bf16", "no", "bf16"]
    assert study.trials[0].value == study.trials[2].value
    objective.group.use("fp32")  # as other tests find it


def test_a_rung_on_more_tokens_than_the_target_says_that_it_repeats_more(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert share_of((SHORT, SMALL), 0) == 0.25 and share_of((SHORT, SMALL), 1) == 1
    assert share_of((SMALL, SHORT), 0) == 1.0
    group = ProxyGroup("fp32")
    Rungs(tiny_corpus, study_recipe(tiny_corpus, SHORT, SMALL), group, directory=tmp_path)
    assert "as often as the target, on" not in caplog.text
    Rungs(tiny_corpus, study_recipe(tiny_corpus, SMALL, SHORT), group, directory=tmp_path)
    assert "study.ladder[0] (1 x 16 on 8,192 tokens) repeats every domain 4 times" in caplog.text


def test_a_domain_too_small_to_be_cut_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = corpus_of(tmp_path, [[4000], [3], [400]])
    recipe = study_recipe(corpus, *(replace(p, sequence=4) for p in (SHORT, SMALL)))
    Rungs(corpus, recipe, ProxyGroup("fp32"), directory=tmp_path)
    (said,) = (r.getMessage() for r in caplog.records if "not as often" in r.getMessage())
    assert said.startswith("study.ladder[0] (1 x 16 on 2,048 tokens) repeats some domains not as")
    assert "(times: d1 0.75)" in said
    assert "a share of 0.25" in said


def test_rungs_share_the_open_files_of_the_corpus(tiny_corpus: Corpus, tmp_path: Path) -> None:
    longer = replace(SMALL, sequence=32)
    recipe = study_recipe(tiny_corpus, SHORT, replace(SHORT, command="train"), longer)
    first, command, last = Rungs(
        tiny_corpus, recipe, ProxyGroup("fp32"), directory=tmp_path
    ).trainers
    assert isinstance(first, Trainer) and isinstance(last, Trainer)
    assert isinstance(command, CommandTrainer) and command.share == first.sequences.share == 0.25
    assert last.sequences._shards is first.sequences._shards
    ids = np.arange(2)
    np.testing.assert_array_equal(last.sequences.read(ids), Sequences(tiny_corpus, 32).read(ids))


def test_what_is_trained_again_is_trained_at_the_target(tiny_corpus: Corpus) -> None:
    recipe = study_recipe(tiny_corpus, SHORT, SMALL)
    one = at_target(recipe, baselines=())
    assert (one.proxy, one.ladder, one.rungs, one.budget) == (SMALL, (), (), None)
    assert one.rounds == recipe.rounds and one.baselines == ()
    assert at_target(replace(recipe, rounds=(), rungs=())).rounds == (1,)
