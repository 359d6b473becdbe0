"""Hypervolume improvement, for joint posterior samples of several objectives (minimised).

The part of objective space below a reference point that no point of the front dominates is cut
into boxes; a candidate's improvement is the volume of them that it dominates. Exact for any number
of objectives; the boxes grow as (front size)^(objectives - 1), so it serves two and three.
"""

from __future__ import annotations

import numpy as np


def front(values: np.ndarray) -> np.ndarray:
    """Which rows of `values` (n, m) no other row dominates; of equal rows, the first."""
    below = np.all(values[:, None] <= values[None], axis=2)  # row i <= row j everywhere
    equal = below & below.T
    earlier = np.tri(len(values), k=-1, dtype=bool).T  # i < j
    dominated = np.any((below & ~equal) | (equal & earlier), axis=0)
    return np.asarray(~dominated)


def reference_point(values: np.ndarray) -> np.ndarray:
    """A point (m,) a tenth of the front's range worse than the worst of the front of (n, m)."""
    best = values[front(values)]
    spread = np.ptp(best, axis=0)
    typical = values.std(axis=0)
    spread = np.where(spread > 0, spread, np.where(typical > 0, typical, 1.0))
    return np.asarray(best.max(axis=0) + 0.1 * spread)


def boxes(points: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners (b, m) of boxes that fill what `points` (n, m) leave undominated."""
    points = points[np.all(points < reference, axis=1)]
    if points.shape[1] == 1:
        upper = points.min(axis=0) if len(points) else reference
        return np.array([[-np.inf]]), upper.reshape(1, 1)
    points = points[front(points)] if len(points) else points
    points = points[np.argsort(points[:, -1], kind="stable")]
    edges = np.concatenate([[-np.inf], points[:, -1], reference[-1:]])
    lows, highs = [], []
    # In a slab of the last objective only the points below it count: one objective fewer.
    for i in range(len(edges) - 1):
        if edges[i] < edges[i + 1]:
            low, high = boxes(points[:i, :-1], reference[:-1])
            lows.append(np.column_stack([low, np.full(len(low), edges[i])]))
            highs.append(np.column_stack([high, np.full(len(high), edges[i + 1])]))
    return np.concatenate(lows), np.concatenate(highs)


def improvement(candidates: np.ndarray, points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """By how much each candidate (c, m) raises the hypervolume of `points` (n, m), shape (c,)."""
    low, high = boxes(points, reference)
    sides = high[None] - np.maximum(low[None], candidates[:, None])
    return np.asarray(np.maximum(sides, 0.0).prod(axis=2).sum(axis=1))
