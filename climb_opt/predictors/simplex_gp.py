"""The process that `SimplexGPSampler` searches with, as a predictor.

It needs no extra package and fits in milliseconds; `gp` is the same kernel in GPyTorch, for those
who want to go on from there.
"""

from __future__ import annotations

import numpy as np

from climb_opt.gp.fit import process_of
from climb_opt.gp.phased import PhaseView
from climb_opt.phases import shares_of
from climb_opt.simplex import MixtureSpace


class SimplexGP:
    """A Gaussian process on the square roots of the weights, the one `simplex-gp` searches with."""

    def __init__(self) -> None:
        self._view: PhaseView | None = None

    def know(self, space: MixtureSpace) -> None:
        """See schedules as such, where the space has phases."""
        shares = shares_of(space)
        self._view = PhaseView(shares) if shares else None

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1."""
        self._process = process_of(np.sqrt(weights), np.asarray(scores, dtype=float), self._view)

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of a new trial's score."""
        mean, std = self._process.moments(np.sqrt(weights))
        return mean, np.hypot(std, self._process.noise)
