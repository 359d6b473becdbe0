"""The process that `SimplexGPSampler` searches with, as a predictor.

It needs no extra package and fits in milliseconds; `gp` is the same kernel in GPyTorch, for those
who want to go on from there.
"""

from __future__ import annotations

import numpy as np

from climb_opt.gp.fit import process_of


class SimplexGP:
    """A Gaussian process on the square roots of the weights, the one `simplex-gp` searches with."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1."""
        self._process = process_of(np.sqrt(weights), np.asarray(scores, dtype=float))

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of a new trial's score."""
        mean, std = self._process.moments(np.sqrt(weights))
        return mean, np.hypot(std, self._process.noise)
