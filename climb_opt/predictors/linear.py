"""Ordinary least squares on the weights: RegMix's other predictor, the floor for all of them."""

from __future__ import annotations

import numpy as np


class LinearPredictor:
    """score = w . slopes, by least squares; the smallest slopes when runs are fewer than domains.

    No constant: weights sum to 1, so the slopes hold it.
    """

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1."""
        w, y = np.asarray(weights, dtype=float), np.asarray(scores, dtype=float)
        self._shift = float(y.mean())
        self._inverse = np.linalg.pinv(w)
        self._slopes = self._inverse @ (y - self._shift)
        free = len(y) - int(np.linalg.matrix_rank(w))
        residual = y - self._shift - w @ self._slopes
        # Without a degree of freedom left, the scores' own spread is the honest answer.
        self._variance = float(residual @ residual) / free if free > 0 else float(y.var())

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The mean (m,) of `predict` alone."""
        return np.asarray(self._shift + np.asarray(weights, dtype=float) @ self._slopes)

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of a new score at `weights` (m, K)."""
        w = np.asarray(weights, dtype=float)
        leverage = np.sum((w @ self._inverse) ** 2, axis=1)
        return self.mean(w), np.sqrt(self._variance * (1.0 + leverage))
