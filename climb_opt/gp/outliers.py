"""Scores with a long bad tail, made fit for a Gaussian process.

A run that diverged scores several times as badly as the others. A Gaussian process takes such a
jump for the slope of the whole space and promises, on the far side, scores that nothing can have
(-5 bits per byte where the best of 112 trials had 1.2: docs/notes/searching.md#draws-under-noise).
So what lies far above the median counts for less: beyond `median + REACH x (median - lower decile)`
only the logarithm of the excess is kept. Ranks stay, and so does every score on the good side;
scores without a tail stay as they are (normal ones reach this limit once in 16,000 draws).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from climb_opt.history import History

REACH = 3.0  # times the distance from the median to the lower decile: 3.8 sigma of normal scores
ABSURD = 100.0  # the same: no noise reaches it, and no table of real runs
FEWEST = 8  # scores below which that distance is not well known: only the absurd is a tail
ENDLESS = 8.0  # logarithm of an excess beyond which its size says no more: 3,000 spreads


def tame(values: np.ndarray, beyond: float = REACH) -> np.ndarray:
    """`values` (n,), lower is better, with the excess of far outliers replaced by its logarithm.

    Args:
        beyond: how far the farthest must lie, for anything to be changed.
    """
    if not len(values):
        return values
    middle = float(np.median(values))
    spread = middle - float(np.quantile(values, 0.1))
    beyond = max(beyond, ABSURD if len(values) < FEWEST else REACH)
    if spread <= 0 or float(values.max()) <= middle + beyond * spread:
        return values
    limit = middle + REACH * spread
    size = np.log1p(np.maximum(values - limit, 0.0) / spread)
    size = np.minimum(size, ENDLESS) + np.log1p(np.maximum(size - ENDLESS, 0.0))
    return np.minimum(values, limit) + spread * size


def tamed(history: History, beyond: float = REACH) -> History:
    """`history` with the tails of its values, and of each component, tamed; see `tame`."""
    columns = history.values.reshape(len(history), -1)
    values = np.stack([tame(column, beyond) for column in columns.T], axis=1)
    components = history.components
    if components is not None and history.coefficients is not None:
        signs = np.where(history.coefficients < 0, -1.0, 1.0)  # a component may be a gain
        parts = (signs * components).T
        components = signs * np.stack([tame(part, beyond) for part in parts], axis=1)
    return replace(history, values=values.reshape(history.values.shape), components=components)
