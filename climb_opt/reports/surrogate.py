"""The report's own model of a study: a Gaussian process on the square roots of the weights.

It needs no extra package and fits in milliseconds; `SimplexGPSampler` searches with the same one.
Runs that diverged count for less (`gp/outliers.py`).
Where trials store components there is one process per component, then their sum.
"""

from __future__ import annotations

import numpy as np

from climb_opt.gp.fit import fit_shape
from climb_opt.gp.model import GaussianProcess, Shape, WeightedSum
from climb_opt.gp.outliers import tamed
from climb_opt.history import History

MANY = 64  # domains, above which a full fit costs seconds and its last digits change no figure


def surrogate_of(history: History) -> GaussianProcess | WeightedSum:
    """The posterior of the oriented score given every row of the history; it has at least one."""
    history, roots = tamed(history), np.sqrt(history.weights)
    if history.components is None or history.coefficients is None:
        return process_of(roots, history.values)
    used = np.flatnonzero(history.coefficients)
    if len(used) < 2:
        return process_of(roots, history.values)
    parts = [process_of(roots, history.components[:, c]) for c in used]
    return WeightedSum(parts, history.coefficients[used])


def process_of(roots: np.ndarray, values: np.ndarray) -> GaussianProcess:
    """The process for values (n,) at `roots` (n, K)."""
    k = roots.shape[1]
    if k <= MANY:
        shape = fit_shape(roots, values)
    else:
        shape = fit_shape(roots, values, Shape(np.full(k, 0.7), -4.0, 0.0), iterations=15)
    return GaussianProcess(roots, values, shape)


class SimplexGP:
    """The same process as a predictor (`predictors/base.py`), one score at a time."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1."""
        self._process = process_of(np.sqrt(weights), np.asarray(scores, dtype=float))

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of a new trial's score."""
        mean, std = self._process.moments(np.sqrt(weights))
        return mean, np.hypot(std, self._process.noise)
