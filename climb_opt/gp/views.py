"""Features in place of roots: the same process, of mixtures seen another way.

A view maps roots (n, D) to as many features. Of schedules it is `PhaseView` (phased.py). Mixtures
need none, distances being Hellinger's; but where the results ask for it they have `TraceView`: by
logarithms of the weights a thousandth of a rare domain may matter as much as a tenth of all text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

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
