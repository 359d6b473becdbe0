"""The contract of a predictor."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Predictor(Protocol):
    """Learns scores from mixtures. Knows nothing of Optuna, rounds or which direction is better."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K), rows on the simplex, and `scores` (n,), n >= 1."""

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of the score at each row of `weights` (m, K)."""
