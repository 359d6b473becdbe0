"""Several objectives, and guard-rails: the Pareto set, and which constraints hold."""

from __future__ import annotations

import numpy as np

from climb_opt.report import markup
from climb_opt.report.advice import effective_domains
from climb_opt.report.contents import Contents
from climb_opt.report.markup import Html
from climb_opt.report.snapshot import Snapshot, components_of
from climb_opt.report.svg import Chart, limits
from climb_opt.text import number, percent

MOST = 20


def several(contents: Contents) -> Html:
    """The Pareto set of a study with several objectives."""
    snapshot = contents.snapshot
    if len(snapshot.directions) < 2 or not len(snapshot.history):
        return Html("")
    best = pareto_rows(snapshot.history.values)
    names = objective_names(snapshot)
    rows: list[list[markup.Cell]] = []
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
    head = ["trial", *names, "effective", "largest weights, %"]
    text = (
        f"{len(best)} of {len(snapshot.history)} trials are not beaten on every objective at once."
    )
    return markup.section(
        "pareto",
        "Trade-offs",
        markup.paragraph(text),
        markup.figure(_scatter(snapshot, best, names), "Trials; the Pareto set in colour."),
        markup.table(head, rows, text=(len(head) - 1,)),
    )


def guard_rails(contents: Contents) -> Html:
    """Each constraint of the recipe: its bound and how many trials meet it."""
    snapshot = contents.snapshot
    if snapshot.recipe is None or not snapshot.recipe.constraints:
        return Html("")
    rows: list[list[markup.Cell]] = []
    for name, worst in snapshot.recipe.constraints.items():
        values = [components_of(t).get(name) for t in snapshot.history.trials]
        known = [v for v in values if v is not None]
        met = sum(meets(name, v, worst, snapshot) for v in known)
        rows.append([name, number(worst), f"{met} of {len(known)}"])
    feasible = sum(is_feasible(snapshot, row) for row in range(len(snapshot.history)))
    text = f"{feasible} of {len(snapshot.history)} trials meet every guard-rail."
    head = ["component", "not worse than", "met by"]
    return markup.section("rails", "Guard-rails", markup.paragraph(text), markup.table(head, rows))


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


def meets(name: str, value: float, worst: float, snapshot: Snapshot) -> bool:
    """Whether a component keeps its guard-rail: accuracies are floors, losses ceilings."""
    if name.rpartition("/")[2] in ("bpb", "loss", "ppl"):
        return value <= worst
    if name.rpartition("/")[2] in ("acc", "acc_norm"):
        return value >= worst
    return value <= worst if snapshot.sign > 0 else value >= worst


def is_feasible(snapshot: Snapshot, row: int) -> bool:
    """Whether a trial of the history meets every guard-rail; one not measured counts as unmet."""
    trial = snapshot.history.trials[row]
    stored = trial.constraints
    if stored:
        return all(v <= 0 for v in stored.values())
    rails = {} if snapshot.recipe is None else snapshot.recipe.constraints
    values = components_of(trial)
    return all(n in values and meets(n, values[n], w, snapshot) for n, w in rails.items())


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
