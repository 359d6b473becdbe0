"""Figures of bench_ladder.py: FLOPs at which recommendations are as good as asked, and ratios.

A *curve* is what one search recommended: [{"flops": in target trials, <rule>: regret}, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

CLOSE = 0.1  # standard deviations: a row as good as the best
LEVELS = (16, 32, 64)  # trials of a single rung whose regret is to be matched
Points = list[dict[str, float]]


def settled(curve: Points, level: float, what: str = "auto") -> float:
    """FLOPs from which on the recommendation is never worse than `level`; infinite if never."""
    since = float("inf")
    for point in curve:
        if what in point:
            since = min(since, point["flops"]) if point[what] <= level else float("inf")
    return since


def nine_of_ten(times: Iterable[float]) -> float:
    """The time by which nine tenths of the seeds have settled."""
    ordered = sorted(times)
    return ordered[int(np.ceil(0.9 * len(ordered))) - 1]


def nine_at_once(curves: list[Points], level: float) -> float:
    """FLOPs at which first nine tenths of the seeds recommend something not worse than `level`."""
    for flops in sorted({p["flops"] for curve in curves for p in curve}):
        if np.mean([at(curve, flops) <= level for curve in curves]) >= 0.9:
            return flops
    return float("inf")


def at(curve: Points, flops: float, what: str = "auto") -> float:
    """The regret of what is recommended when so many FLOPs are spent; infinite before the first."""
    seen = [p[what] for p in curve if what in p and p["flops"] <= flops + 1e-9]
    return seen[-1] if seen else float("inf")


def reached(curves: list[Points], level: float) -> float:
    """FLOPs at which the median regret of the curves first is at `level`."""
    times = sorted({p["flops"] for curve in curves for p in curve})
    for flops in times:
        if float(np.median([at(curve, flops) for curve in curves])) <= level:
            return flops
    return float("inf")


def ratio(ours: list[Points], theirs: list[Points], level: Callable[[list[Points]], float]) -> str:
    """FLOPs of `theirs` to those of `ours` for one regret, with a paired bootstrap interval."""

    def found(pick: np.ndarray) -> float:
        wanted = level([theirs[i] for i in pick])
        mine, other = (reached([c[i] for i in pick], wanted) for c in (ours, theirs))
        return mine / other

    rng, n = np.random.default_rng(0), len(ours)
    drawn = [found(rng.integers(n, size=n)) for _ in range(200)]
    low, high = np.quantile(drawn, [0.05, 0.95], method="nearest")
    return f"{found(np.arange(n)):.3f} [{low:.3f}, {high:.3f}]"
