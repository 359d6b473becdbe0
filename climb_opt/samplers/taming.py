"""Scores with a long bad tail, made fit for a Gaussian process.

A run that diverged scores several times as badly as the others. A Gaussian process takes such a
jump for the slope of the whole space and promises, on the far side, scores that nothing can have
(measured: -5 bits per byte where the best of 112 trials had 1.2). So what lies far above the median
counts for less: beyond `median + REACH x (median - lower decile)` only the logarithm of the excess
is kept. Ranks stay, and so does every score on the good side; scores without a tail stay as they
are (normal ones reach this limit once in 16,000 draws).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from climb_opt.history import History

REACH = 3.0  # times the distance from the median to the lower decile: 3.8 sigma of normal scores
FEWEST = 8  # scores below which their spread is not known


def tame(values: np.ndarray) -> np.ndarray:
    """`values` (n,), lower is better, with the excess of far outliers replaced by its logarithm."""
    if len(values) < FEWEST:
        return values
    middle = float(np.median(values))
    spread = middle - float(np.quantile(values, 0.1))
    if spread <= 0:
        return values
    limit = middle + REACH * spread
    excess = np.maximum(values - limit, 0.0)
    return np.minimum(values, limit) + spread * np.log1p(excess / spread)


def tamed(history: History) -> History:
    """`history` with the tails of its values, and of each component, tamed."""
    columns = history.values.reshape(len(history), -1)
    values = np.stack([tame(column) for column in columns.T], axis=1)
    components = history.components
    if components is not None and history.coefficients is not None:
        signs = np.where(history.coefficients < 0, -1.0, 1.0)  # a component may be a gain
        parts = (signs * components).T
        components = signs * np.stack([tame(part) for part in parts], axis=1)
    return replace(history, values=values.reshape(history.values.shape), components=components)
