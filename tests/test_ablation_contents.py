"""A result is of the tables, searches and code that were read, not of their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from climb_opt.ablation.recipe.reading import ablation_from
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import runs
from climb_opt.ablation.run import contents, surfaces
from climb_opt.ablation.run.benched import problem_of
from climb_opt.ablation.run.results import Archive, run_digest
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.ablation.run.surfaces import surface
from climb_opt.errors import UserError
from climb_opt.recipes import Choice
from climb_opt.simplex import MixtureSpace
from climb_opt.view import store_space

TABLE = {"mixtures": "w.csv", "results": "y.csv", "key": "run", "score": ["loss"]}
BENCH = {"name": "mixbench", "problem": "ours", "tables": {"ours": TABLE}}


def write(folder: Path, best: int, n: int = 40) -> Path:
    """A table of n runs over three domains, of which domain `best` is the good one."""
    folder.mkdir(exist_ok=True)
    w = np.random.default_rng(0).dirichlet(np.ones(3), n)
    y = 3.0 - w[:, best] + 0.2 * w[:, (best + 1) % 3] ** 2
    for name, head, rows in (("w", "run,web,code,math", w), ("y", "run,loss", y[:, None])):
        lines = [",".join(map(str, [i, *row])) for i, row in enumerate(rows.tolist())]
        (folder / f"{name}.csv").write_text("\n".join([head, *lines]), encoding="utf-8")
    whole = [",".join(map(str, [*row, 1e6, 1e9, v])) for row, v in zip(w, y, strict=True)]
    head = "weight_web,weight_code,weight_math,model_size,n_tokens,loss"
    (folder / "runs.csv").write_text("\n".join([head, *whole]), encoding="utf-8")
    return folder


def asked(folder: Path, **more: Any) -> AblationRecipe:
    data = {
        "objective": {**BENCH, "folder": str(folder)},
        "budget": {"trials": 6},
        "arms": {"proportional": None, "random": None},
        "reference": "random",
        "seeds": 2,
    }
    return ablation_from({**data, **more})


def best_of(objective: dict[str, Any]) -> str:
    """The domain that the table which an objective read calls best."""
    if objective["name"] == "mixbench":
        found = problem_of({k: v for k, v in objective.items() if k != "name"}, 0)
        weights, space = found.source.optimum()[0], found.space
    elif objective["name"] == "rows":
        source = surface(Choice("rows", {k: v for k, v in objective.items() if k != "name"})).source
        weights, space = source.optimum()[0], source.space  # type: ignore[attr-defined]
    else:
        table = surfaces.fitted(TABLE, objective["folder"], components=False)
        scores = table.results[:, 0] - table.results[:, 0].mean()  # type: ignore[attr-defined]
        return table.domains[int(np.argmin(table.weights.T @ scores))]  # type: ignore[attr-defined]
    return max(space.mixture(weights).items(), key=lambda item: item[1])[0]


@pytest.mark.parametrize(
    "objective",
    [
        BENCH,
        {"name": "rows", "file": {"path": "runs.csv"}, "rungs": [[1e6, 1e9]], "score": ["loss"]},
        {"name": "table"},
    ],
    ids=lambda objective: str(objective["name"]),
)
def test_a_table_that_changes_on_disk_is_read_again(
    tmp_path: Path, objective: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surfaces.Emulator, "fit", lambda table, score, **options: table)
    for best, domain in ((0, "web"), (1, "code"), (0, "web")):
        here = write(tmp_path / "here", best)
        assert best_of({**objective, "folder": str(here)}) == domain
    there = write(tmp_path / "there", 2)
    assert best_of({**objective, "folder": str(there)}) == "math"


def test_results_of_another_table_of_the_same_name_are_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive, done = Archive(tmp_path / "out"), []

    def again(folder: Path) -> tuple[list[float], int, str]:
        done.clear()
        caplog.clear()
        found = run_ablation(asked(folder), archive, on_run=lambda run, r: done.append(run.key))
        return [float(r.final or 0.0) for r in found], len(done), caplog.text

    here, there = write(tmp_path / "here", 0), write(tmp_path / "there", 0)
    first, count, _ = again(here)
    assert count == 4 and again(here) == again(there) == (first, 0, "")  # moved: nothing repeated
    write(here, 1)
    second, count, said = again(here)
    assert count == 4 and second != first
    assert said.count("y.csv has changed since runs with it were done") == 1
    assert again(there)[:2] == (first, 4)  # another folder's, of the same name
    for name in ("w.csv", "y.csv"):  # what is not there is not compared: results can be shown
        (there / name).unlink()
    assert [archive.get(run) is not None for run in runs(asked(there))] == [True] * 4


def test_workers_that_share_a_storage_need_the_same_table(tmp_path: Path) -> None:
    journal = str(tmp_path / "all.journal")
    here, there = write(tmp_path / "here", 0), write(tmp_path / "there", 1)
    run_ablation(asked(here), Archive(tmp_path / "a"), storage=journal)
    with pytest.raises(UserError, match=r"holds run random/seed0 of another y\.csv than the one"):
        run_ablation(asked(there), Archive(tmp_path / "b"), storage=journal)
    found = run_ablation(asked(there), Archive(tmp_path / "b"), storage=journal, prefix="NEW")
    assert len(found) == 4


def test_a_method_of_ones_own_that_changed_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import numpy as np\ndef mine(p, d, s):\n    return d.weights[np.arg{}(d.scores)]\n"
    Path(tmp_path, "own_code.py").write_text(code.format("min"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "tables", 0)
    arms = {"mine": {"method": "own_code:mine", "rounds": [1]}, "random": None}
    recipe = asked(tmp_path / "tables", arms=arms, seeds=1)
    archive = Archive(tmp_path / "out")
    run_ablation(recipe, archive)
    Path(tmp_path, "own_code.py").write_text(code.format("max"), encoding="utf-8")
    assert all(archive.get(run) for run in runs(recipe)), "this process imported it before"
    contents._of_code.cache_clear()  # as another process finds it
    assert [archive.get(run) is not None for run in runs(recipe)] == [False, True]


def test_ones_own_searches_that_went_on_are_another_table(tmp_path: Path) -> None:
    space = MixtureSpace({"web": 3, "code": 2, "math": 1})
    journal = str(tmp_path / "own.journal")
    study = optuna.create_study(
        study_name="first", storage=contents.open_storage(journal), direction="minimize"
    )

    def more(n: int) -> None:
        for weights in np.random.default_rng(n).dirichlet(np.ones(3), n):
            params = space.params(space.project(weights))
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=space.distributions(), value=float(weights[0])
                )
            )

    more(10)
    ours = {"studies": ["first"], "storage": journal}
    recipe = asked(tmp_path, objective={**BENCH, "tables": {"ours": ours}}, seeds=1)
    archive = Archive(tmp_path / "out")
    run_ablation(recipe, archive)
    contents.studies_of.cache_clear()  # another process
    assert all(archive.get(run) for run in runs(recipe))
    more(4)
    assert all(archive.get(run) for run in runs(recipe)), "read once a process"
    contents.studies_of.cache_clear()
    assert not any(archive.get(run) for run in runs(recipe))
    found = problem_of({"problem": "ours", "tables": {"ours": ours}}, 0)
    assert "of 14 real runs" in found.about()
    run_ablation(recipe, archive)
    store_space(study, space)
    contents.studies_of.cache_clear()
    assert not any(archive.get(run) for run in runs(recipe)), "their prior is read, too"


@pytest.mark.parametrize(("objective", "same"), [("mixing-law", True), ("live", False)])
def test_a_run_that_trains_nothing_is_the_same_whatever_seeds_say(
    objective: str, same: bool
) -> None:
    recipe = asked(Path("anywhere"), objective={"name": "mixing-law"})
    run = runs(recipe)[0]
    study = replace(run.arm.study, seeds="common")
    other = replace(run, arm=replace(run.arm, study=study), objective=Choice(objective))
    now = replace(run, objective=Choice(objective))
    assert (run_digest(now) == run_digest(other)) == same
