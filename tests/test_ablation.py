"""The runs of an ablation: they resume, repeat and are shared."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from climb_opt import recipes
from climb_opt.ablation.recipe.arms import STANDARD
from climb_opt.ablation.recipe.reading import ablation_from
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import runs
from climb_opt.ablation.run.emulate import emulate
from climb_opt.ablation.run.results import Archive, RunResult
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.ablation.run.surfaces import surface
from climb_opt.errors import Interrupted, UserError
from climb_opt.view import StudyView

LAW = {"name": "mixing-law", "domains": 4, "tasks": 2}
SMALL: dict[str, Any] = {
    "objective": LAW,
    "arms": {"uniform": None, "random": None, "tpe": None},
    "reference": "random",
    "budget": {"trials": 14},
    "seeds": 2,
}


def small(**changes: Any) -> AblationRecipe:
    return ablation_from({**SMALL, **changes})


def test_a_rerun_of_any_arm_gives_the_same_mixtures() -> None:
    # All that search laws for themselves, but for two that take a second a trial.
    other = {"random", "regmix-argmin", "climb-mean-top", "climb-best-at-n", "gp-optuna", "botorch"}
    every = {
        k: None
        for k, v in STANDARD.items()
        if "sampler" in v and not {"proxy", "branches"} & set(v) and k not in other
    }
    asked = small(arms=every, reference=None, seeds=1, objective={**LAW, "noise": 0.3})
    for run in runs(asked):
        first, again = emulate(run), emulate(run)
        assert first.mixtures == again.mixtures and first.final == again.final, run.key
        assert first.curve == again.curve


def test_arms_of_a_seed_share_the_noise() -> None:
    recipe = small(objective={**LAW, "noise": 1.0}, arms={"random": None, "tpe": None}, seeds=1)
    storage = optuna.storages.InMemoryStorage()
    noise = []
    for run in runs(recipe):
        emulate(run, storage=storage)
        study = optuna.load_study(study_name=f"ablation/{run.key}", storage=storage)
        ground = surface(run.objective)
        weights = np.array([ground.space.weights_of(t) for t in study.trials])
        values = np.array([t.value for t in study.trials])
        noise.append(values - ground.source.score(weights))
    assert np.allclose(*noise)
    assert np.std(noise[0]) > 0


def test_a_run_is_an_ordinary_study_with_its_recipe(tmp_path: Path) -> None:
    journal = str(tmp_path / "all.journal")
    recipe = small(seeds=1)
    results = run_ablation(recipe, Archive(tmp_path), storage=journal, prefix="mine")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    study = optuna.load_study(study_name="mine/tpe/seed0", storage=storage)
    assert len(study.trials) == 14
    stored = recipes.study_from(json.loads(study.user_attrs["climb/recipe"]))
    assert stored.sampler.name == "tpe" and stored.evaluators[0].name == "mixing-law"
    # From the stored recipe alone: the same mixtures again.
    run = next(r for r in runs(recipe) if r.arm.name == "tpe")
    assert run.arm.study == stored
    assert {r.arm: r.mixtures for r in results}["tpe"] == emulate(run).mixtures
    # Reports and the dashboard find the mixtures it searched, though there is no corpus.
    space = surface(run.objective).space
    assert StudyView(study).space.mixture(space.prior) == pytest.approx(space.mixture(space.prior))
    assert study.metric_names == ["score"]
    assert [t.user_attrs["climb/slot"] for t in study.trials] == list(range(14))


def test_a_foreign_study_is_not_touched(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="ablation/tpe/seed0", storage=storage)
    run = next(r for r in runs(small()) if r.arm.name == "tpe")
    with pytest.raises(UserError, match="is no run of an ablation"):
        emulate(run, storage=storage)


def test_finished_runs_are_not_repeated(tmp_path: Path) -> None:
    done: list[str] = []
    archive = Archive(tmp_path)
    recipe = small()

    def stop() -> bool:
        return len(done) >= 3

    with pytest.raises(Interrupted):
        run_ablation(recipe, archive, stop=stop, on_run=lambda run, _: done.append(run.key))
    assert len(done) == 3
    results = run_ablation(recipe, archive, on_run=lambda run, _: done.append(run.key))
    assert len(done) == len(set(done)) == len(results) == 6


@pytest.mark.parametrize("stored", [False, True], ids=["folder", "storage"])
def test_runs_of_another_recipe_in_the_same_folder_are_kept(tmp_path: Path, stored: bool) -> None:
    storage = optuna.storages.InMemoryStorage() if stored else None
    counts = []

    def again(trials: int) -> list[RunResult]:
        done: list[str] = []
        recipe = small(budget={"trials": trials}, arms=["tpe", "uniform"], reference=None, seeds=1)
        # With a storage, from a machine that has no folder in common with the last.
        archive = Archive(tmp_path / (f"out{len(counts)}" if stored else "out"))
        found = run_ablation(
            recipe, archive, storage=storage, on_run=lambda run, _: done.append(run.arm.name)
        )
        counts.append(done.count("tpe"))
        return found

    first, other = again(14), again(9)
    assert [len(found[0].curve) for found in (first, other)] == [14, 9]
    for trials, found in ((14, first), (9, other)):
        assert [r.mixtures for r in again(trials)] == [r.mixtures for r in found]
    assert counts == [1, 1, 0, 0], "nothing is done twice"
    if storage is not None:
        studies = [
            optuna.load_study(study_name=name, storage=storage)
            for name in optuna.get_all_study_names(storage)
        ]
        assert sorted(len(study.trials) for study in studies) == [9, 14]


def test_a_result_that_the_last_release_wrote_is_found_and_kept(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    run, other = runs(small(seeds=1))[0], runs(small(seeds=1, objective={**LAW, "noise": 0.1}))[0]
    archive.put(run, emulate(run))
    old = tmp_path / "runs" / "uniform_seed0-c55c2bd6.json"  # without the recipe in its name
    next((tmp_path / "runs").glob("*.json")).rename(old)
    before = old.read_bytes()
    assert archive.get(run) is not None and archive.get(other) is None
    archive.put(other, emulate(other))
    assert archive.get(run) is not None and archive.get(other) is not None
    assert old.read_bytes() == before


def test_a_torn_result_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = Archive(tmp_path)
    run = runs(small())[0]
    archive.put(run, emulate(run))
    assert archive.get(run) is not None
    path = next((tmp_path / "runs").glob("*.json"))
    path.write_text(path.read_text()[:50])
    assert archive.get(run) is None and archive.get(run) is None
    assert caplog.text.count(f"{path} holds no result") == 1, "said once"


def _share(folder: str, queue: Any) -> None:
    mine: list[str] = []
    results = run_ablation(
        small(seeds=4), Archive(Path(folder)), on_run=lambda run, _: mine.append(run.key)
    )
    queue.put((mine, len(results)))


def test_workers_share_the_runs_of_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_share, args=(str(tmp_path), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    everyone = [key for mine, _ in answers for key in mine]
    assert sorted(everyone) == sorted(run.key for run in runs(small(seeds=4)))
    assert {count for _, count in answers} == {12}


def test_parallel_trials_are_proposed_before_the_first_is_known() -> None:
    recipe = small(arms={"one": {"like": "tpe"}, "four": {"like": "tpe", "parallel": 4}},
                   reference=None, seeds=1, budget={"trials": 30})  # fmt: skip
    one, four = (emulate(run) for run in runs(recipe))
    assert one.trials == four.trials == 30
    assert one.mixtures != four.mixtures
