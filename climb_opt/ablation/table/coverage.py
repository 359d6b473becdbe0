"""How often stated intervals hold, as a table: rows of what searches promised -> cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import settings
from climb_opt.ablation.run.promises import WHAT
from climb_opt.ablation.run.results import RunResult
from climb_opt.selection.recommendation import LEVEL
from climb_opt.text import number, plus_minus

Row = Mapping[str, Any]
HEAD = ("held", "error ± half-width", "width", "interval score")  # of each of WHAT

LEGEND = (
    f"Held: the share of {LEVEL:.0%} intervals that hold the truth. Error: stated minus true, the "
    "median, and the median half-width, in units of regret. Width: that against the constant "
    f"half-width that would have held in {LEVEL:.0%} of the cell. Interval score: Winkler's, the "
    "width plus 20 times what the truth lies outside; less is better."
)


def rows_of(recipe: AblationRecipe, results: Sequence[RunResult]) -> list[Row]:
    """One row for each recommendation of each run: arm, noise, n, regret and what was promised."""
    noise = {name: objective.options.get("noise", 0.0) for name, objective in settings(recipe)}
    return [
        {"arm": r.arm, "noise": noise[r.setting], "n": int(n), **promised}
        for r in results
        for n, promised in r.promises.items()
    ]


def lines_of(rows: Sequence[Row], by: Sequence[str]) -> list[list[str]]:
    """Head and cells of the table that pools `rows` by these columns."""
    found = [[*by, "asked", *(f"{what}: {name}" for what in WHAT for name in HEAD), "regret"]]
    for key, own in cells(rows, *by).items():
        regret = number(float(np.median(column(own, "regret"))), 3)
        shown = [cell for what in WHAT for cell in interval(own, what)]
        found.append([*(f"{k:g}" if isinstance(k, float) else str(k) for k in key), str(len(own))])
        found[-1] += [*shown, regret]
    return found


def cells(rows: Sequence[Row], *by: str) -> dict[tuple[Any, ...], list[Row]]:
    """The rows by their values in these columns."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in by), []).append(row)
    return found


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """The values (m,) of those rows that have one."""
    return np.array([row[name] for row in rows if row.get(name) is not None], dtype=float)


def interval(rows: Sequence[Row], what: str) -> list[str]:
    """Coverage, median error and half-width, width against the exactly right one, Winkler."""
    error, half = column(rows, f"{what} error"), column(rows, f"{what} half")
    if not len(error):
        return ["–"] * len(HEAD)
    right = float(np.quantile(np.abs(error), LEVEL))
    return [
        f"{column(rows, f'{what} held').mean():.2f}",
        plus_minus(float(np.median(error)), float(np.median(half)), sign=True),
        f"{np.median(half) / right:.1f}" if right > 0 else "–",
        number(float(column(rows, f"{what} winkler").mean()), 3),
    ]
