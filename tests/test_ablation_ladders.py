"""Emulated ablations with rungs: simulated, of several tables, and the rows of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from climb_opt.ablation.recipe.plan import plan_text
from climb_opt.ablation.recipe.reading import ablation_from
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import runs
from climb_opt.ablation.run.emulate import emulate
from climb_opt.ablation.run.surfaces import surface
from climb_opt.ablation.table.comparison import comparisons
from climb_opt.ablation.table.render import as_csv, markdown
from climb_opt.errors import UserError
from climb_opt.recipes import Choice
from climb_opt.view import StudyView

SIMULATED: dict[str, Any] = {"name": "ladder", "law": {"domains": 4}, "noise": 0.1}
ARMS: dict[str, Any] = {
    "climb": {"sampler": {"name": "climb", "predictor": "linear"}, "rounds": [2, 1]},
    "climb-ladder": {
        "sampler": {"name": "climb", "predictor": "linear"},
        "ladder": True,
        "rounds": [{"trials": 8, "rung": 0}, {"trials": 4, "rung": 1}, {"trials": 3, "rung": 2}],
    },
}


def small(**changes: Any) -> AblationRecipe:
    given = {"objective": SIMULATED, "arms": ARMS, "reference": "climb", "seeds": 1}
    return ablation_from({**given, "budget": {"trials": 6}, **changes})


def test_an_arm_with_a_ladder_runs_its_rounds_on_the_rungs_and_counts_flops() -> None:
    recipe, storage = small(), optuna.storages.InMemoryStorage()
    results = [emulate(run, storage=storage) for run in runs(recipe)]
    plain, laddered = results
    assert "| 8/4/3 |" in plan_text("ladder", recipe)
    assert (plain.flops, plain.trials) == (6 * 16, 6)
    assert (laddered.flops, laddered.trials) == (8 + 4 * 4 + 3 * 16, 15)
    assert laddered.final is not None and laddered.final >= 0
    study = optuna.load_study(study_name="ablation/climb-ladder/seed0", storage=storage)
    view = StudyView(study)
    assert view.ladder is not None
    assert [view.ladder.rung_of(t) for t in view.trials()] == [0] * 8 + [1] * 4 + [2] * 3
    assert study.best_trial.number >= 12
    text = markdown("ladder", recipe, comparisons(recipe, results))
    assert "| FLOPs |" in text and "| 72 |" in text and ",72.0," in as_csv(results)
    large = [replace(r, flops=r.flops * 1e10) for r in results]
    assert "| 7.2e11 |" in markdown("ladder", recipe, comparisons(recipe, large))
    again = emulate(runs(recipe)[1])
    assert again.mixtures == laddered.mixtures and again.final == laddered.final


def test_a_sampler_that_chooses_rungs_gets_the_flops_of_the_budget() -> None:
    recipe = small(arms={"gp": {"sampler": "simplex-gp", "ladder": True}}, reference=None)
    run = runs(recipe)[0]
    assert run.arm.study.budget is not None and run.arm.study.budget.flops == 6
    assert "| FLOPs of 6 target trials | - |" in plan_text("ladder", recipe)
    result = emulate(run)
    assert 0 < result.flops <= 6 * 16 and result.final is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"name": "mixing-law", "domains": 4}}, "ladder: true lets it use the rungs"),
        ({"arms": {"a": {**ARMS["climb-ladder"], "ladder": ["demo"]}}}, "ladder: true lets it"),
        ({"arms": {"a": {**ARMS["climb-ladder"], "parallel": 2}}}, "one trial at a time"),
        ({"arms": {"a": {"sampler": "climb", "ladder": True}}}, "'climb' does not choose rungs"),
        (
            {"arms": {"a": {**ARMS["climb-ladder"], "rounds": [{"trials": 4, "rung": 3}]}}},
            "3 is no rung of the ladder",
        ),
    ],
)
def test_an_arm_whose_ladder_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(reference=None, **changes)


# --- tables --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs of two sizes in one file, and as two pairs of files."""
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.ones(3), 20)
    lines = ["weight_a,weight_b,weight_c,model_size,n_tokens,loss"]
    for size in (10, 100):
        weights, losses = ["run,a,b,c"], ["run,loss"]
        for i, w in enumerate(mixtures):
            loss = 2 + 1 / size + (w[0] - 0.6) ** 2 + (w[1] - 0.1) ** 2
            cells = ",".join(f"{x:.9f}" for x in w)
            lines.append(f"{cells},{size},1000,{loss}")
            weights.append(f"r{i},{cells}")
            losses.append(f"r{i},{loss}")
        (tmp_path / f"w{size}.csv").write_text("\n".join(weights) + "\n")
        (tmp_path / f"y{size}.csv").write_text("\n".join(losses) + "\n")
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_rows_of_a_table_are_searched_by_either_arm(folder: Path) -> None:
    rows = {"file": "runs.csv", "rungs": [[10, 1000], [100, 1000]], "folder": str(folder)}
    rounds = [{"trials": 6, "rung": 0}, {"trials": 2, "rung": 1}]
    arms = {"climb": ARMS["climb"], "climb-ladder": {**ARMS["climb-ladder"], "rounds": rounds}}
    recipe = small(objective={"name": "rows", **rows}, arms=arms)
    plain, laddered = (emulate(run) for run in runs(recipe))
    assert plain.flops == 6 * 6 * 100 * 1000
    assert laddered.flops == pytest.approx(6 * (6 * 10 + 2 * 100) * 1000)
    table = np.loadtxt(folder / "runs.csv", delimiter=",", skiprows=1)[:, :3]
    for result in (plain, laddered):
        assert result.mixture is not None
        kept = np.array([result.mixture[d] for d in "abc"])
        assert np.abs(table - kept).sum(axis=1).min() < 1e-6
    named = {"path": "runs.csv", "size": "model_size"}
    again = surface(Choice("rows", {**rows, "file": named}))
    assert again.ladder is not None and again.best == pytest.approx(surface(recipe.objective).best)


def test_each_size_is_emulated_by_its_own_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setenv("CLIMB_OPT_CACHE", str(folder / "cache"))
    for name, value in (("POPULATION", 20), ("GENERATIONS", 10)):
        monkeypatch.setattr(f"climb_opt.emulator.lowest.{name}", value)
    monkeypatch.setattr("climb_opt.emulator.models.NETWORKS", 1)
    rungs = [
        {"mixtures": f"w{size}.csv", "results": f"y{size}.csv", "key": "run"}
        | {"parameters": size, "tokens": 1000}
        for size in (10, 100)
    ]
    ground = surface(Choice("ladder-tables", {"rungs": rungs, "folder": str(folder)}))
    assert ground.ladder is not None
    assert ground.ladder.costs.tolist() == [6 * 10 * 1000, 6 * 100 * 1000]
    assert "4-fold rho" in ground.quality and "rank correlation" in ground.quality
    with pytest.raises(UserError, match="parameters must be a number above 0"):
        wrong = [{**rungs[0], "parameters": 0}]
        surface(Choice("ladder-tables", {"rungs": wrong, "folder": str(folder)}))


def test_results_that_are_better_high_need_a_sign(folder: Path) -> None:
    for name in ("y10.csv", "runs.csv"):
        file = folder / name
        file.write_text(file.read_text().replace("loss", "mmlu_acc", 1))
    files = {"mixtures": "w10.csv", "results": "y10.csv", "key": "run"}
    for score in ({}, {"score": ["mmlu_acc"]}):
        for options in (
            {"name": "table", "tables": {"ours": {**files, **score}}},
            {"name": "rows", "file": "runs.csv", "rungs": [[10, 1000]], **score},
        ):
            name = str(options.pop("name"))
            with pytest.raises(UserError, match=r"'mmlu_acc' is better high\. .* {mmlu_acc: -1}"):
                surface(Choice(name, {**options, "folder": str(folder)}))
    rows = {"file": "runs.csv", "rungs": [[10, 1000]], "score": {"mmlu_acc": -1.0}}
    assert surface(Choice("rows", {**rows, "folder": str(folder)})).best < 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": {"size": "n"}, "rungs": []}, "a path, or {path"),
        ({"file": {"path": "x.csv", "colour": 1}, "rungs": []}, "a path, or {path"),
        ({"file": "runs.csv", "rungs": [10, 20]}, "a pair"),
        ({"file": "none.csv", "rungs": [[10, 1000]]}, "cannot be read"),
    ],
)
def test_rows_that_cannot_be_read_say_why(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        surface(Choice("rows", {**options, "folder": str(folder)}))
