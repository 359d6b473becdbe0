"""Several beliefs about one function, each as likely as the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from climb_opt.gp.model import Surrogate


@dataclass(frozen=True)
class Mixed:
    """The mean and covariance of a mixture of `parts`, of equal shares: their own, and how far
    they lie apart."""

    parts: Sequence[Surrogate]

    @property
    def noise(self) -> float:
        """See `Surrogate`."""
        return float(np.sqrt(np.mean([part.noise**2 for part in self.parts])))

    @property
    def spread(self) -> float:
        """See `Surrogate`."""
        return float(np.sqrt(np.mean([part.spread**2 for part in self.parts])))

    def mean(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return np.asarray(np.mean([part.mean(roots) for part in self.parts], axis=0))

    def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        means, stds = map(np.array, zip(*(p.moments(roots) for p in self.parts), strict=True))
        return means.mean(axis=0), np.sqrt((stds**2).mean(axis=0) + means.var(axis=0))

    def slope(self, root: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        each = [part.slope(root) for part in self.parts]
        m, s, by_m, by_s = (np.array([found[i] for found in each]) for i in range(4))
        std = float(np.sqrt((s**2).mean() + m.var()))
        half = (s[:, None] * by_s + (m - m.mean())[:, None] * by_m).mean(axis=0)
        return float(m.mean()), std, by_m.mean(axis=0), half / std

    def joint(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        means, covariances = map(np.array, zip(*(p.joint(roots) for p in self.parts), strict=True))
        gaps = means - means.mean(axis=0)
        return means.mean(axis=0), covariances.mean(axis=0) + gaps.T @ gaps / len(gaps)

    def imagine(self, roots: np.ndarray) -> Mixed:
        """See `Surrogate`."""
        return Mixed([part.imagine(roots) for part in self.parts])
