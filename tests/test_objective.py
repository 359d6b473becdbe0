"""One trial, end to end: the seam between search and training."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest

pytest.importorskip("torch")
from transformers import AutoModelForCausalLM

from climb_opt.attributes import COMPONENTS, FACTS, SEED, SLOT
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.history import set_aggregate
from climb_opt.metrics import higher_is_better
from climb_opt.objective import ProxyObjective
from climb_opt.recipes import Choice, ProxyRecipe, SpaceRecipe, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.view import read_history
from training import SMALL

MIXTURE = {"web": 0.2, "code": 0.3, "math": 0.5}


def recipe_of(corpus: Corpus, proxy: ProxyRecipe = SMALL, **changes: Any) -> StudyRecipe:
    recipe = StudyRecipe(
        corpus=str(corpus.path),
        proxy=proxy,
        evaluators=(Choice("heldout", {"target": "sums", "max_tokens": 1000}),),
        score=["sums/bpb"],
        rounds=(2, 2),
    )
    return replace(recipe, **changes)


@pytest.fixture
def make(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., ProxyObjective]:
    def objective(
        proxy: ProxyRecipe = SMALL, stop: Callable[[], bool] = lambda: False, **changes: Any
    ) -> ProxyObjective:
        recipe = recipe_of(tiny_corpus, proxy, **changes)
        return ProxyObjective(tiny_corpus, recipe, directory=tmp_path, stop=stop)

    return objective


def ask(study: optuna.Study, space: MixtureSpace, mixture: dict[str, float], **attrs: Any) -> Any:
    study.enqueue_trial(space.params(space.weights(mixture)), user_attrs=attrs)
    return study.ask()


def test_a_trial_is_trained_scored_and_explained(
    make: Callable[..., ProxyObjective], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    objective = make()
    study = optuna.create_study()
    set_aggregate(study, objective.coefficients)
    for name in ("web", "math"):
        trial = ask(study, objective.space, {name: 1.0})
        study.tell(trial, objective(trial))
    history = read_history(study, objective.space)
    assert len(history) == 2 and history.components is not None
    assert history.values[1] < history.values[0]  # the target is like "math"
    facts = study.trials[0].user_attrs[FACTS]
    assert facts["tokens"] == 16 * 512 and facts["corpus"] == tiny_corpus.digest
    assert facts["seconds"] >= facts["train_seconds"] + facts["evaluate_seconds"]
    assert set(facts) >= {"torch", "transformers", "version"}
    components = study.trials[0].user_attrs[COMPONENTS]
    assert components.keys() == {"sums/bpb", "sums/bpb_stderr"}
    assert study.trials[0].value == components["sums/bpb"]
    assert list(tmp_path.iterdir()) == []  # finished trials leave nothing behind


def test_the_score_weighs_the_components(make: Callable[..., ProxyObjective]) -> None:
    objective = make(
        evaluators=(Choice("heldout", {"domains": True, "max_tokens": 500}),),
        score={"sums/bpb": 2.0, "heldout/web/bpb": -0.5},
    )
    study = optuna.create_study()
    trial = ask(study, objective.space, MIXTURE)
    value = objective(trial)
    stored = trial.user_attrs[COMPONENTS]
    assert value == pytest.approx(2 * stored["sums/bpb"] - 0.5 * stored["heldout/web/bpb"])
    assert "heldout/code/bpb" in stored


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sums/bpb": None}, "score 'sums/bpb' is None, not a finite number"),
        ({"sums/bpb": "1.5"}, "score 'sums/bpb' is 1.5, not a finite number"),
        ({"sums/bpb": 10**400}, "score 'sums/bpb' is 1000"),
        ({"sums/bpb": math.inf}, "score 'sums/bpb' is inf, not a finite number"),
        ({"sums/bpb": True}, "score 'sums/bpb' is True, not a finite number"),
        ({"other": 1.0}, "nothing gave a score 'sums/bpb'; given: other"),
    ],
)
def test_what_an_evaluator_gives_that_is_no_score_fails_its_trial_by_name(
    make: Callable[..., ProxyObjective],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    said: str,
) -> None:
    objective = make()
    monkeypatch.setattr(objective, "_evaluate", lambda model: given)
    with pytest.raises(TrialFailed, match=said):
        objective(ask(optuna.create_study(), objective.space, MIXTURE))


class Deaf:
    """An evaluator that takes no corpus."""

    def __init__(self, every: int = 1) -> None:
        self.every = every


def test_an_evaluator_that_cannot_be_called_is_refused_in_a_line(
    make: Callable[..., ProxyObjective],
) -> None:
    with pytest.raises(UserError, match="'test_objective:Deaf' is called with the corpus, then"):
        make(evaluators=(Choice("test_objective:Deaf", {"every": 2}),))


class Own:
    """An evaluator of somebody's own that does what a test wants of it."""

    named: ClassVar[Any] = ["sums/bpb"]
    given: ClassVar[Any] = {"sums/bpb": 1.0}

    def __init__(self, corpus: Corpus, error: str = "") -> None:
        if error:
            raise {"exit": SystemExit, "boom": RuntimeError}[error]("no GPU")

    def components(self) -> Any:
        return self.named

    def evaluate(self, model: Any, accelerator: Any) -> Any:
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given


class OnTest(Own):
    """An evaluator of a test set that states no facts."""

    def reported(self) -> list[str]:
        return ["sums/bpb"]


class Told(Own):
    """An evaluator that states a fact, and has no test set."""

    def facts(self) -> dict[str, Any]:
        return {"questions": 12}


class Silent:
    """An evaluator that names no components."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus


FIVE = 5


@pytest.mark.parametrize(
    ("choice", "named", "said"),
    [
        (
            Choice("Own"),
            None,
            r"'test_objective:Own': components\(\) must .* returned None\.",
        ),
        (Choice("Own"), "a/bpb", r"must return a list of names, .* returned 'a/bpb'\."),
        (Choice("Own"), ["a", 3], r"must return a list of names, .* returned \['a', 3\]\."),
        (Choice("Own"), ["a", "a"], r"'test_objective:Own': components\(\) names 'a' twice\."),
        (Choice("Own", {"error": "boom"}), [], r"objective:Own' raised RuntimeError\('no GPU'\)"),
        (Choice("Own", {"error": "exit"}), [], r"objective:Own' raised SystemExit\('no GPU'\)"),
        (Choice("Silent"), [], r"'test_objective:Silent' must have .* has no components\."),
        (Choice("FIVE"), [], r"'test_objective:FIVE' must be a class or a function, but is 5\."),
    ],
)
def test_an_own_evaluator_that_is_none_is_refused_by_its_name(
    make: Callable[..., ProxyObjective],
    monkeypatch: pytest.MonkeyPatch,
    choice: Choice,
    named: Any,
    said: str,
) -> None:
    monkeypatch.setattr(Own, "named", named)
    with pytest.raises(UserError, match=said):
        make(evaluators=(replace(choice, name=f"test_objective:{choice.name}"),))


@pytest.mark.parametrize(
    ("given", "raised", "said"),
    [
        (None, TypeError, "'test_objective:Own' must return a mapping .* but returned None"),
        ([1.0], TypeError, r"'test_objective:Own' must return a mapping .* returned \[1\.0\]"),
        (SystemExit(3), RuntimeError, r"'test_objective:Own' called sys\.exit\(3\)"),
        (KeyError("q"), RuntimeError, r"evaluator 'test_objective:Own' raised KeyError\('q'\)"),
        (TrialFailed("no text"), TrialFailed, "^no text$"),
        (Interrupted("stopped"), Interrupted, "^stopped$"),
        (KeyboardInterrupt("Ctrl-C"), KeyboardInterrupt, "Ctrl-C"),
    ],
)
def test_what_an_own_evaluator_does_instead_of_scoring_fails_its_trial_by_name(
    make: Callable[..., ProxyObjective],
    monkeypatch: pytest.MonkeyPatch,
    given: Any,
    raised: type[BaseException],
    said: str,
) -> None:
    monkeypatch.setattr(Own, "given", given)
    objective = make(evaluators=(Choice("test_objective:Own"),))
    with pytest.raises(raised, match=said):
        objective(ask(optuna.create_study(), objective.space, MIXTURE))


def test_an_own_evaluator_may_say_what_is_a_test_sets_or_state_facts(
    make: Callable[..., ProxyObjective],
) -> None:
    with pytest.raises(UserError, match="'sums/bpb' is measured on a test set"):
        make(evaluators=(Choice("test_objective:OnTest"),))
    objective, study = make(evaluators=(Choice("test_objective:Told"),)), optuna.create_study()
    study.tell(trial := ask(study, objective.space, MIXTURE), objective(trial))
    assert study.trials[0].user_attrs[FACTS]["questions"] == 12


def test_trials_share_the_seed_unless_they_bring_their_own(
    make: Callable[..., ProxyObjective],
) -> None:
    objective = make()
    study = optuna.create_study()
    values = [
        objective(ask(study, objective.space, MIXTURE, **attrs))
        for attrs in ({}, {SLOT: 3}, {SEED: 0}, {SEED: 7})
    ]
    assert values[0] == values[1] == values[2] != values[3]


def test_a_stopped_trial_resumes_when_its_slot_is_retried(
    make: Callable[..., ProxyObjective], tmp_path: Path
) -> None:
    study = optuna.create_study()
    whole = make()
    expected = whole(ask(study, whole.space, MIXTURE))
    looks = iter(range(100))
    stopping = make(stop=lambda: next(looks) >= 6)
    with pytest.raises(Interrupted, match="stopped at step 6 of 16"):
        stopping(ask(study, stopping.space, MIXTURE, **{SLOT: 1}))
    assert (tmp_path / "slot-1" / "checkpoint.pt").is_file()
    retry = ask(study, whole.space, MIXTURE, **{SLOT: 1})
    assert make()(retry) == expected
    assert retry.user_attrs[FACTS]["resumed_at"] == 6
    assert not (tmp_path / "slot-1").exists()


def test_a_lost_trial_leaves_no_checkpoint_and_the_search_goes_on(
    make: Callable[..., ProxyObjective], tmp_path: Path
) -> None:
    objective = make(replace(SMALL, lr=1e30, warmup=0.0, checkpoint_every=1))
    study = optuna.create_study()
    with pytest.raises(TrialFailed, match="not finite"):
        objective(ask(study, objective.space, MIXTURE, **{SLOT: 0}))
    assert list(tmp_path.iterdir()) == []


def test_hopeless_trials_are_pruned_but_never_in_round_one(
    make: Callable[..., ProxyObjective],
) -> None:
    proxy = replace(SMALL, report_every=4)
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=0.01))
    pruner = Choice("threshold", {"upper": 0.01})
    objective = make(proxy, pruner=pruner)
    first = ask(study, objective.space, MIXTURE, **{SLOT: 1})
    study.tell(first, objective(first))
    assert set(study.trials[0].intermediate_values) == {4, 8, 12}
    for attrs in ({SLOT: "baseline/uniform"}, {}):
        trial = ask(study, objective.space, MIXTURE, **attrs)
        assert math.isfinite(objective(trial))
    second = ask(study, objective.space, MIXTURE, **{SLOT: 2})
    with pytest.raises(optuna.TrialPruned):
        objective(second)
    assert COMPONENTS not in second.user_attrs and second.user_attrs[FACTS]["steps"] == 4
    study.tell(second, state=optuna.trial.TrialState.PRUNED)
    assert len(read_history(study, objective.space)) == 1  # only the first was told complete
    early = make(proxy, pruner=pruner, prune_first_round=True)
    with pytest.raises(optuna.TrialPruned):
        early(ask(study, early.space, MIXTURE, **{SLOT: 0}))


def test_the_models_of_the_best_trials_are_kept_and_open(
    make: Callable[..., ProxyObjective], tmp_path: Path
) -> None:
    objective = make(replace(SMALL, keep=1))
    study = optuna.create_study()
    values = {}
    for slot, name in enumerate(["web", "math", "code"]):
        trial = ask(study, objective.space, {name: 1.0}, **{SLOT: slot})
        values[slot] = objective(trial)
        study.tell(trial, values[slot])
    best = min(values, key=lambda slot: values[slot])
    assert best == 1
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["slot-1"]
    path = study.trials[best].user_attrs[FACTS]["model"]
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    again = objective._evaluate(model)
    assert again["sums/bpb"] == pytest.approx(values[best], rel=1e-6)


def test_guard_rails_become_constraints(make: Callable[..., ProxyObjective]) -> None:
    objective = make(constraints={"sums/bpb": 1.0})
    study = optuna.create_study()
    trial = ask(study, objective.space, MIXTURE)
    study.tell(trial, value := objective(trial))
    assert study.trials[0].constraints == {"sums/bpb": pytest.approx(value - 1.0)}
    assert higher_is_better("piqa/acc_norm", default=False)
    assert not higher_is_better("piqa/bpb", default=True)


def test_the_space_follows_the_corpus_and_the_recipe(
    make: Callable[..., ProxyObjective], tiny_corpus: Corpus
) -> None:
    objective = make(space=SpaceRecipe(max_epochs=2.0, lower={"web": 0.1}))
    assert set(objective.space.domains) == set(tiny_corpus.tokens())
    limit = 2.0 * tiny_corpus.tokens()["math"] / (16 * 512)
    assert objective.space.upper[objective.space.domains.index("math")] == pytest.approx(limit)
    draws = objective.space.sample(np.random.default_rng(0), 20)
    for draw in draws:  # what the space allows, the trainer accepts
        index = objective.trainer.sequences  # type: ignore[attr-defined]
        assert index.sizes.sum() > 0 and objective.space.contains(draw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"score": ["sum/bpb"]},
            r"no evaluator gives 'sum/bpb'\. Did you mean 'sums/bpb'\? Known components: sums/bpb",
        ),
        ({"constraints": {"piqa/acc": 0.5}}, r"study.constraints: no evaluator gives 'piqa/acc'"),
        ({"evaluators": (Choice("held-out"),)}, "Unknown evaluator 'held-out'.*Did you mean"),
        ({"evaluators": (Choice("heldout", {"targets": 1}),)}, "unknown key 'targets'.*'target'"),
        ({"evaluators": (Choice("heldout"), Choice("heldout"))}, "two evaluators give 'sums/bpb'"),
        ({"pruner": Choice("median")}, "study.pruner needs intermediate scores"),
        ({"space": SpaceRecipe(upper=0.1)}, "No mixture meets the bounds"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_training(
    make: Callable[..., ProxyObjective], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_a_sampler_that_does_not_know_the_simplex_is_told_so(
    make: Callable[..., ProxyObjective],
) -> None:
    objective = make()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with pytest.raises(UserError, match="Use a sampler that knows the simplex"):
        objective(study.ask())


def test_a_corpus_built_anew_ends_the_worker_at_its_next_trial(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    corpus = Corpus.load(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))
    objective = ProxyObjective(corpus, recipe_of(corpus, SMALL), directory=tmp_path / "runs")
    manifest = json.loads((corpus.path / "manifest.json").read_text())
    manifest["vocab_size"] += 1
    (corpus.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="This search was made with corpus"):
        objective(
            ask(
                optuna.create_study(),
                objective.space,
                objective.space.mixture(objective.space.prior),
            )
        )
