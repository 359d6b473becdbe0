"""Schedules as a Gaussian process sees them: the mean mixture, and how phases deviate from it.

    u = sqrt(sum_p x_p)                          the mean mixture's root, (K,)
    d_p = sqrt(x_p) - sqrt(s_p) u                of every phase but the first, (P - 1, K)

A mixture held throughout has d = 0, so what is learnt of such mixtures is learnt as if there were
no phases. The deviations have length-scales and a linear term of their own (`fit.py`), whose
penalty leans towards "phases do not matter" until results say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TINY = 1e-12


@dataclass(frozen=True)
class PhaseView:
    """Maps roots (n, P K) of schedules with these shares to features (n, K + (P - 1) K)."""

    shares: tuple[float, ...]

    def plain(self, roots: np.ndarray) -> int:
        """Features before the deviations, K, of roots (n, P K)."""
        return roots.shape[1] // len(self.shares)

    def features(self, roots: np.ndarray) -> np.ndarray:
        """The features (n, P K): as many as the roots."""
        r, u = self._split(roots)
        d = r[:, 1:] - np.sqrt(self.shares)[1:, None] * u[:, None]
        return np.concatenate([u, *(d[:, p] for p in range(d.shape[1]))], axis=1)

    def pull(self, root: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Gradient with respect to a root (P K,), from that with respect to its features."""
        r, u = (rows[0] for rows in self._split(root[None]))
        count, k = r.shape
        by_u, by_d = slope[:k], slope[k:].reshape(count - 1, k)
        by_u = by_u - np.sqrt(self.shares)[1:] @ by_d
        # Where no phase reads a domain, u grows as if all did alike.
        toward = np.where(u > TINY, r / np.maximum(u, TINY), np.sqrt(self.shares)[:, None])
        back = toward * by_u
        back[1:] += by_d
        return np.asarray(back.ravel())

    def _split(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r = roots.reshape(len(roots), len(self.shares), roots.shape[1] // len(self.shares))
        return r, np.sqrt(np.einsum("npk,npk->nk", r, r))
