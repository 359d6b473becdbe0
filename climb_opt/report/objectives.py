"""Several objectives, and guard-rails: the Pareto set, and which constraints hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from climb_opt.history import excesses
from climb_opt.measures import effective_domains
from climb_opt.report import markup
from climb_opt.report.contents import Contents
from climb_opt.report.markup import Html
from climb_opt.report.snapshot import Snapshot, components_of
from climb_opt.report.svg import Chart, limits
from climb_opt.text import number, percent

MOST = 20


@dataclass(frozen=True)
class Listing:
    """A sentence and a table, for a page or for Markdown."""

    text: str
    head: list[str]
    rows: list[list[str]]


def several(contents: Contents) -> Html:
    """The Pareto set of a study with several objectives."""
    snapshot = contents.snapshot
    found = trade_offs(snapshot)
    if found is None:
        return Html("")
    best, names = pareto_set(snapshot), objective_names(snapshot)
    return markup.section(
        "pareto",
        "Trade-offs",
        markup.paragraph(found.text),
        markup.figure(_scatter(snapshot, best, names), "Trials; the Pareto set in colour."),
        markup.table(found.head, found.rows, text=(len(found.head) - 1,)),
    )


def trade_offs(snapshot: Snapshot) -> Listing | None:
    """The Pareto set; None with one objective or before a trial has finished."""
    if len(snapshot.directions) < 2 or not len(snapshot.history):
        return None
    best = pareto_set(snapshot)
    rows = []
    for row in best[:MOST]:
        weights = snapshot.history.weights[row]
        first = np.argsort(-weights, kind="stable")[:3]
        mixture = ", ".join(
            f"{snapshot.space.domains[k]} {percent(float(weights[k]))}" for k in first
        )
        rows.append(
            [
                str(snapshot.history.trials[row].number),
                *(number(float(v)) for v in snapshot.measured[row]),
                f"{effective_domains(weights):.1f}",
                mixture,
            ]
        )
    among = len(_comparable(snapshot))
    kept = "" if among == len(snapshot.history) else " that meet every guard-rail"
    return Listing(
        f"{len(best)} of {among} trials{kept} are not beaten on every objective at once.",
        ["trial", *objective_names(snapshot), "effective", "largest weights, %"],
        rows,
    )


def guard_rails(contents: Contents) -> Html:
    """Each constraint of the recipe: its bound and how many trials meet it."""
    found = rails(contents.snapshot)
    if found is None:
        return Html("")
    return markup.section(
        "rails", "Guard-rails", markup.paragraph(found.text), markup.table(found.head, found.rows)
    )


def rails(snapshot: Snapshot) -> Listing | None:
    """The recipe's constraints and how many trials meet them; None without one."""
    if snapshot.recipe is None or not snapshot.recipe.constraints:
        return None
    rows = []
    for name, worst in snapshot.recipe.constraints.items():
        values = [components_of(t).get(name) for t in snapshot.history.trials]
        known = [v for v in values if v is not None]
        met = sum(_beyond(snapshot, {name: v})[name] <= 0 for v in known)
        rows.append([name, number(worst), f"{met} of {len(known)}"])
    feasible = sum(is_feasible(snapshot, row) for row in range(len(snapshot.history)))
    text = f"{feasible} of {len(snapshot.history)} trials meet every guard-rail."
    return Listing(text, ["component", "not worse than", "met by"], rows)


def pareto_set(snapshot: Snapshot) -> list[int]:
    """Rows of the history that no other beats, among those that meet every guard-rail if any do."""
    rows = _comparable(snapshot)
    return [int(rows[r]) for r in pareto_rows(snapshot.history.values[rows])]


def pareto_rows(values: np.ndarray) -> list[int]:
    """Rows of `values` (n, objectives), lower is better, that no other row dominates."""
    keep = []
    for row, value in enumerate(values):
        beaten = np.all(values <= value, axis=1) & np.any(values < value, axis=1)
        if not beaten.any():
            keep.append(row)
    return sorted(keep, key=lambda r: tuple(values[r]))


def objective_names(snapshot: Snapshot) -> list[str]:
    """What the objectives are called: as in the recipe, else numbered."""
    if snapshot.recipe is not None:
        return list(snapshot.recipe.objectives())
    return [f"objective {i + 1}" for i in range(len(snapshot.directions))]


def is_feasible(snapshot: Snapshot, row: int) -> bool:
    """Whether a trial of the history meets every guard-rail; one not measured counts as unmet."""
    trial = snapshot.history.trials[row]
    stored = trial.constraints
    if stored:
        return all(v <= 0 for v in stored.values())
    rails = {} if snapshot.recipe is None else snapshot.recipe.constraints
    found = _beyond(snapshot, components_of(trial))
    return all(found.get(name, np.inf) <= 0 for name in rails)


def _beyond(snapshot: Snapshot, components: Mapping[str, float]) -> dict[str, float]:
    rails = {} if snapshot.recipe is None else snapshot.recipe.constraints
    return excesses(components, rails, maximize=snapshot.sign < 0)


def _comparable(snapshot: Snapshot) -> np.ndarray:
    every = np.arange(len(snapshot.history))
    fine = np.array([is_feasible(snapshot, int(row)) for row in every], dtype=bool)
    return every[fine] if fine.any() else every


def _scatter(snapshot: Snapshot, best: list[int], names: list[str]) -> str:
    x, y = snapshot.measured[:, 0], snapshot.measured[:, 1]
    better = ["higher" if d == "maximize" else "lower" for d in snapshot.directions]
    labels = [f"{n} ({b} is better)" for n, b in zip(names, better, strict=True)]
    chart = Chart(limits(list(x)), limits(list(y)), labels[0], labels[1])
    for row in range(len(x)):
        css = "dot r0" if row in best else "dot base"
        text = f"trial {snapshot.history.trials[row].number}: {number(x[row])}, {number(y[row])}"
        chart.dot((float(x[row]), float(y[row])), text, css)
    return chart.render(f"{names[0]} against {names[1]}.")
