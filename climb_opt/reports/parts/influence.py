"""The section on which domains matter: intervals for every domain, curves for the foremost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from climb_opt.phases import shown as shares
from climb_opt.reports.contents import Contents
from climb_opt.reports.effects import MORE, SURE, Change, Effect
from climb_opt.reports.parts.svg import Chart, limits
from climb_opt.reports.section import Beside, Block, Cell, Figure, Name, Section, Sure, Table, Words
from climb_opt.text import number, percent, plus_minus, shorten

CURVES = 6
ROWS = 24  # of the table that show at once
BRIEF = 10  # of them in Markdown
TALLEST = 3.0  # times the median curve's height is drawn; what is beyond is cut, and told


def influence(contents: Contents) -> Section | None:
    """Which domains matter at the recommended mixture, and how sure that is."""
    if not contents.effects:
        return None
    shown = contents.effects[:CURVES]
    scale = _scale(shown)
    curves = [Figure(_curve(e, contents.snapshot.unit, scale), _reading(e)) for e in shown]
    text = (
        "Around the recommended mixture one domain's weight is changed while the others keep their "
        "proportions. Bands hold 90 %: where a band crosses the line, the data does not tell. All "
        "curves have one scale."
    )
    if phases := contents.snapshot.judged.shares:
        text += f" Domains are numbered by phase ({shares(phases)} of a run): the others stay."
    note = Words(
        "Gains in the score's unit, ± half a 90 % interval; bold where the interval excludes 0. "
        "“Range” is how far the curve moves over the weights that were tried.",
        "soft",
    )
    blocks: list[Block] = [Words(text, page=True), Beside(curves), _table(contents), note]
    return Section("domains", "Which domains matter", blocks)


def _scale(effects: Sequence[Effect]) -> tuple[float, float]:
    lowest = [float(np.min(-e.mean - SURE * e.std)) for e in effects]
    highest = [float(np.max(-e.mean + SURE * e.std)) for e in effects]
    tall = TALLEST * float(np.median(np.array(highest) - np.array(lowest)))
    low, high = max(min(lowest), -tall), min(max(highest), tall)
    return limits([min(low, 0.0), max(high, 0.0)])


def _curve(effect: Effect, unit: str, scale: tuple[float, float]) -> str:
    # Up is better, whichever way the score runs.
    gain, half = -effect.mean, SURE * effect.std
    chart = Chart((0.0, max(0.01, float(effect.at[-1]) * 100)), scale)
    chart.height, chart.left, chart.top = 200.0, 62.0, 12.0
    chart.x_label = f"weight of {shorten(effect.domain, 32)}, %"
    chart.y_label = "gain" if unit == "score" else f"gain, {unit}"
    x = 100 * effect.at
    chart.line([(0.0, 0.0), (chart.x[1], 0.0)], "zero")
    low, high = chart.y
    upper, lower = np.clip(gain + half, low, high), np.clip(gain - half, low, high)
    chart.band(_points(x, upper), _points(x, lower), "band")
    inside = (gain >= low) & (gain <= high)
    chart.line(_points(x[inside], gain[inside]), "curve")
    chart.dot((100 * effect.weight, 0.0), f"recommended: {percent(effect.weight)} %", "dot r0", 5)
    return chart.render(f"Gain against the weight of {effect.domain}, with a 90 % band.")


def _reading(effect: Effect) -> str:
    words = []
    if effect.without is not None:
        words.append(f"left out: {_words(effect.without)}")
    if effect.more is not None:
        words.append(f"{100 * MORE:.0f} points more: {_words(effect.more)}")
    return f"{shorten(effect.domain, 40)} · " + "; ".join(words)


def _words(change: Change) -> str:
    if not change.sure:
        return "not clear"
    return f"{'worse' if change.mean > 0 else 'better'} by {number(abs(change.mean), 2)}"


def _table(contents: Contents) -> Table:
    rows = [
        [
            Name(e.domain),
            percent(e.weight),
            _interval(e.without),
            _interval(e.more),
            number(e.size, 2),
        ]
        for e in contents.effects
    ]
    head = ["domain", "weight, %", "gain if left out", f"gain of +{100 * MORE:.0f} points", "range"]
    return Table(head, rows, few=ROWS, brief=BRIEF)


def _interval(change: Change | None) -> Cell:
    if change is None:
        return "–"
    text = plus_minus(-change.mean, SURE * change.std, sign=True)
    return Sure(text) if change.sure else text


def _points(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
