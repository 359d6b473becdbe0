"""Figures of a comparison: best so far with bands, final value per arm, the predictor by round."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.ablation.table.comparison import ArmRow, Comparison
from climb_opt.extras import need

NAMES = ("best_so_far", "final", "predictor")
DOTS_PER_INCH = 150
SPREAD = 4.0  # largest over smallest value above which a logarithmic axis is worth reading


def write_figures(table: Comparison, folder: Path, *, scaled: bool) -> list[Path]:
    """Write the figures that the comparison has data for; returns their paths.

    Args:
        scaled: values are regrets (0 best known, 1 typical), not raw scores.

    Raises:
        UserError: matplotlib is missing.
    """
    need("matplotlib", "Drawing figures", "climb-opt[dashboard]").use("Agg")
    plt = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    stem = "".join(c if c.isalnum() else "-" for c in table.setting)
    written = []
    for name, draw in zip(NAMES, (_best_so_far, _final, _predictor), strict=True):
        figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
        if draw(axes, table.rows, scaled):
            axes.set_title(table.setting or None, fontsize=9)
            path = folder / f"{stem + '-' if stem else ''}{name}.png"
            figure.savefig(path, dpi=DOTS_PER_INCH)
            written.append(path)
        plt.close(figure)
    return written


# --- private -----------------------------------------------------------------------------------


def _best_so_far(axes: Any, rows: Sequence[ArmRow], scaled: bool) -> bool:
    curves = [row for row in rows if row.curves]
    for row, colour in zip(curves, _colours(len(curves)), strict=True):
        by_step = np.array(list(zip_longest(*row.curves, fillvalue=np.nan)))
        steps = np.arange(1, len(by_step) + 1)
        low, middle, high = np.nanpercentile(by_step, [25, 50, 75], axis=1)
        axes.plot(steps, middle, color=colour, label=row.arm, linewidth=1.3)
        axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xlabel("trials finished")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(_label("best measurement so far", scaled))
    if scaled:
        _stretch(axes, "y", 1e-3)
    if curves:
        axes.legend(fontsize=6, ncols=2)
    return bool(curves)


def _final(axes: Any, rows: Sequence[ArmRow], scaled: bool) -> bool:
    judged = [row for row in rows if row.final.n][::-1]
    for place, row in enumerate(judged):
        values = np.array(list(row.values.values()))
        axes.plot(values, np.full(len(values), place), "o", color="0.6", markersize=3, alpha=0.7)
        axes.plot([row.final.lower, row.final.upper], [place, place], color="C0", linewidth=3)
        axes.plot(row.final.median, place, "|", color="black", markersize=11)
    axes.set_yticks(range(len(judged)), [row.arm for row in judged], fontsize=7)
    axes.set_xlabel(_label("final mixture: seeds, quartiles, median", scaled))
    axes.grid(axis="x", color="0.9")
    if scaled:
        _stretch(axes, "x", 1e-2)
    return bool(judged)


def _predictor(axes: Any, rows: Sequence[ArmRow], scaled: bool) -> bool:
    ranked = [row for row in rows if np.isfinite(row.ranks).any()]
    for row, colour in zip(ranked, _colours(len(ranked)), strict=True):
        axes.plot(np.arange(1, len(row.ranks) + 1), row.ranks, "o-", color=colour, label=row.arm)
    axes.set_xlabel("round (searches without rounds: 4/7, 6/7 and all of their trials)")
    axes.set_ylabel("rank correlation, predicted and true")
    axes.set_ylim(top=1.0)
    if ranked:
        axes.set_xticks(range(1, 1 + max(len(row.ranks) for row in ranked)))
        axes.legend(fontsize=6, ncols=2)
    return bool(ranked)


def _stretch(axes: Any, name: str, threshold: float) -> None:
    """A logarithmic axis above `threshold`, in plain numbers, where the values are far apart."""
    from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

    low, high = getattr(axes.dataLim, f"interval{name}")
    if high <= threshold or (threshold < low and high < SPREAD * low):
        return
    getattr(axes, f"set_{name}scale")("symlog", linthresh=threshold)
    floor = 0.9 * low if low > threshold else min(1.1 * low, -0.1 * threshold)
    getattr(axes, f"set_{name}lim")(floor, 1.15 * max(high, threshold))
    axis = getattr(axes, f"{name}axis")
    between = (1, 2, 5) if high < 1e3 * max(low, threshold) else (1,)
    axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold, subs=between))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _colours(n: int) -> list[Any]:
    import matplotlib

    palette = matplotlib.colormaps["tab10" if n <= 10 else "tab20"]
    return [palette(i % palette.N) for i in range(n)]


def _label(what: str, scaled: bool) -> str:
    return f"{what} (regret)" if scaled else f"{what} (score)"
