"""Shares of a whole in whole numbers, by largest remainders."""

from __future__ import annotations

import numpy as np


def apportion(parts: np.ndarray, total: int, unit: float = 1) -> np.ndarray:
    """Whole numbers (..., K) that sum to `total`, each within 1 of parts / unit.

    What rounding down leaves goes to the largest remainders; of equal ones, to the earlier.

    Args:
        parts: (..., K), of which each row sums to about total * unit. Whole numbers of any size
            (dtype object) are divided exactly.
    """
    whole, rest = parts // unit, parts % unit
    left = total - whole.sum(axis=-1, keepdims=True)
    rank = np.argsort(np.argsort(-rest, axis=-1, kind="stable"), axis=-1)
    return np.asarray(whole + (rank < left)).astype(np.int64)
