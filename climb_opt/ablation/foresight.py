"""How well predictors rank mixtures they have not seen: against n, across scales, by component.

The study behind `climb-opt predictors`. A *test* is a table of mixtures and results that are never
trained on: other rows of the same proxy, or the same task at a larger scale.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from climb_opt import lookup, recipe_files, recipes
from climb_opt.ablation.run.surfaces import load_table
from climb_opt.emulator import Table
from climb_opt.errors import UserError, options_of
from climb_opt.history import History
from climb_opt.metrics import side_of
from climb_opt.predictors.base import expected
from climb_opt.predictors.own import predictor_factory
from climb_opt.recipes import Choice
from climb_opt.statistics import spearman
from climb_opt.strict import build
from climb_opt.text import counted, pipe_table, strict_json
from climb_opt.threads import one_blas_thread

SHIPPED = "studies/ablations/predictors"
HELD_OUT = "held-out rows"
USUAL = (16, 32, 64, 112)  # rows to train on: 112 is CLIMB's whole budget
SMALLEST_TEST = 8  # rows: below it a rank correlation says nothing


@dataclass(frozen=True)
class PredictorRecipe:
    """A predictor study. `train` and `tests` name files as an ablation's tables do.

    `scores` maps a name to the results that are averaged (an empty list: all). Without `tests`,
    the rows not trained on are held out. Without `n`, `USUAL` ones that leave rows to test on.
    """

    train: dict[str, Any]
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    folder: str = "."
    scores: dict[str, list[str]] = field(default_factory=lambda: {"mean of all": []})
    predictors: dict[str, dict[str, Any]] = field(default_factory=dict)  # label -> name, options
    n: tuple[int, ...] = ()
    seeds: int = 5


@dataclass(frozen=True)
class Cell:
    """One fit: which predictor saw how much, and how it did on one test.

    `error` is the root mean square error in standard deviations of the test's score, which means
    something at the trained scale only; `residual` is the same after the best shift and stretch.
    """

    score: str
    predictor: str
    per_component: bool
    n: int
    seed: int
    test: str
    rho: float
    error: float
    residual: float


def read_predictors(name: str, overrides: Sequence[str] = ()) -> PredictorRecipe:
    """The predictor study of a shipped name (studies/ablations/predictors) or a path."""
    others = "a .yaml file, or --mixtures and --results"
    data = recipe_files.read_shipped(SHIPPED, name, "predictor study", others)
    return predictors_from(data, overrides)


def predictors_from(data: dict[str, Any], overrides: Sequence[str] = ()) -> PredictorRecipe:
    """A predictor study from plain data, with `key.sub=value` overrides applied."""
    recipe = build(PredictorRecipe, recipe_files.set_overrides(data, overrides), "predictors")
    if recipe.seeds < 1 or min(recipe.n, default=2) < 2:
        raise UserError("predictors: seeds must be at least 1, and every n at least 2.")
    return recipe


@one_blas_thread()
def study_predictors(
    recipe: PredictorRecipe, on_fit: Callable[[int, int], None] = lambda done, total: None
) -> list[Cell]:
    """Every predictor at every n and seed, per component and aggregate, on every test.

    All predictors see the same rows for one (n, seed). Where n is all rows there is one seed.

    Args:
        on_fit: called before the first fit and after each, with how many are done of how many.

    Raises:
        UserError: files that do not fit together, n beyond the rows, an unknown predictor.
    """
    for where, given in {"train": recipe.train, **recipe.tests}.items():
        if wrong := sorted({"score", "prior"} & set(given)):
            raise UserError(
                f"predictors.{where}: {wrong[0]!r} is of an ablation's table. Results are named "
                "under scores: --set 'scores={mine: [RESULT, ...]}'."
            )
    train = load_table(recipe.train, recipe.folder)
    for label, names in recipe.scores.items():
        _check_sides(label, names or train.names)
    tests = {k: _aligned(load_table(v, recipe.folder), train, k) for k, v in recipe.tests.items()}
    choices = _choices(recipe)
    recipe = _sized(recipe, len(train), 0 if tests else SMALLEST_TEST)
    fits = [
        (label, names, n, seed, rows, predictor, parts)
        for label, names in recipe.scores.items()
        for n, seed, rows in _draws(recipe, len(train))
        for predictor in choices
        for parts in ((False, True) if len(names or train.names) > 1 else (False,))
    ]
    cells = []
    on_fit(0, len(fits))
    for done, (label, names, n, seed, rows, predictor, parts) in enumerate(fits, start=1):
        sets = tests or {HELD_OUT: _rows(train, np.setdiff1d(np.arange(len(train)), rows))}
        fitted = _fit(choices[predictor], _rows(train, rows), names, parts)
        for test, table in sets.items():
            for what, figures in _judge(fitted, table, names, parts).items():
                cells.append(Cell(what.format(label), predictor, parts, n, seed, test, *figures))
        on_fit(done, len(fits))
    return cells


def foreseen(sampler: Choice, seen: History, weights: np.ndarray) -> np.ndarray:
    """What a search's predictor, taught what was `seen` of it, expects (m,) of `weights` (m, K)."""
    name = str(sampler.options.get("predictor", lookup.PREDICTOR))
    predictor = predictor_factory(name, sampler.options.get("predictor_options"))()
    predictor.fit(seen.weights, seen.values)
    return expected(predictor, weights)


# --- private -----------------------------------------------------------------------------------


def _check_sides(label: str, names: Sequence[str]) -> None:
    sides = {side_of(name): name for name in names}
    if 1 in sides and -1 in sides:
        raise UserError(
            f"predictors.scores: {label!r} is a mean of {sides[1]!r}, which is better low, and "
            f"{sides[-1]!r}, which is better high. Name those of one kind: --set "
            f"'scores={{mine: [{sides[1]}]}}'."
        )


def _sized(recipe: PredictorRecipe, rows: int, held: int) -> PredictorRecipe:
    """With numbers of rows to train on that leave `held` rows."""
    if rows < held + 2:
        raise UserError(
            f"predictors: a table of {rows} rows is too small: {held} are held out to test on, "
            "and no fewer than 2 can be trained on."
        )
    chosen = recipe.n or tuple(n for n in USUAL if n + held <= rows) or (USUAL[0],)
    if max(chosen) + held > rows:
        raise UserError(
            f"predictors: n = {max(chosen)} leaves too few of the {rows} rows"
            f"{' to test on' if held else ''}; the largest n is {rows - held}."
        )
    return replace(recipe, n=chosen)


def _choices(recipe: PredictorRecipe) -> dict[str, Choice]:
    given = recipe.predictors or {name: {} for name in sorted(lookup.KINDS["predictor"])}
    choices = {}
    for label, options in given.items():
        data = recipes.choice_data({"name": label, **options}, f"predictors.{label}")
        choice = build(Choice, data, f"predictors.{label}")
        predictor_factory(choice.name, choice.options)  # says what is wrong with it
        choices[label] = choice
    return choices


def _draws(recipe: PredictorRecipe, total: int) -> Iterator[tuple[int, int, np.ndarray]]:
    for n in recipe.n:
        for seed in range(recipe.seeds if n < total else 1):
            yield n, seed, np.sort(np.random.default_rng([seed, n]).permutation(total)[:n])


def _fit(
    choice: Choice, table: Table, names: Sequence[str], per_component: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of weights (m, K): predictions (m, C) of the components, or (m, 1) of the mean."""
    columns = _columns(table, names)
    models = []
    for part in columns.T if per_component else [columns.mean(axis=1)]:
        with options_of("predictor", choice.name, choice.options):
            model = predictor_factory(choice.name, choice.options)()
            model.fit(table.weights, part)
        models.append(model)

    def predict(weights: np.ndarray) -> np.ndarray:
        found = np.stack([expected(model, weights) for model in models], axis=1)
        lost = ~np.isfinite(found)
        if ":" in choice.name and lost.any():
            raise UserError(
                f"predictors: {choice.name!r}, fitted to {len(table)} rows, predicted "
                f"{found[lost][0]} for {lost.any(axis=1).sum()} of {len(weights)} mixtures; it "
                "must predict a finite number for each."
            )
        return found

    return predict


def _judge(
    fitted: Callable[[np.ndarray], np.ndarray], table: Table, names: Sequence[str], parts: bool
) -> dict[str, tuple[float, float, float]]:
    """The figures of the mean and, of a model per component, the average figures of each."""
    truth, guess = _columns(table, names), fitted(table.weights)
    found = {"{}": _figures(guess.mean(axis=1), truth.mean(axis=1))}
    if parts:
        each = [_figures(g, t) for g, t in zip(guess.T, truth.T, strict=True)]
        rho, error, residual = (float(np.mean(column)) for column in zip(*each, strict=True))
        found["each component of {}"] = (rho, error, residual)
    return found


def _figures(guess: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Rank correlation, error, and error after the best shift and stretch."""
    error = float(np.sqrt(np.mean((guess - truth) ** 2)) / truth.std())
    x, y = guess - guess.mean(), truth - truth.mean()
    shared = float((x @ y) ** 2 / ((x @ x) * (y @ y))) if x @ x > 0 else 0.0
    # A constant prediction ranks nothing: its correlation counts as 0, as in the literature.
    rho = spearman(guess, truth)
    return rho if np.isfinite(rho) else 0.0, error, float(np.sqrt(max(0.0, 1.0 - shared)))


def _columns(table: Table, names: Sequence[str]) -> np.ndarray:
    return np.stack([table.result(name) for name in names or table.names], axis=1)


def _rows(table: Table, rows: np.ndarray) -> Table:
    return Table(table.domains, table.weights[rows], table.names, table.results[rows])


def _aligned(table: Table, like: Table, name: str) -> Table:
    if odd := set(table.domains) ^ set(like.domains) or set(like.names) - set(table.names):
        raise UserError(
            f"predictors: test {name!r} and the training table differ in {sorted(odd)[0]!r}."
        )
    if len(table) < SMALLEST_TEST:
        raise UserError(
            f"predictors: test {name!r} has {len(table)} rows; give {SMALLEST_TEST} or more."
        )
    order = [table.domains.index(d) for d in like.domains]
    columns = [table.names.index(c) for c in like.names]
    return Table(like.domains, table.weights[:, order], like.names, table.results[:, columns])


def as_markdown(recipe: PredictorRecipe, cells: Sequence[Cell]) -> str:
    """One table per score and test: predictors down, n across; median rho (error) over seeds."""
    lines = []
    for score in dict.fromkeys(c.score for c in cells):
        tests = list(dict.fromkeys(c.test for c in cells if c.score == score))
        for test in tests:
            lines += _markdown_table([c for c in cells if (c.score, c.test) == (score, test)])
    lines += [
        "Cells: Spearman rank correlation (root mean square error after the best shift and "
        f"stretch / std), median of {counted(recipe.seeds, 'seed')}; all predictors see the same "
        "rows.",
        "",
    ]
    return "\n".join(lines)


def _markdown_table(cells: Sequence[Cell]) -> list[str]:
    ns = sorted({c.n for c in cells})
    first = cells[0]
    rows = []
    for name, parts in dict.fromkeys((c.predictor, c.per_component) for c in cells):
        mine = [c for c in cells if (c.predictor, c.per_component) == (name, parts)]
        label = f"{name}, one per component" if parts else name
        rows.append([label, *(_cell([c for c in mine if c.n == n]) for n in ns)])
    table = pipe_table(["predictor", *(f"n = {n}" for n in ns)], rows)
    return [f"## {first.score}, on {first.test}", "", *table, ""]


def _cell(cells: Sequence[Cell]) -> str:
    rho = float(np.median([c.rho for c in cells]))
    return f"{rho:.3f} ({float(np.median([c.residual for c in cells])):.2f})"


def as_json(recipe: PredictorRecipe, cells: Sequence[Cell]) -> str:
    """Every fit, for other programs."""
    fits = [vars(cell) for cell in cells]
    return strict_json({"recipe": json.loads(recipes.to_json(recipe)), "fits": fits})
