"""A trunk and its branches trained, merged and averaged; a search that reads mixtures off them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import torch

import studying
from branching import BRANCHES, branched, tree_of
from climb_opt.attributes import COMPONENTS, FACTS, SLOT
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.evaluators.heldout import HeldOutLoss
from climb_opt.objective import ProxyObjective
from climb_opt.proxy import model
from climb_opt.proxy.branches import trainers
from climb_opt.proxy.branches.ensemble import Ensemble, mixmin
from climb_opt.proxy.branches.merge import Reader, merge_into, shift
from climb_opt.proxy.branches.tree import TRUNK, Tree
from climb_opt.proxy.job import Job
from climb_opt.recipes import Choice
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.study import open_study, work
from climb_opt.study_recipe import BranchesRecipe
from climb_opt.view import StudyView, all_trials
from studying import PACE
from training import Watch

journal = studying.journal  # a fixture

MIXTURE = {"web": 0.2, "code": 0.5, "math": 0.3}


@pytest.fixture(scope="module")
def tree(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """All parts trained."""
    found = tree_of(tiny_corpus, tmp_path_factory.mktemp("tree"))
    for name in (TRUNK, *found.names):
        found.train(name, Watch())
    return found


# --- what a run reads that goes on from a trunk --------------------------------------------------


def test_nothing_is_read_twice_before_all_of_a_domain_was_read(tree: Tree) -> None:
    assert tree.trunk is not None
    before = tree.trunk.trainer.index(tree.trunk.job)
    index = tree.target.index(Job("slot-0", MIXTURE, seed=0))
    ids = index.ids(0, index.total)
    assert np.array_equal(ids[: before.total], before.ids(0, before.total))
    read = np.bincount(index.domain_of(ids), minlength=3)
    assert np.array_equal(read, index.counts)
    for domain, count in enumerate(read.tolist()):
        own = ids[index.domain_of(ids) == domain]
        assert len(np.unique(own)) == min(count, int(index.sequences.sizes[domain]))
    rest = np.bincount(index.domain_of(ids[before.total :]), minlength=3)
    weights = [MIXTURE[name] for name in index.sequences.domains]
    assert np.abs(rest - np.array(weights) * (index.total - before.total)).max() < 1


# --- training ------------------------------------------------------------------------------------


def test_a_trial_goes_on_from_the_trunk_and_pays_the_rest(tree: Tree) -> None:
    job = Job("slot-9", MIXTURE, seed=0)
    outcome = tree.target.train(job, Watch())
    assert outcome.facts["went_on_at"] == 8 and outcome.facts["steps"] == 16
    assert outcome.facts["flops"] == pytest.approx(tree.target.flops / 2)
    trunk = tree.facts(TRUNK)
    assert trunk["flops"] == pytest.approx(tree.target.flops / 2) and trunk["steps"] == 8
    assert tree.facts("code")["flops"] == pytest.approx(tree.target.flops / 4)
    assert 0 < tree.facts("code")["shift"] < 1


def test_a_stopped_trial_resumes_after_the_trunk(tree: Tree) -> None:
    whole = tree.target.train(Job("slot-a", MIXTURE, seed=0), Watch())
    with pytest.raises(Interrupted):
        tree.target.train(Job("slot-b", MIXTURE, seed=0), Watch(stop_after=3))
    resumed = tree.target.train(Job("slot-b", MIXTURE, seed=0), Watch())
    assert resumed.facts["resumed_at"] > 8
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.facts["flops"] == whole.facts["flops"]


def test_stopped_branches_resume_and_trained_ones_are_taken(
    tiny_corpus: Corpus, tree: Tree, tmp_path: Path
) -> None:
    other = tree_of(tiny_corpus, tmp_path)
    other.train(TRUNK, Watch())
    with pytest.raises(Interrupted):
        other.train("math", Watch(stop_after=2))
    other.train("math", Watch())
    assert other.facts("math")["digest"] == tree.facts("math")["digest"]
    again = tree_of(tiny_corpus, tmp_path)  # another search of the same trunk
    found = again.train("math", Watch(stop_after=0))
    assert found.facts["reused"] and found.facts["flops"] == 0


def test_what_this_disk_lacks_is_trained_here(
    tiny_corpus: Corpus, tree: Tree, tmp_path: Path
) -> None:
    other = tree_of(tiny_corpus, tmp_path)
    outcome = other.read("merge", MIXTURE, Watch())
    expected = tree.read("merge", MIXTURE, Watch())
    for a, b in zip(outcome.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_that_were_changed_are_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    tree = tree_of(tiny_corpus, tmp_path)
    tree.train(TRUNK, Watch())
    file = tree.folder(TRUNK, "s") / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(UserError, match="'trunk' are not those that were written"):
        tree_of(tiny_corpus, tmp_path)


def test_a_disk_too_small_is_refused_before_training(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
    with pytest.raises(UserError, match=r"take 0\.\d MB.*only 0\.0 MB are free") as error:
        tree_of(tiny_corpus, tmp_path)
    assert "4 x " in str(error.value) and "branches.most" in str(error.value)


def test_a_branch_that_diverges_fails(tiny_corpus: Corpus, tmp_path: Path) -> None:
    wild = branched(tiny_corpus, replace(BRANCHES, lr=1.0, tokens=8192))
    with pytest.raises(TrialFailed, match=r"branch 'code' has diverged.*lower branches.lr"):
        tree_of(tiny_corpus, tmp_path, wild).train("code", Watch())
    lost = branched(tiny_corpus, replace(BRANCHES, lr=1e9, tokens=8192))
    with pytest.raises(TrialFailed, match=r"not finite at step \d+; lower branches.lr"):
        tree_of(tiny_corpus, tmp_path, lost).train("code", Watch())


def test_a_branch_that_diverged_is_tried_again_with_another_seed(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tree_of(tiny_corpus, tmp_path)
    monkeypatch.setattr(trainers, "RISEN", 0.1)
    for _ in range(2):
        with pytest.raises(TrialFailed, match="branch 'code' has diverged"):
            tree.train("code", Watch())
    monkeypatch.undo()
    with pytest.raises(Interrupted):
        tree.train("code", Watch(stop_after=2))
    outcome = tree.train("code", Watch())  # goes on from its checkpoint, with the seed it had
    assert outcome.facts["seed"] == 2 and outcome.facts["steps"] == 12
    assert tree.train("web", Watch()).facts["seed"] == 0
    again = tree_of(tiny_corpus, tmp_path)  # another worker
    assert again.folder("code", "s") == tree.folder("code", "s")
    assert again.train("code", Watch()).facts["reused"]


def test_a_trunk_of_another_tokenizer_is_refused(tiny_corpus: Corpus, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    folder, other = tmp_path / "m", Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    recipe = branched(tiny_corpus)
    config = model.configure(recipe.proxy.model, tiny_corpus, 16)
    model.save(model.build(recipe.proxy.model, config, seed=0), tiny_corpus, folder)
    other.save(str(folder / "tokenizer.json"))
    data = json.loads(json.dumps({"branches": {"trunk": str(folder), "read": []}}))
    from climb_opt import recipes

    plain = json.loads(recipes.to_json(replace(recipe, branches=None, rungs=())))
    wanted = recipes.study_from({**plain, **data})
    with pytest.raises(UserError, match="another tokenizer than corpus"):
        ProxyObjective(tiny_corpus, wanted, directory=tmp_path / "runs" / "s")


def test_branches_of_a_checkpoint_start_there(tiny_corpus: Corpus, tmp_path: Path) -> None:
    recipe = branched(tiny_corpus)
    config = model.configure(recipe.proxy.model, tiny_corpus, 16)
    network = model.build(recipe.proxy.model, config, seed=5)
    model.save(network, tiny_corpus, tmp_path / "base")
    proxy = replace(
        recipe.proxy, model=replace(recipe.proxy.model, checkpoint=str(tmp_path / "base"))
    )
    given = branched(tiny_corpus, replace(BRANCHES, trunk=str(tmp_path / "base")), proxy=proxy)
    tree = tree_of(tiny_corpus, tmp_path, given)
    assert tree.train(TRUNK, Watch()).facts["flops"] == 0.0
    outcome = tree.train("web", Watch())
    assert (
        outcome.facts["steps"] == 4
        and tree.target.train(Job("slot-0", MIXTURE, seed=0), Watch()).facts["steps"] == 16
    )


# --- merging -------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(weights=st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: sum(w) > 0.1))
def test_merged_weights_are_the_average(tree: Tree, weights: list[float]) -> None:
    shares = np.array(weights) / sum(weights)
    folders = [tree.folder(name, "s") for name in tree.branches.names]
    merged = merge_into(model.load(folders[0]), folders, shares)
    parts = [model.load(folder).state_dict() for folder in folders]
    for name, value in merged.state_dict().items():
        wanted = sum(s * part[name].double() for s, part in zip(shares, parts, strict=True))
        assert torch.allclose(value.double(), wanted, atol=1e-6)


def test_merging_reads_a_tensor_at_a_time(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    get = Reader.__getitem__

    def watched(self: Reader, name: str) -> torch.Tensor:
        found = get(self, name)
        held.append(found.numel())
        return found

    monkeypatch.setattr(Reader, "__getitem__", watched)
    network = tree.merged(MIXTURE)
    sizes = [p.numel() for p in network.parameters()]
    assert max(held) == max(sizes) < sum(sizes) and sum(held) == 3 * sum(sizes)
    held.clear()
    tree.merged({"code": 1.0})  # what weighs nothing is not read
    assert sum(held) == sum(sizes)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="of Linux")
@pytest.mark.parametrize("count", [4, 64])
def test_merging_maps_one_branch_at_a_time(
    tree: Tree, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of files that stay mapped are memory of the process, as many as there are branches."""
    folders = [shutil.copytree(tree.folder("web", "s"), tmp_path / f"{n}") for n in range(count)]
    mapped: list[int] = []
    get = Reader.__getitem__

    def watched(self: Reader, name: str) -> torch.Tensor:
        found = get(self, name)
        maps = Path("/proc/self/maps").read_text().splitlines()
        mapped.append(sum(str(tmp_path) in line and ".safetensors" in line for line in maps))
        return found

    monkeypatch.setattr(Reader, "__getitem__", watched)
    merge_into(model.load(folders[0]), folders, np.full(count, 1 / count))
    assert mapped and max(mapped) <= 3  # what is read, the mean it is added to, and the one before


def test_a_model_has_not_moved_from_itself(tree: Tree) -> None:
    trunk = tree.folder(TRUNK, "s")
    assert shift(trunk, trunk) == 0.0
    assert 0 < shift(tree.folder("web", "s"), trunk) < 0.5


# --- ensembles -----------------------------------------------------------------------------------


def test_a_corner_of_the_ensemble_scores_as_its_branch(tiny_corpus: Corpus, tree: Tree) -> None:
    heldout = HeldOutLoss(tiny_corpus, target="sums", domains=True)
    tree.score_by({"heldout": heldout}, MixtureSpace(tiny_corpus.tokens()))
    for name in tree.branches.names:
        shares = tree.branches.shares({name: 1.0})
        alone = heldout.evaluate(tree.load(name), tree.group.accelerator)
        found = tree.ensemble.scores(shares)
        assert set(found) == set(heldout.components())
        assert found == pytest.approx({key: alone[key] for key in found}, rel=1e-5)


def test_an_ensemble_averages_probabilities(tiny_corpus: Corpus, tree: Tree) -> None:
    heldout = HeldOutLoss(tiny_corpus, target="sums")
    tree.score_by({"one": heldout}, MixtureSpace(tiny_corpus.tokens()))
    nats = [
        heldout.token_nats(tree.load(name), tree.group.accelerator) for name in tree.branches.names
    ]
    shares = tree.branches.shares(MIXTURE)
    mixed = -np.log(shares @ np.exp(-np.array(nats)))
    wanted = float(heldout.token_shares()["sums/bpb"] @ mixed)
    assert tree.ensemble.scores(shares)["sums/bpb"] == pytest.approx(wanted, rel=1e-5)
    assert tree.read("ensemble", MIXTURE, Watch()).scores["sums/bpb"] == pytest.approx(
        wanted, rel=1e-5
    )


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), upper=st.sampled_from([None, 0.6]))
def test_mixmin_finds_what_no_other_mixture_beats(seed: int, upper: float | None) -> None:
    rng = np.random.default_rng(seed)
    ensemble = Ensemble(
        rng.dirichlet(np.ones(6), size=3)[:, rng.integers(0, 6, 40)].astype(np.float32),
        ("t/bpb", "u/bpb"),
        rng.random((2, 40)),
    )
    space = MixtureSpace({"a": 3, "b": 2, "c": 1}, upper=upper)
    score = {"t/bpb": 0.7, "u/bpb": 0.3}

    def loss(weights: np.ndarray) -> float:
        return sum(score[name] * value for name, value in ensemble.scores(weights).items())

    found = mixmin(ensemble, score, np.eye(3), space)
    assert bool(space.contains(found))
    others = space.sample(rng, 300, temperature=0, strength=3.0)
    assert loss(found) <= min(map(loss, others)) + 1e-3 * abs(loss(found))


def test_mixmin_refuses_a_score_that_falls_as_text_gets_less_likely() -> None:
    ensemble = Ensemble(np.full((2, 3), 0.5, np.float32), ("t/bpb",), np.ones((1, 3)))
    space = MixtureSpace({"a": 1, "b": 1})
    with pytest.raises(UserError, match="not convex"):
        mixmin(ensemble, {"t/bpb": -1.0}, np.eye(2), space)
    with pytest.raises(UserError, match="'x/acc' is no sum over tokens"):
        mixmin(ensemble, {"x/acc": 1.0}, np.eye(2), space)


class Parameters:
    """An evaluator whose score is no sum over tokens."""

    def __init__(self, corpus: Corpus) -> None:
        pass

    def components(self) -> list[str]:
        return ["size/millions"]

    def evaluate(self, network: Any, accelerator: Any) -> dict[str, float]:
        return {"size/millions": network.num_parameters() / 1e6}


def test_what_an_ensemble_cannot_score_is_refused_before_training(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    recipe = branched(
        tiny_corpus,
        evaluators=(Choice("heldout", {}), Choice(f"{__name__}:Parameters", {})),
        score=["size/millions"],
    )
    with pytest.raises(UserError, match=r"an ensemble cannot score 'size/millions'.*Read by merge"):
        ProxyObjective(tiny_corpus, recipe, directory=tmp_path / "runs" / "s")
    merge = replace(recipe, branches=replace(BRANCHES, read=("merge",)), rungs=(0, 1))
    ProxyObjective(tiny_corpus, merge, directory=tmp_path / "runs" / "s")


# --- a whole search ------------------------------------------------------------------------------


def test_a_search_reads_its_first_round_off_the_branches(
    tiny_corpus: Corpus, tmp_path: Path, journal: str
) -> None:
    study = open_study(branched(tiny_corpus), storage=journal, study_name="s")
    work(study, directory=tmp_path / "runs", pace=PACE)
    view = StudyView(study)
    slots = [t.user_attrs[SLOT] for t in view.trials()]
    assert slots[:4] == ["branch/trunk", "branch/web", "branch/code", "branch/math"]
    assert slots[-1] == max(s for s in slots if isinstance(s, int))
    by_slot: Mapping[Any, Any] = {t.user_attrs[SLOT]: t for t in view.trials()}
    # Branches score no mixture; their own scores are kept beside.
    assert by_slot["branch/web"].params == {} and by_slot["branch/web"].values is None
    assert "sums/bpb" in by_slot["branch/web"].user_attrs[COMPONENTS]
    assert by_slot["branch/web"].user_attrs[FACTS]["digest"]
    assert len(view.history()) == 6 + 2 * bool(4 in slots)
    below = view.history(rungs=True)
    assert below.rungs is not None and np.bincount(below.rungs)[0] == 6
    # The same mixture, read off and trained, is not the same score, but near.
    for slot, read in view.plan.before.read_too():
        assert by_slot[read].params == by_slot[slot].params
        assert by_slot[read].value == pytest.approx(by_slot[slot].value, rel=0.5)
    assert study.best_trial.user_attrs[SLOT] in (*view.plan.before.checks, 4, 5)
    assert view.ladder is not None
    spent = view.ladder.spent(t for t in all_trials(study) if "branch/" in str(t.user_attrs[SLOT]))
    whole = 2 * view.ladder.costs[-1]
    assert spent == pytest.approx(whole / 2 + 3 * whole / 4)


def test_workers_of_another_search_take_the_parts_that_are_there(
    tiny_corpus: Corpus, tmp_path: Path, journal: str
) -> None:
    trunk = branched(tiny_corpus, BranchesRecipe(read=()), rungs=(), rounds=(1,), baselines=())
    for name in ("one", "two"):
        study = open_study(trunk, storage=journal, study_name=name)
        work(study, directory=tmp_path / "runs", pace=PACE)
    facts = [
        all_trials(open_study(n, storage=journal))[0].user_attrs[FACTS] for n in ("one", "two")
    ]
    assert facts[0]["flops"] > 0 and facts[1]["flops"] == 0
    values = [all_trials(open_study(n, storage=journal))[1].value for n in ("one", "two")]
    assert values[0] == values[1]
