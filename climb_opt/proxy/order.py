"""The order of one phase: which domain stands where, exactly, and without a table.

Of N sequences domain k gives n_k, by largest remainder, and its i-th one stands at time
(i + u_k) / n_k in [0, 1): every prefix is near the mixture, not only the end (`u_k` is a seeded
shift). Time is cut into blocks of about 4096 sequences; how many of a domain come before a block is
a formula, so a block is computed when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from climb_opt.apportion import apportion

BLOCK = 4096  # sequences computed at once: 0.3 us each (bench_train.py); smaller ones cost more


class Stretch(NamedTuple):
    """What a run reads in a phase: the first `length` of `whole` sequences of a mixture.

    They are all of them, but where the run leaves a longer one that goes on.
    """

    mixture: Mapping[str, float]
    length: int
    whole: int


def largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Whole counts (K,) that sum to `total`, each within 1 of weights x total; zeros stay zero."""
    exact = np.asarray(weights, dtype=float) / np.sum(weights) * total
    # Ties go to the larger weight, then to the earlier domain.
    largest_first = np.argsort(-exact, kind="stable")
    counts = np.empty(len(exact), dtype=np.int64)
    counts[largest_first] = apportion(exact[largest_first], total)
    return counts


class Order:
    """Domain and item of each sequence of a phase.

    Args:
        weights: (K,) of the domains; their sum is positive.
        shift: (K,) in [0, 1): the time of a domain's first item, in its own steps.
        length: sequences that are read, of `whole`.

    Attributes:
        starts: (blocks + 1,) the first position of each block, and the end.
        counts: (K,) sequences that are read of each domain.
    """

    def __init__(self, weights: np.ndarray, shift: np.ndarray, length: int, whole: int) -> None:
        self._all, self._shift = largest_remainder(weights, whole), shift
        self._blocks = -(-whole // BLOCK)
        starts = [int(self._before(b).sum()) for b in range(self._blocks + 1)]
        used = int(np.searchsorted(starts, length))  # blocks that begin before the end
        self.starts = np.array([*starts[:used], length], dtype=np.int64)
        self.counts = self._all
        if length < whole:
            domain, _ = self.block(used - 1)
            self.counts = self._before(used - 1) + np.bincount(domain, minlength=len(shift))

    def block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The domain (n,) of each position of a block, and which of the domain's items it is."""
        first, last = self._before(block), self._before(block + 1)
        size = last - first
        domain = np.repeat(np.arange(len(size)), size)
        ends = np.cumsum(size)
        item = np.arange(len(domain)) - np.repeat(ends - size - first, size)
        time = (item + self._shift[domain]) / self._all[domain]
        order = np.argsort(time, kind="stable")[: self.starts[block + 1] - self.starts[block]]
        return domain[order], item[order]

    def _before(self, block: int) -> np.ndarray:
        # Item i of domain k stands before time t when i + u_k < n_k t.
        if block >= self._blocks:
            return self._all
        exact = self._all * (block / self._blocks) - self._shift
        return np.clip(np.ceil(exact), 0, self._all).astype(np.int64)
