"""Several objectives, and guard-rails: the Pareto set, and which constraints hold."""

from __future__ import annotations

import numpy as np

from climb_opt.gp.hypervolume import front
from climb_opt.history import components_of, excesses, kept
from climb_opt.measures import effective_domains
from climb_opt.reports.contents import Contents
from climb_opt.reports.parts.svg import Chart, limits
from climb_opt.reports.section import Figure, Section, Table, Words
from climb_opt.reports.snapshot import Snapshot
from climb_opt.text import number, percent

MOST = 20


def several(contents: Contents) -> Section | None:
    """The Pareto set of a study with several objectives."""
    snapshot = contents.snapshot
    found = trade_offs(snapshot)
    if found is None:
        return None
    best, names = pareto_set(snapshot), objective_names(snapshot)
    drawn = Figure(_scatter(snapshot, best, names), "Trials; the Pareto set in colour.")
    words, table = found
    return Section("pareto", "Trade-offs", [words, drawn, table])


def trade_offs(snapshot: Snapshot) -> tuple[Words, Table] | None:
    """The Pareto set; None with one objective or before a trial has finished."""
    if len(snapshot.maximize) < 2 or not len(snapshot.judged):
        return None
    best = pareto_set(snapshot)
    rows = []
    for row in best[:MOST]:
        weights = snapshot.judged.mixtures[row]
        first = np.argsort(-weights, kind="stable")[:3]
        mixture = ", ".join(f"{snapshot.domains[k]} {percent(float(weights[k]))}" for k in first)
        trial = str(snapshot.judged.trials[row].number)
        scores = [number(float(v)) for v in snapshot.measured[row]]
        rows.append([trial, *scores, f"{effective_domains(weights):.1f}", mixture])
    among = len(_comparable(snapshot))
    kept = "" if among == len(snapshot.judged) else " that meet every guard-rail"
    text = f"{len(best)} of {among} trials{kept} are not beaten on every objective at once."
    head = ["trial", *objective_names(snapshot), "effective", "largest weights, %"]
    return Words(text), Table(head, rows, text=(len(head) - 1,))


def guard_rails(contents: Contents) -> Section | None:
    """Each constraint of the recipe: its bound and how many trials meet it."""
    snapshot = contents.snapshot
    if snapshot.recipe is None or not snapshot.recipe.constraints:
        return None
    rows = []
    for name, worst in snapshot.recipe.constraints.items():
        values = [components_of(t).get(name) for t in snapshot.judged.trials]
        known = [v for v in values if v is not None]
        beyond = [excesses({name: v}, {name: worst}, maximize=snapshot.sign < 0) for v in known]
        met = sum(one[name] <= 0 for one in beyond)
        rows.append([name, number(worst), f"{met} of {len(known)}"])
    text = f"{int(_kept(snapshot).sum())} of {len(snapshot.judged)} trials meet every guard-rail."
    table = Table(["component", "not worse than", "met by"], rows)
    return Section("rails", "Guard-rails", [Words(text), table])


def pareto_set(snapshot: Snapshot) -> list[int]:
    """Rows of the history that no other beats, among those that meet every guard-rail if any do."""
    rows = _comparable(snapshot)
    values = snapshot.judged.values[rows]
    best = np.flatnonzero(front(values))
    return [int(rows[r]) for r in sorted(best, key=lambda r: tuple(values[r]))]


def objective_names(snapshot: Snapshot) -> list[str]:
    """What the objectives are called: as in the recipe, else numbered."""
    if snapshot.recipe is not None:
        return list(snapshot.recipe.objectives())
    return [f"objective {i + 1}" for i in range(len(snapshot.maximize))]


def _kept(snapshot: Snapshot) -> np.ndarray:
    rails = {} if snapshot.recipe is None else snapshot.recipe.constraints
    return kept(snapshot.judged.trials, rails, maximize=snapshot.sign < 0)


def _comparable(snapshot: Snapshot) -> np.ndarray:
    fine = np.flatnonzero(_kept(snapshot))
    return fine if len(fine) else np.arange(len(snapshot.judged))


def _scatter(snapshot: Snapshot, best: list[int], names: list[str]) -> str:
    x, y = snapshot.measured[:, 0], snapshot.measured[:, 1]
    better = ["higher" if up else "lower" for up in snapshot.maximize]
    labels = [f"{n} ({b} is better)" for n, b in zip(names, better, strict=True)]
    chart = Chart(limits(list(x)), limits(list(y)), labels[0], labels[1])
    for row in range(len(x)):
        css = "dot r0" if row in best else "dot base"
        text = f"trial {snapshot.judged.trials[row].number}: {number(x[row])}, {number(y[row])}"
        chart.dot((float(x[row]), float(y[row])), text, css)
    return chart.render(f"{names[0]} against {names[1]}.")
