"""Several beliefs as one: of one function, each as likely as the others; of the parts of a sum."""

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

    def noise_at(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return np.sqrt(np.mean([part.noise_at(roots) ** 2 for part in self.parts], axis=0))

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


@dataclass(frozen=True)
class WeightedSum:
    """A sum of independent surrogates, coefficient x surrogate: one per component of the score."""

    parts: Sequence[Surrogate]
    coefficients: np.ndarray

    @property
    def noise(self) -> float:
        """See `Surrogate`."""
        return float(np.sqrt(sum((c * p.noise) ** 2 for c, p in self._pairs())))

    def noise_at(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return np.sqrt(sum((c * part.noise_at(roots)) ** 2 for c, part in self._pairs()))

    @property
    def spread(self) -> float:
        """See `Surrogate`; as if the parts varied independently."""
        return float(np.sqrt(sum((c * p.spread) ** 2 for c, p in self._pairs())))

    def mean(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return np.asarray(sum(c * part.mean(roots) for c, part in self._pairs()))

    def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        each = [(c, *part.moments(roots)) for c, part in self._pairs()]
        variance = sum((c * s) ** 2 for c, _, s in each)
        return np.asarray(sum(c * m for c, m, _ in each)), np.sqrt(variance)

    def slope(self, root: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        mean, variance = 0.0, 1e-300
        mean_slope, half = np.zeros_like(root), np.zeros_like(root)
        for c, part in self._pairs():
            m, s, dm, ds = part.slope(root)
            mean, variance = mean + c * m, variance + (c * s) ** 2
            mean_slope, half = mean_slope + c * dm, half + c * c * s * ds
        std = float(np.sqrt(variance))
        return mean, std, mean_slope, half / std

    def joint(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        each = [(c, *part.joint(roots)) for c, part in self._pairs()]
        covariance = sum(c * c * v for c, _, v in each)
        return np.asarray(sum(c * m for c, m, _ in each)), np.asarray(covariance)

    def imagine(self, roots: np.ndarray) -> WeightedSum:
        """See `Surrogate`."""
        return WeightedSum([part.imagine(roots) for part in self.parts], self.coefficients)

    def _pairs(self) -> list[tuple[float, Surrogate]]:
        return list(zip(self.coefficients.tolist(), self.parts, strict=True))
