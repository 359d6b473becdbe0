"""How far rungs rank mixtures alike, measured on the mixtures that were run on both.

A cheap rung is worth its cost as far as it ranks mixtures as the target does. What the scores of
the same mixtures say of that is kept by nobody else: `status`, the report and the dashboard show
it, from here. It is less than the true rankings agree, for the noise of single runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from climb_opt.statistics import FEWEST_PAIRS, rank_interval, spearman

if TYPE_CHECKING:
    from climb_opt.history import History

LEVEL = 0.9  # of the interval that is shown
SAME = 1e-4  # L1 distance: one token in 20,000 moves


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of rungs `lower` and `upper` over `n` mixtures run on both, with
    its 90 % interval; NaN and [-1, 1] where too few were, or all scores of one are equal.

    How often such intervals hold is measured (docs/measured.md#intervals-of-rank-correlations).
    """

    lower: int
    upper: int
    n: int
    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, lower: int, upper: int, scores: np.ndarray) -> Agreement:
        """The agreement of `scores` (n, 2): on the lower rung, and on the upper one."""
        n = len(scores)
        estimate = spearman(*scores.T) if n >= FEWEST_PAIRS else float("nan")
        interval = rank_interval(*scores.T, level=LEVEL) if n else (-1.0, 1.0)
        return cls(lower, upper, n, estimate, *interval)

    @property
    def known(self) -> bool:
        """Whether anything can be said."""
        return bool(np.isfinite(self.estimate))

    def __str__(self) -> str:
        if not self.known:
            few = self.n < FEWEST_PAIRS
            return f"too few mixtures on both ({self.n})" if few else "all scores equal"
        return f"{self.estimate:.2f} [{self.low:.2f}, {self.high:.2f}]"


def rank_agreement(history: History, rungs: int | None = None) -> list[Agreement]:
    """The agreement of each rung with the next, and with the target; of the first objective.

    Args:
        history: of every rung.
        rungs: how many there are; None: up to the highest that was reached.

    >>> import numpy as np
    >>> from climb_opt.history import History
    >>> history = History(np.array([[0.2, 0.8]] * 2), np.array([1.0, 2.0]), (), rungs=np.arange(2))
    >>> str(rank_agreement(history)[0])
    'too few mixtures on both (1)'
    """
    of = history.rungs
    if of is None or not len(of):
        return []
    target = (int(of.max()) + 1 if rungs is None else rungs) - 1
    return [
        Agreement.of(lower, upper, paired(history, lower, upper)[0])
        for lower in range(target)
        for upper in sorted({lower + 1, target})
    ]


def paired(history: History, lower: int, upper: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, 2) of the mixtures that were run on both rungs, and their rows of `lower` (n,).

    Each mixture counts once; of several runs on a rung the mean is taken.
    """
    if history.rungs is None:
        return np.empty((0, 2)), np.empty(0, dtype=int)
    below, above = (np.flatnonzero(history.rungs == rung) for rung in (lower, upper))
    if not len(below) or not len(above):
        return np.empty((0, 2)), np.empty(0, dtype=int)
    from scipy.spatial.distance import cdist  # 200 ms, for searches on several rungs

    values = history.values.reshape(len(history.values), -1)[:, 0]
    weights = history.weights
    both = below[cdist(weights[below], weights[above], "cityblock").min(axis=1) <= SAME]
    near = cdist(weights[both], weights[both], "cityblock") <= SAME
    first = both[~np.tril(near, -1).any(axis=1)]
    scores = [
        [_mean(values[rows], weights[rows], weights[row]) for rows in (below, above)]
        for row in first
    ]
    return np.array(scores).reshape(len(first), 2), first


def _mean(values: np.ndarray, weights: np.ndarray, mixture: np.ndarray) -> float:
    return float(np.mean(values[np.abs(weights - mixture).sum(axis=1) <= SAME]))
