"""Scores with a long bad tail, made fit for a Gaussian process.

A run that diverged scores several times as badly as the others. A Gaussian process takes such a
jump for the slope of the whole space and promises, on the far side, scores that nothing can have
(-5 bits per byte where the best of 112 trials had 1.2: docs/notes/searching.md#draws-under-noise).
So what lies far above the median counts for less: beyond `median + REACH x (median - lower decile)`
only the logarithm of the excess is kept. Ranks stay, and so does every score on the good side;
scores without a tail stay as they are (normal ones reach this limit once in 16,000 draws).

Once a search has concentrated, most scores are alike and the ordinary ones it began with lie "far
above": the prior's own, against which the gain is counted. A model that only proposes does well to
look away from them. One that makes promises must not, so for it the limit is that of mixtures from
everywhere, however few of the trials they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from climb_opt.history import History

REACH = 3.0  # times the distance from the median to the lower decile: 3.8 sigma of normal scores
ABSURD = 100.0  # the same: no noise reaches it, and no table of real runs
FEWEST = 8  # scores below which that distance is not well known: only the absurd is a tail
APART = 16  # mixtures that stand for the whole space: as many as a search begins with
DECILE = 1.9  # distance of a decile from the median, in quartiles of normal scores
ENDLESS = 8.0  # logarithm of an excess beyond which its size says no more: 3,000 spreads


def tame(values: np.ndarray, beyond: float = REACH, among: np.ndarray | None = None) -> np.ndarray:
    """`values` (n,), lower is better, with the excess of far outliers replaced by its logarithm.

    Args:
        beyond: how far the farthest must lie, for anything to be changed.
        among: rows of which the limit may be taken, too, where it is wider than that of all.
    """
    if not len(values):
        return values
    middle, spread, most = _reach(values, beyond)
    if among is not None:
        wider = _reach(values[among], beyond, both_sides=True)
        middle, spread, most = max((middle, spread, most), wider, key=lambda reach: reach[2])
    if spread <= 0 or float(values.max()) <= most:
        return values
    limit = middle + REACH * spread
    size = np.log1p(np.maximum(values - limit, 0.0) / spread)
    size = np.minimum(size, ENDLESS) + np.log1p(np.maximum(size - ENDLESS, 0.0))
    return np.minimum(values, limit) + spread * size


def tamed(history: History, beyond: float = REACH, among: np.ndarray | None = None) -> History:
    """`history` with the tails of its values, and of each component, tamed; see `tame`."""
    columns = history.values.reshape(len(history), -1)
    values = np.stack([tame(column, beyond, among) for column in columns.T], axis=1)
    components = history.components
    if components is not None and history.coefficients is not None:
        signs = np.where(history.coefficients < 0, -1.0, 1.0)  # a component may be a gain
        parts = (signs * components).T
        components = signs * np.stack([tame(part, beyond, among) for part in parts], axis=1)
    return replace(history, values=values.reshape(history.values.shape), components=components)


def as_scored(history: History) -> History:
    """`history` as a model of what to promise must see it: only what diverged is tamed."""
    return tamed(history, among=_everywhere(history.weights))


# --- private -------------------------------------------------------------------------------------


def _reach(
    values: np.ndarray, beyond: float, *, both_sides: bool = False
) -> tuple[float, float, float]:
    """Median, its distance to the lower decile, and how far a score may lie.

    Args:
        both_sides: take the distance to the upper decile, too, read off the upper quartile, which
            runs that diverged do not move: scores of mixtures from everywhere are skewed.
    """
    middle = float(np.median(values))
    spread = middle - float(np.quantile(values, 0.1))
    if both_sides:
        spread = max(spread, DECILE * (float(np.quantile(values, 0.75)) - middle))
    beyond = max(beyond, ABSURD if len(values) < FEWEST else REACH)
    return middle, spread, middle + beyond * spread


def _everywhere(weights: np.ndarray) -> np.ndarray:
    """`APART` rows of `weights` (n, K) that lie far from each other, each the farthest yet."""
    roots, rows = np.sqrt(weights), list[int]()
    nearest = ((roots - roots.mean(axis=0)) ** 2).sum(axis=1)
    for _ in range(min(APART, len(roots))):
        rows.append(int(np.argmax(nearest)))
        own = ((roots - roots[rows[-1]]) ** 2).sum(axis=1)
        nearest = own if len(rows) == 1 else np.minimum(nearest, own)
    return np.array(rows, dtype=int)
