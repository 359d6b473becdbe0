"""The figures of a report, from a `Snapshot` to an SVG each.

Rounds keep one colour throughout: baselines grey, then one hue a round. Values far worse than the
rest are drawn at the plot's edge with their true value in the pointer's text, so that one diverged
run does not flatten a hundred others.
"""

from __future__ import annotations

import numpy as np

from climb_opt.reports.effects import SURE
from climb_opt.reports.parts.svg import WIDTH, Chart, drawing, element, label, limits, ticks, title
from climb_opt.reports.quality import Predictions
from climb_opt.reports.snapshot import Snapshot
from climb_opt.retrain.paired import Confirmation
from climb_opt.text import number, percent, shorten

LARGEST = 8  # domains with a colour of their own; the rest are "other"
WHISKER = 0.5  # of the plot's height: longer ones are told, not drawn
HUES = 6  # colours of rounds, repeated after that


def best_so_far(snapshot: Snapshot) -> str:
    """Measured scores in the order they finished, the best so far, and the baselines."""
    values, order = snapshot.measured, snapshot.searched()
    levels, places = snapshot.baseline_scores(), snapshot.places(order)
    shown = np.append(values[order], list(levels.values()))
    end = float(max([1.0, *places])) + 1.0
    scores = shown_range(shown, snapshot.sign)
    y_label = f"{snapshot.unit} ({snapshot.direction})"
    right = 88.0 if levels else 12.0  # the baselines' names
    chart = Chart((0.0, end), scores, snapshot.along, y_label, right=right)
    _divide_rounds(chart, snapshot, order, places)
    best, path = np.inf, []
    for place, row in zip(places.tolist(), order, strict=True):
        _score_dot(chart, snapshot, place, int(row))
        if snapshot.sign * values[row] < best:
            best = snapshot.sign * values[row]
            path.append((place, float(values[row])))
    if path:
        chart.steps([*path, (end - 0.5, path[-1][1])], "best")
    chart.levels({shorten(name, 14): value for name, value in levels.items()}, "baseline")
    whole = [tick for tick in ticks(*chart.x) if tick == round(tick)]
    text = f"Score of {len(order)} trials in the order they finished, with the best so far."
    return chart.render(text, x_ticks=whole)


def predicted_measured(predictions: Predictions, snapshot: Snapshot) -> str:
    """What each trial was expected to measure, with its interval, against what it measured."""
    low, high = shown_range(predictions.measured, snapshot.sign)
    chart = Chart((low, high), (low, high), f"measured {snapshot.unit}", "predicted, unseen")
    chart.height = 400.0
    chart.line([(low, low), (high, high)], "diagonal")
    spread = whiskers(predictions, snapshot)
    for row, mean, std, measured, index in zip(*predictions.columns, strict=True):
        trial = snapshot.judged.trials[int(row)]
        x, y = np.clip([measured, mean], low, high)
        half = SURE * std
        ends = np.clip([mean - half, mean + half], low, high)
        css = hue(int(index))
        edge = "" if low <= mean <= high and low <= measured <= high else " outside"
        if spread is None:
            chart.line([(float(x), float(ends[0])), (float(x), float(ends[1]))], f"whisker {css}")
        text = f"trial {trial.number}: predicted {number(mean)} ± {number(half, 2)}"
        chart.dot((float(x), float(y)), f"{text}, measured {number(measured)}", f"dot {css}{edge}")
    return chart.render(f"Predicted against measured score of {len(predictions)} unseen trials.")


def whiskers(predictions: Predictions, snapshot: Snapshot) -> float | None:
    """None where predicted intervals can be drawn; else half the median one, to be told.

    Whiskers as long as the plot would only hide the dots.
    """
    low, high = shown_range(predictions.measured, snapshot.sign)
    middle = SURE * float(np.median(predictions.std))
    return middle if middle > WHISKER * (high - low) else None


def mixture_stacks(snapshot: Snapshot, columns: dict[str, np.ndarray]) -> str:
    """Mixtures side by side as stacked bars; `columns` names each and gives its weights (K,)."""
    top = largest(np.array(list(columns.values())))
    height, base, ceiling = 320.0, 290.0, 14.0
    step = (WIDTH - 20.0) / max(1, len(columns))
    wide = min(72.0, step * 0.72)
    parts = []
    for place, (name, weights) in enumerate(columns.items()):
        left, y = 10 + place * step + (step - wide) / 2, base
        middle = left + wide / 2
        shares = [(snapshot.domains[k], float(weights[k]), f"c{i}") for i, k in top]
        rest = max(0.0, 1.0 - sum(share for _, share, _ in shares))
        for domain, share, css in [*shares, ("all other domains", rest, "c-rest")]:
            tall = share * (base - ceiling)
            if tall >= 0.25:
                text = title(f"{name}: {domain} {percent(share)} %")
                box = element("rect", text, x=left, y=y - tall, width=wide, height=tall, class_=css)
                parts.append(box)
            if tall >= 16:
                at, text = y - tall / 2 + 4, f"{100 * share:.0f}"
                parts.append(label(middle, at, text, anchor="middle", css=f"in {css}"))
            y -= tall
        parts.append(label(middle, base + 18, shorten(name, 14), anchor="middle"))
    return drawing(parts, height, f"Mixtures as stacked bars: {', '.join(columns)}.")


def largest(columns: np.ndarray) -> list[tuple[int, int]]:
    """(colour, domain index) of the domains that are largest in any of the mixtures (n, K)."""
    size = columns.max(axis=0)
    keep = np.argsort(-size, kind="stable")[:LARGEST]
    return [(place, int(k)) for place, k in enumerate(keep) if size[k] > 0]


def seeds_plot(confirmation: Confirmation) -> str:
    """Every retrained mixture: one dot a seed, a bar at the mean."""
    names = [n for n in confirmation.scores if confirmation.scores[n]]
    values = [v for n in names for v in confirmation.scores[n].values()]
    x_label = f"{confirmation.unit}, one dot a seed"
    chart = Chart(limits(values), (-0.6, len(names) - 0.4), x_label, "")
    chart.height, chart.left = 70.0 + 34.0 * len(names), 130.0
    parts: list[str] = []
    for place, name in enumerate(reversed(names)):
        y = chart.up(place)
        parts.append(label(chart.left - 8, y + 4, shorten(name, 18), anchor="end", css="name"))
        for seed, value in sorted(confirmation.scores[name].items()):
            css = "dot r0" if name in confirmation.finalists else "dot base"
            chart.dot((value, place), f"{name}, seed {seed}: {number(value, 5)}", css, 4.5)
        x = chart.across(confirmation.mean(name))
        chart.marks.append(element("line", x1=x, x2=x, y1=y - 11, y2=y + 11, class_="mean"))
    body = [*chart.axes(y_ticks=()), *parts, *chart.marks]
    return drawing(body, chart.height, "Scores of the retrained mixtures, one dot a seed.")


def shown_range(values: np.ndarray, sign: float) -> tuple[float, float]:
    """Limits for plotting `values`: all but those far worse than the rest (see above)."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return (0.0, 1.0)
    oriented = np.sort(sign * finite)
    best, middle = oriented[0], float(np.median(oriented))
    upper = np.quantile(oriented, 0.9)
    # Six times the distance from the best to the median keeps all but diverged runs.
    cut = max(float(upper), float(best + 6 * (middle - best)))
    kept = oriented[oriented <= cut] if cut > best else oriented
    return limits(list(sign * kept))


def _score_dot(chart: Chart, snapshot: Snapshot, place: float, row: int) -> None:
    value, trial = float(snapshot.measured[row]), snapshot.judged.trials[row]
    inside = chart.y[0] <= value <= chart.y[1]
    at = (place, float(np.clip(value, *chart.y)))
    css = f"dot {hue(int(snapshot.rounds[row]))}" + ("" if inside else " outside")
    edge = "" if inside else " (beyond the plot)"
    chart.dot(at, f"trial {trial.number}: {number(value, 5)}{edge}", css)


def _divide_rounds(chart: Chart, snapshot: Snapshot, order: np.ndarray, places: np.ndarray) -> None:
    rounds = snapshot.rounds[order]
    for index in range(len(snapshot.plan.rounds)):
        first = np.flatnonzero(rounds == index)
        if len(first):
            chart.divide(float(places[first[0]]) - 0.5, f"round {index + 1}")


def hue(index: int) -> str:
    """The style of a round's marks; -1 is outside the plan."""
    return "base" if index < 0 else f"r{index % HUES}"
