"""How far off a predictor is, measured by cross-validation: the spread of predictors without one.

A predictor's error at a mixture grows with the distance to the nearest mixture it has seen. So the
model is refitted on parts of the data, its errors on the parts left out are compared with that
distance, and

    std(w) = a + b d(w),    d(w) = min over seen v of |sqrt(w) - sqrt(v)|,    a, b >= 0

is fitted to their size and scaled so that the squared errors come out right on average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import nnls

FOLDS = 5
Model = Callable[[np.ndarray], np.ndarray]


class Spread:
    """The fitted a + b d(w).

    Args:
        fit: weights (n, K), scores (n,) -> a function weights (m, K) -> means (m,).
        weights, scores: everything the predictor has seen, n >= 1.
    """

    def __init__(
        self,
        fit: Callable[[np.ndarray, np.ndarray], Model],
        weights: np.ndarray,
        scores: np.ndarray,
    ) -> None:
        self._roots = np.unique(np.sqrt(weights), axis=0)
        if len(scores) == 1:
            self._line = np.array([np.inf, 0.0])  # one score says nothing about the next
            return
        fold = np.random.default_rng(0).permutation(len(scores)) % min(FOLDS, len(scores))
        errors, distances = np.empty(len(scores)), np.empty(len(scores))
        for k in range(fold.max() + 1):
            seen, left_out = fold != k, fold == k
            model = fit(weights[seen], scores[seen])
            errors[left_out] = scores[left_out] - model(weights[left_out])
            distances[left_out] = nearest(np.sqrt(weights[left_out]), np.sqrt(weights[seen]))
        design = np.stack([np.ones(len(scores)), distances], axis=1)
        line, _ = nnls(design, np.abs(errors))
        fitted = np.mean((design @ line) ** 2)
        self._line = line * np.sqrt(np.mean(errors**2) / fitted) if fitted > 0 else line

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Standard deviation (m,) of a new score at `weights` (m, K)."""
        constant, slope = self._line
        if not slope:
            return np.full(len(weights), constant)
        return np.asarray(constant + slope * nearest(np.sqrt(weights), self._roots))


def nearest(roots: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Distance (m,) from each of `roots` (m, K), roots of mixtures, to the nearest of `seen`."""
    # Roots of mixtures have length 1, so |a - b|^2 = 2 - 2 a.b.
    return np.sqrt(np.maximum(2.0 - 2.0 * (roots @ seen.T).max(axis=1), 0.0))
