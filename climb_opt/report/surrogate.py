"""The report's own model of a study: a Gaussian process on the square roots of the weights.

It needs no extra package and fits in milliseconds; `SimplexGPSampler` searches with the same one.
Where trials store components there is one process per component, then their sum.
"""

from __future__ import annotations

import numpy as np

from climb_opt.gaussian.fitting import fit
from climb_opt.gaussian.process import GaussianProcess, WeightedSum
from climb_opt.history import History


def surrogate_of(history: History) -> GaussianProcess | WeightedSum:
    """The posterior of the oriented score given every row of the history; it has at least one."""
    roots = np.sqrt(history.weights)
    if history.components is None or history.coefficients is None:
        return fit(roots, history.values)
    used = np.flatnonzero(history.coefficients)
    if len(used) < 2:
        return fit(roots, history.values)
    parts = [fit(roots, history.components[:, c]) for c in used]
    return WeightedSum(parts, history.coefficients[used])


class SimplexGP:
    """The same process as a predictor (`predictors/base.py`), one score at a time."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1."""
        self._process = fit(np.sqrt(weights), np.asarray(scores, dtype=float))

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of a new trial's score."""
        mean, std = self._process.moments(np.sqrt(weights))
        return mean, np.hypot(std, self._process.noise)
