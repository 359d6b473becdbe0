"""The predictor study: figures that can be trusted, tables that cannot be read are named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.ablation import foresight
from climb_opt.ablation.run.surfaces import load_table
from climb_opt.cli import main
from climb_opt.emulator import MixingLaw
from climb_opt.errors import UserError

FILES = {"mixtures": "weights.csv", "results": "losses.csv", "key": "run"}


def write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty runs of a mixing law: three domains, two losses."""
    law = MixingLaw(3, 2)
    weights = law.space.sample(np.random.default_rng(0), 40, strength=3.0)
    losses = law.components(weights)
    write_weights(tmp_path, [[i, *w] for i, w in enumerate(weights)])
    write(tmp_path / "losses.csv", ["run", "a", "b"], [[i, *y] for i, y in enumerate(losses)])
    return tmp_path


def write_weights(folder: Path, rows: list[list[Any]]) -> None:
    write(folder / "weights.csv", ["run", "web", "code", "math"], rows)


def read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def study(at: Path, **changes: Any) -> foresight.PredictorRecipe:
    data = {"train": FILES, "folder": str(at), "n": [24], "seeds": 2, **changes}
    return foresight.predictors_from(data)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("lightgbm", {"num_leaves": -3}, r"predictor 'lightgbm': LightGBMError: .* num_leaves: -3"),
        ("epochs", {"epochs": "x"}, r"predictor 'epochs': ValueError: .* epochs: 'x'"),
    ],
)
def test_options_that_a_predictor_cannot_be_fitted_with_are_told(
    folder: Path, name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        foresight.study_predictors(study(folder, predictors={name: options}))


def test_predictors_rank_unseen_rows_of_a_law(folder: Path) -> None:
    cells = foresight.study_predictors(study(folder, predictors={"gp": {}, "linear": {}}))
    best = [c for c in cells if c.predictor == "gp" and c.score == "mean of all"]
    assert {c.n for c in cells} == {24} and {c.seed for c in cells} == {0, 1}
    assert {c.test for c in cells} == {foresight.HELD_OUT}
    assert min(c.rho for c in best) > 0.9
    assert max(c.error for c in best) < 0.4
    assert {c.per_component for c in cells} == {True, False}


def test_the_table_and_the_json_hold_the_same_fits(folder: Path) -> None:
    recipe = study(folder, predictors={"linear": {}}, n=[8, 24])
    cells = foresight.study_predictors(recipe)
    text = foresight.as_markdown(recipe, cells)
    assert "| linear, one per component |" in text and "n = 24" in text
    assert "each component of mean of all" in text
    assert len(json.loads(foresight.as_json(recipe, cells))["fits"]) == len(cells)


def test_a_small_table_is_studied_at_the_sizes_it_allows(folder: Path) -> None:
    cells = foresight.study_predictors(study(folder, n=[], predictors={"linear": {}}))
    assert {c.n for c in cells} == {16, 32}


def test_a_table_too_small_to_study_says_how_small(folder: Path) -> None:
    for name in ("weights.csv", "losses.csv"):
        rows = read_rows(folder / name)
        write(folder / name, rows[0], rows[1:9])
    with pytest.raises(UserError, match="a table of 8 rows is too small: 8 are held out"):
        foresight.study_predictors(study(folder, n=[]))


def test_a_single_result_is_not_split_into_components(folder: Path) -> None:
    rows = read_rows(folder / "losses.csv")
    write(folder / "losses.csv", rows[0][:2], [row[:2] for row in rows[1:]])
    cells = foresight.study_predictors(study(folder, predictors={"linear": {}}))
    assert {c.per_component for c in cells} == {False}


def test_other_scales_are_never_trained_on(folder: Path) -> None:
    names = ["run", "b", "a"]  # in another order, at another scale
    rows = [
        [r[0], 10 + float(r[2]), 10 + float(r[1])] for r in read_rows(folder / "losses.csv")[1:]
    ]
    write(folder / "large.csv", names, rows)
    tests = {"large": {"mixtures": "weights.csv", "results": "large.csv", "key": "run"}}
    cells = foresight.study_predictors(
        study(folder, tests=tests, n=[40], predictors={"loglinear": {}}, scores={"a": ["a"]})
    )
    assert len(cells) == 1, "all rows are one draw, whatever the number of seeds"
    assert cells[0].rho > 0.95
    assert cells[0].error > 5 > 0.3 > cells[0].residual


def test_a_constant_prediction_ranks_nothing(folder: Path) -> None:
    options = {"name": "lightgbm", "min_leaf": 1000, "stop_after": 0, "min_gain_to_split": 1e9}
    cells = foresight.study_predictors(
        study(folder, predictors={"dull": options}, scores={"a": ["a"]})
    )
    assert [c.rho for c in cells] == [0.0, 0.0]
    assert cells[0].residual == 1.0


def test_the_published_figures_of_regmix_come_back(tables: Path) -> None:
    # RegMix Table 2: linear 90.08 / 89.26 / 88.01 on Pile-CC.
    recipe = foresight.read_predictors(
        "regmix", [f"folder={tables}", "n=[512]", "predictors={linear: {}}"]
    )
    cells = foresight.study_predictors(recipe)
    pile = {c.test: 100 * c.rho for c in cells if c.score == "Pile-CC"}
    assert pile == pytest.approx({"1M": 90.08, "60M": 89.26, "1B": 88.01}, abs=0.3)


def drop_result(folder: Path) -> None:
    rows = read_rows(folder / "losses.csv")
    write(folder / "losses.csv", rows[0], rows[1:-3])


def empty_cell(folder: Path) -> None:
    rows = read_rows(folder / "losses.csv")
    rows[5][1] = ""
    write(folder / "losses.csv", rows[0], rows[1:])


def other_ids(folder: Path) -> None:
    rows = read_rows(folder / "losses.csv")
    write(folder / "losses.csv", rows[0], [["x" + r[0], *r[1:]] for r in rows[1:]])


def sum_off(folder: Path) -> None:
    rows = read_rows(folder / "weights.csv")
    rows[3][1] = "0.9"
    rows[3][2] = "0.9"
    write(folder / "weights.csv", rows[0], rows[1:])


def constant_column(folder: Path) -> None:
    rows = read_rows(folder / "losses.csv")
    write(folder / "losses.csv", [*rows[0], "c"], [[*r, 1.0] for r in rows[1:]])


def accuracies(folder: Path) -> None:
    rows = read_rows(folder / "losses.csv")
    write(folder / "losses.csv", ["run", "a_loss", "b_acc"], rows[1:])


def nothing(folder: Path) -> None:
    pass


class Nan:
    """A predictor of somebody's own that knows a third of the domains' simplex only."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        pass

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = np.where(weights[:, 0] < 1 / 3, weights[:, 0], np.nan)
        return mean, np.ones(len(mean))


OWN = {"own": {"name": f"{Nan.__module__}:Nan"}}


@pytest.mark.parametrize(
    ("damage", "changes", "message"),
    [
        (drop_result, {}, "3 runs are in only one of"),
        (empty_cell, {}, "line 6, column 'a': '' is not a finite number"),
        (other_ids, {}, "are in only one of"),
        (sum_off, {}, "run=2 sum to"),
        (constant_column, {}, "column 'c' is 1 in every row"),
        (nothing, {"train": {**FILES, "key": "id"}}, "no column 'id'"),
        (nothing, {"train": {**FILES, "keys": "run"}}, "unknown key 'keys'"),
        (nothing, {"train": {"key": "run"}}, "as many files under mixtures"),
        (nothing, {"train": {**FILES, "ignore": ["run", "bb"]}}, "ignore: no file has column 'bb'"),
        (nothing, {"predictors": OWN}, ":Nan', fitted to 24 rows, predicted nan for 13 of 16"),
        (nothing, {"n": [36]}, "the largest n is 32"),
        (nothing, {"n": [1]}, "every n at least 2"),
        (nothing, {"predictors": {"lgbm": {}}}, "Unknown predictor 'lgbm'"),
        (nothing, {"predictors": {"linear": {"depth": 3}}}, "unknown key 'depth'"),
        (nothing, {"scores": {"x": ["nope"]}}, "No result 'nope'"),
        (nothing, {"train": {**FILES, "score": "a"}}, "train: 'score' is of an ablation's table"),
        (accuracies, {}, "'mean of all' is a mean of 'a_loss', which is better low, and 'b_acc'"),
        (nothing, {"folder": "nowhere"}, "--tables FOLDER"),
        (nothing, {"seed": 3}, "unknown key 'seed'"),
    ],
)
def test_bad_tables_and_recipes_are_named(
    folder: Path, damage: Callable[[Path], None], changes: dict[str, Any], message: str
) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message):
        foresight.study_predictors(study(folder, **changes))


def test_two_domains_are_enough(tmp_path: Path) -> None:
    weights = np.linspace(0.05, 0.95, 30)
    write(
        tmp_path / "weights.csv", ["run", "x", "y"], [[i, w, 1 - w] for i, w in enumerate(weights)]
    )
    write(tmp_path / "losses.csv", ["run", "a"], [[i, w**2] for i, w in enumerate(weights)])
    table = load_table(FILES, str(tmp_path))
    assert table.domains == ("x", "y")
    cells = foresight.study_predictors(study(tmp_path, predictors={"gp": {}}, n=[16]))
    assert min(c.rho for c in cells) > 0.9


def test_the_command_prints_and_keeps_the_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--mixtures", str(folder / "weights.csv"), "--results", str(folder / "losses.csv")]
    out = tmp_path / "out"
    options = ["--set", "predictors={linear: {}}", "--set", "n=[16]", "--seeds", "1"]
    assert main(["predictors", *files, "--key", "run", *options, "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| linear |" in printed
    assert (out / "predictors.md").read_text() == printed
    assert main(["predictors"]) == 2
    assert "regmix" in capsys.readouterr().err
    assert main(["predictors", "regmix", *files]) == 2
