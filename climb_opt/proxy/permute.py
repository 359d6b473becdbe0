"""A seeded shuffle of range(n) whose i-th item is computed on its own, in no memory.

A domain of a real corpus holds 10^8 sequences, of which a proxy reads 10^4: storing a permutation
would cost more than the training. A Feistel network on the bits of `i` is a permutation of a power
of four; walking on until the value is below n makes it one of range(n) (Black & Rogaway 2002,
"Ciphers with arbitrary finite domains"). The keys come from Philox, keyed by (seed, domain); the
epoch is mixed in, so every pass over a domain has its own order.
"""

from __future__ import annotations

import hashlib

import numpy as np

from climb_opt.bits import GOLDEN, scattered

ROUNDS = 6  # four are pseudo-random in theory (Luby & Rackoff 1988); small domains want two more


def domain_philox(seed: int, domain: str) -> np.random.Philox:
    """The random stream of a domain: depends on its name, not on its place among the domains."""
    digest = hashlib.sha256(domain.encode()).digest()[:8]
    name = int.from_bytes(digest, "little")
    return np.random.Philox(key=np.array([seed % 2**64, name], dtype=np.uint64))


class Permutations:
    """One shuffle of range(sizes[k]) per domain k and epoch.

    Args:
        sizes: (K,) items of each domain; may be 0 for a domain that is never asked for.
        keys: (K, ROUNDS) uint64, one row per domain.
    """

    def __init__(self, sizes: np.ndarray, keys: np.ndarray) -> None:
        self._sizes = np.asarray(sizes, dtype=np.uint64)
        bits = np.array([max(int(n) - 1, 0).bit_length() for n in sizes], dtype=np.uint64)
        self._half = np.maximum((bits + np.uint64(1)) // np.uint64(2), np.uint64(1))
        self._keys = np.asarray(keys, dtype=np.uint64)

    def __call__(self, domain: np.ndarray, item: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        """Where the `item`-th draw (n,) of `epoch` (n,) from `domain` (n,) lies, int64 (n,)."""
        value = item.astype(np.uint64)
        epochs = epoch.astype(np.uint64) * np.uint64(GOLDEN)
        todo = np.arange(len(value))
        while todo.size:
            k = domain[todo]
            value[todo] = self._network(value[todo], k, epochs[todo])
            todo = todo[value[todo] >= self._sizes[k]]
        return value.astype(np.int64)

    def _network(self, value: np.ndarray, k: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        half = self._half[k]
        mask = (np.uint64(1) << half) - np.uint64(1)
        left, right = value >> half, value & mask
        for r in range(ROUNDS):
            left, right = right, left ^ (scattered(right + epochs + self._keys[k, r]) & mask)
        return (left << half) | right
