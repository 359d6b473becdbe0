"""The figures of mixbench's page, as SVG: ranks, anytime curves, FLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from climb_opt.ablation.table.ranking import Ranking
from climb_opt.ablation.table.render import number
from climb_opt.reports.parts.figures import HUES, hue
from climb_opt.reports.parts.svg import Chart, drawing, label, ticks
from climb_opt.reports.section import Figure

LOWEST = 1e-3  # a regret below it is drawn there: axes of regrets are logarithmic
ROW = 20.0  # of a chart with a line a method


def rank_figure(ranking: Ranking, order: Sequence[str]) -> Figure:
    """Mean ranks after the whole budget, with their intervals, the best on top."""
    last = ranking.parts[-1]
    chart = _by_line(order, (0.5, len(order) + 0.5), f"mean rank after {last} trials")
    for place, arm in enumerate(order):
        mean, y = ranking.mean_rank(arm, last), -float(place)
        if mean.interval is not None:
            chart.line([(end, y) for end in mean.interval], f"curve {hue(0)}")
        chart.dot((mean.value, y), f"{arm}: {mean.value:.2f}", f"dot {hue(0)}", radius=4.0)
    told = f"Mean ranks of {len(order)} methods with 90 % intervals; 1 is best."
    return Figure(_rendered(chart, order, told), told)


def anytime(ranking: Ranking, setting: str) -> Figure:
    """Median true regret of what is recommended against the budget spent, in one problem."""
    here, last = ranking.here(setting), ranking.parts[-1]
    named = sorted(here, key=lambda a: ranking.place(a, setting, last))[:HUES]
    curves = {arm: _curve(ranking, arm, setting) for arm in here}
    values = [y for curve in curves.values() for _, y in curve] or [0.0]
    whole = (math.floor(min(values)), max(math.ceil(max(values)), math.floor(min(values)) + 1))
    chart = Chart((0.0, float(last) * 1.03), whole, "trials of the target", "regret, log10")
    for arm in sorted(here, key=lambda a: a in named):
        css = hue(named.index(arm)) if arm in named else hue(-1)
        chart.line(curves[arm], f"curve {css}")
        for x, y in curves[arm]:
            chart.dot((x, y), f"{arm}: {number(10**y)} after {x:g}", f"dot {css}", radius=2.5)
    told = f"{setting}: median regret of the recommended mixture."
    levels = [float(v) for v in range(int(whole[0]), int(whole[1]) + 1)]
    marks = chart.axes([float(p) for p in ranking.parts], levels) + chart.marks
    legend = [(hue(i), arm) for i, arm in enumerate(named)]
    legend += [(hue(-1), "others")] if len(here) > len(named) else []
    return Figure(drawing(marks, chart.height, told), told, legend)


def ratio_figure(ranking: Ranking) -> Figure | None:
    """FLOPs for the reference's regret as a share of its budget, a dot for each problem."""
    reference = ranking.recipe.reference
    if reference is None or reference not in ranking.arms:
        return None
    order = [a for a in ranking.everywhere if a != reference]
    chart = _by_line(order, (0.0, 1.15), f"FLOPs for what {reference} has after all of its")
    for place, arm in enumerate(order):
        for setting in ranking.settings:
            ratio = ranking.ratio(arm, setting)
            if math.isnan(ratio):
                continue
            never = math.isinf(ratio)
            text = f"{arm}, {setting}: {'never' if never else number(ratio)}"
            css = f"dot {hue(3 if never else 0)}{' outside' if never else ''}"
            chart.dot((1.1 if never else ratio, -float(place)), text, css)
    told = (
        f"FLOPs that a method needs for the median regret of {reference} after its whole budget, a "
        "dot for each problem; pale ones at the right: never within the budget."
    )
    return Figure(_rendered(chart, order, told), told)


# --- private -------------------------------------------------------------------------------------


def _curve(ranking: Ranking, arm: str, setting: str) -> list[tuple[float, float]]:
    points = []
    for part in ranking.parts:
        median = ranking.summary(arm, setting, part).median
        if math.isfinite(median):
            points.append((float(part), math.log10(max(median, LOWEST))))
    return points


def _by_line(names: Sequence[str], x: tuple[float, float], x_label: str) -> Chart:
    """A chart with a line of its own for each name, the first on top."""
    return Chart(x, (0.5 - len(names), 0.5), x_label, height=ROW * len(names) + 70.0, left=150.0)


def _rendered(chart: Chart, names: Sequence[str], told: str) -> str:
    marks = [
        label(chart.left - 8, chart.up(-float(i)) + 4, name, anchor="end")
        for i, name in enumerate(names)
    ]
    return drawing(chart.axes(ticks(*chart.x), []) + marks + chart.marks, chart.height, told)
