"""A process whose mean is tilted: known gains of the domains say in which direction scores fall.

    f(w) = -t s.w + g(w)     s (K,) what each domain gains; t >= 0; g an ordinary process

The data chooses how much: `t` is the least-squares slope of the first results on s.w, 0 where they
contradict it. It is fitted anew when the process is, every eighth result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from climb_opt.gp.model import Surrogate

LEAST = 4  # results below which a slope says nothing


@dataclass(frozen=True)
class Tilted:
    """`inner` models the values without what `slope` (K,), per unit of weight, explains."""

    inner: Surrogate
    slope_of_weights: np.ndarray
    spread: float  # of the values that were seen

    @property
    def noise(self) -> float:
        """See `Surrogate`."""
        return self.inner.noise

    def noise_at(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return self.inner.noise_at(roots)

    def mean(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return self.inner.mean(roots) + self._tilt(roots)

    def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        mean, std = self.inner.moments(roots)
        return mean + self._tilt(roots), std

    def slope(self, root: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        mean, std, by_mean, by_std = self.inner.slope(root)
        tilt = float(root**2 @ self.slope_of_weights)
        return mean + tilt, std, by_mean + 2 * root * self.slope_of_weights, by_std

    def joint(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        mean, covariance = self.inner.joint(roots)
        return mean + self._tilt(roots), covariance

    def imagine(self, roots: np.ndarray) -> Tilted:
        """See `Surrogate`."""
        return replace(self, inner=self.inner.imagine(roots))

    def _tilt(self, roots: np.ndarray) -> np.ndarray:
        return np.asarray(roots**2 @ self.slope_of_weights)


def tilt(gains: np.ndarray, roots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The slope (K,) of values (n,) at `roots` (n, K) along the gains (K,) of the domains."""
    gained = roots**2 @ gains
    centred = gained - gained.mean()
    squared = float(centred @ centred)
    if len(values) < LEAST or not squared > 0:
        return np.zeros_like(gains)
    return np.asarray(min(float(centred @ values) / squared, 0.0) * gains)
