"""Features in place of roots: the same process, of mixtures seen another way.

A view maps roots (n, D) to as many features. Of schedules it is `PhaseView` (phased.py). Mixtures
need none, distances being Hellinger's; but where the results ask for it they have `TraceView`: by
logarithms of the weights a thousandth of a rare domain may matter as much as a tenth of all text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from climb_opt.gp.model import GaussianProcess

TRACE = 1e-3  # weight from which down a process of logarithms tells little


class View(Protocol):
    """How a process sees roots (n, D)."""

    def features(self, roots: np.ndarray) -> np.ndarray:
        """The features (n, D): as many as the roots."""

    def pull(self, root: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Gradient with respect to a root (D,), from that with respect to its features."""


@dataclass(frozen=True)
class TraceView:
    """log(w + TRACE): ratios of the weights count."""

    def features(self, roots: np.ndarray) -> np.ndarray:
        """See `View`."""
        return np.asarray(np.log(roots**2 + TRACE))

    def pull(self, root: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """See `View`."""
        return np.asarray(slope * 2 * root / (root**2 + TRACE))


@dataclass(frozen=True)
class Viewed:
    """A process of features as a `Surrogate` of roots."""

    inner: GaussianProcess
    view: View

    @property
    def noise(self) -> float:
        """See `Surrogate`."""
        return self.inner.noise

    @property
    def spread(self) -> float:
        """See `Surrogate`."""
        return self.inner.spread

    def mean(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return self.inner.mean(self.view.features(roots))

    def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        return self.inner.moments(self.view.features(roots))

    def slope(self, root: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        mean, std, by_mean, by_std = self.inner.slope(self.view.features(root[None])[0])
        return mean, std, self.view.pull(root, by_mean), self.view.pull(root, by_std)

    def joint(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        return self.inner.joint(self.view.features(roots))

    def imagine(self, roots: np.ndarray) -> Viewed:
        """See `Surrogate`."""
        return Viewed(self.inner.imagine(self.view.features(roots)), self.view)

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """See `GaussianProcess`."""
        return self.inner.left_out()
