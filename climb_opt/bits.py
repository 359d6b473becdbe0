"""Numbers whose bits look random, made from others by arithmetic modulo 2^64."""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15  # odd, its bits irregular: 2^64 over the golden ratio


def scattered(z: np.ndarray) -> np.ndarray:
    """uint64 of which every bit depends on all bits of `z`: the finaliser of splitmix64 (Steele et
    al. 2014), which `java.util.SplittableRandom` has too."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
