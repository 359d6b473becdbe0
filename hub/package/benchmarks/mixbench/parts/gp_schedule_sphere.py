# Written by hub/build.py from climb_opt: change it there.
"""The sphere of `optimise.py` for schedules: a norm for each phase, and caps across them.

Each phase's block of sqrt(x) has the length sqrt(s_p). Where a domain is at its cap, the column of
its roots has a length, too. What is left to move along is orthogonal to all of these; bounds stop
weights as they do for mixtures.
"""

from __future__ import annotations

import numpy as np

from .phases import PhasedSpace
from .phases_caps import scaled

AT = 1e-9  # a total this near to its cap is stopped by it
SPECK = 1e-12  # a weight this near to its bound is stopped by it
NONE = 1e-150  # an entry of v below has no direction of its own


class SchedulePoint:
    """The schedule that a free vector v (P K) stands for, and the slope's way back to v."""

    def __init__(self, v: np.ndarray, space: PhasedSpace) -> None:
        shape = (len(space.shares), len(space.base))
        rows = v.reshape(shape)
        lengths = np.sqrt(np.einsum("pk,pk->p", rows, rows))
        self._capped = np.empty(0, dtype=int)
        self._free = np.ones(shape, dtype=bool)
        if not space.bounded and lengths.min() > NONE:
            self._factor = (np.sqrt(space.shares) / lengths)[:, None] * self._free
            self._root = self._factor * rows
        elif space.coupled and not space.bounded_phases and lengths.min() > NONE:
            x = (rows / lengths[:, None]) ** 2 * space.shares[:, None]
            found, held = (each[0] for each in scaled(x[None], space.shares, space.cap))
            self._root, self._capped = np.sqrt(found), np.flatnonzero(held < 1)
            self._factor = self._factor_of(rows)
        else:
            self._stop(rows, space)
        self.root = self._root.ravel()

    def _stop(self, rows: np.ndarray, space: PhasedSpace) -> None:
        x = space.project((rows**2).ravel())
        self._root = np.sqrt(x).reshape(rows.shape)
        within = np.asarray(x > space.lower + SPECK) & (x < space.upper - SPECK)
        within = within | (space.lower == 0) & (x == 0)  # a face of the simplex has a slope
        self._free = within.reshape(rows.shape)
        if space.coupled:
            self._capped = np.flatnonzero(space.mean(x) >= space.cap - AT)
        self._factor = self._factor_of(rows)

    def _factor_of(self, rows: np.ndarray) -> np.ndarray:
        """sqrt(x) = factor x v; a weight of 0 has the factor of its phase."""
        some = rows > NONE
        factor = np.divide(self._root, rows, out=np.zeros_like(rows), where=some)
        factor = np.where(some, factor, factor.max(axis=1, keepdims=True))
        return np.where(self._free, factor, 0.0)

    def back(self, slope: np.ndarray) -> np.ndarray:
        """Gradient with respect to v, from the one with respect to sqrt(x)."""
        inside = np.where(self._free, slope.reshape(self._root.shape), 0.0)
        roots = np.where(self._free, self._root, 0.0)
        if len(self._capped):
            held = self._along(inside, roots)
        else:
            squares = np.maximum(np.einsum("pk,pk->p", roots, roots), 1e-300)
            held = (np.einsum("pk,pk->p", inside, roots) / squares)[:, None] * roots
        return np.asarray((self._factor * (inside - held)).ravel())

    def _along(self, inside: np.ndarray, roots: np.ndarray) -> np.ndarray:
        """The part of a slope along which sums of phases and capped domains hold it."""
        normals = []
        for place in range(len(roots)):
            normals.append(np.zeros_like(roots))
            normals[-1][place] = roots[place]
        for k in self._capped:
            normals.append(np.zeros_like(roots))
            normals[-1][:, k] = roots[:, k]
        matrix = np.stack([normal.ravel() for normal in normals], axis=1)
        found = np.linalg.lstsq(matrix, inside.ravel(), rcond=None)[0]
        return np.asarray((matrix @ found).reshape(roots.shape))
