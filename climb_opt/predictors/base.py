"""The contract of a predictor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from climb_opt.simplex import MixtureSpace


class Predictor(Protocol):
    """Learns scores from mixtures. Knows nothing of Optuna, rounds or which direction is better.

    A predictor may also have `mean(weights) -> (m,)`, the first half of `predict`, where the second
    half costs much more; `expected` uses it. One that has `know(space)` is given the `MixtureSpace`
    before it is fitted: how often a trial repeats each domain is told by no weight.

    >>> import numpy as np
    >>> class Mean:
    ...     def fit(self, weights, scores):
    ...         self.mean, self.std = scores.mean(), scores.std()
    ...
    ...     def predict(self, weights):
    ...         return np.full(len(weights), self.mean), np.full(len(weights), self.std)
    >>> import climb_opt
    >>> space = climb_opt.MixtureSpace({"web": 3, "code": 1})
    >>> sampler = climb_opt.ClimbSampler(space, predictor=Mean)
    """

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K), rows on the simplex, and `scores` (n,), n >= 1."""

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (m,) of a new trial's score at each row of `weights` (m, K).

        The deviation is that of the *score*, so it holds the noise of a run as well as what the
        predictor does not know.
        """


def informed(make: Callable[[], Predictor], space: MixtureSpace) -> Callable[[], Predictor]:
    """Makes the same untrained predictors, told of the space where they want to know it."""

    def made() -> Predictor:
        predictor = make()
        know = getattr(predictor, "know", None)
        if callable(know):
            know(space)
        return predictor

    return made


def levelled(scores: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Scores (n,), their mean, and their spread; it is 0 where they differ by rounding alone."""
    y = np.asarray(scores, dtype=float)
    mean, spread = float(y.mean()), float(y.std())
    return y, mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 0.0


def expected(predictor: Predictor, weights: np.ndarray) -> np.ndarray:
    """The mean (m,) alone: what ranks a large pool of candidates."""
    mean = getattr(predictor, "mean", None)
    if callable(mean):  # someone's own may be a number that it learnt
        return np.asarray(mean(weights), dtype=float)
    return np.asarray(predictor.predict(weights)[0], dtype=float)
