# Written by hub/build.py from climb_opt: change it there.
"""Minimise a smooth function of a mixture, with no constraint left to the optimiser.

A free vector v stands for the mixture w = v^2 / |v|^2, so sqrt(w) = v / |v|: the sum needs no
constraint, and a face of the simplex (weights of exactly 0) is an ordinary point with a slope.
Bounds: weights stop at them, and the others share what is left in proportion to v^2, which is
`MixtureSpace.project`; the slope passes through the weights that are not stopped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from .gp_schedule_sphere import SchedulePoint
from .phases import PhasedSpace
from .simplex import MixtureSpace

SMALLEST = 2e-4  # a weight below this becomes 0, as in RegMix's sampler
LARGEST = 1.5  # bound of v; its length means nothing, so this only keeps steps short

# A function of sqrt(w) (K,), and its gradient.
Smooth = Callable[[np.ndarray], tuple[float, np.ndarray]]


def descend(
    function: Smooth, starts: np.ndarray, space: MixtureSpace, iterations: int = 40
) -> np.ndarray:
    """Local minima (m, K), as weights, reached from each row of `starts` (m, K), weights."""
    return tidy(np.array([_descend(function, w, space, iterations) for w in starts]), space)


def tidy(weights: np.ndarray, space: MixtureSpace) -> np.ndarray:
    """`weights` (m, K) without specks: those below `SMALLEST` become 0, within the bounds."""
    return space.project(np.where(weights < SMALLEST, 0.0, weights).reshape(-1, len(space)))


def sphere_point(v: np.ndarray, space: MixtureSpace) -> tuple[np.ndarray, np.ndarray, float]:
    """sqrt(w) (K,), which weights no bound stops (K,), and their common factor: sqrt(w) = r v."""
    length = float(v @ v)
    if length < 1e-300:
        return np.sqrt(space.prior), np.zeros(len(v), dtype=bool), 0.0
    if not space.bounded:
        return v / np.sqrt(length), np.ones(len(v), dtype=bool), 1.0 / np.sqrt(length)
    weights, free = settle(v**2 / length, space)
    squares = float(v[free] @ v[free])
    factor = np.sqrt(float(weights[free].sum()) / squares) if squares > 1e-300 else 0.0
    return np.sqrt(weights), free, float(factor)


def settle(weights: np.ndarray, space: MixtureSpace) -> tuple[np.ndarray, np.ndarray]:
    """`MixtureSpace.project` of one mixture (K,), and which weights no bound stops.

    Stops the weights on the side with the larger breach, rescales the others, and repeats: a few
    steps, where the bisection of `project` takes seventy.
    """
    low, high = space.lower, space.upper
    settled, free = weights, np.ones(len(weights), dtype=bool)
    for _ in range(2 * len(weights)):
        below, above = low - settled, settled - high
        under, over = np.maximum(below, 0.0).sum(), np.maximum(above, 0.0).sum()
        if max(under, over) <= 1e-13:
            return settled, free
        stopped = (below > 0) if under >= over else (above > 0)
        settled = np.where(stopped, low if under >= over else high, settled)
        free &= ~stopped
        room, mass = 1.0 - settled[~free].sum(), weights[free].sum()
        if mass <= 1e-12 or room < 0:
            break
        settled = np.where(free, weights * (room / mass), settled)
    projected = space.project(weights)
    return projected, (projected > low) & (projected < high)


def pull_back(slope: np.ndarray, v: np.ndarray, free: np.ndarray, factor: float) -> np.ndarray:
    """Gradient with respect to v, from the one with respect to sqrt(w)."""
    back = np.zeros_like(v)
    inside = v[free]
    if factor == 0.0 or not inside.size:
        return back
    radial = float(slope[free] @ inside) / float(inside @ inside)
    back[free] = factor * (slope[free] - radial * inside)
    return back


def _descend(
    function: Smooth, start: np.ndarray, space: MixtureSpace, iterations: int
) -> np.ndarray:
    def point(v: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        if isinstance(space, PhasedSpace):
            at = SchedulePoint(v, space)
            return at.root, at.back
        root, free, factor = sphere_point(v, space)
        return root, lambda slope: pull_back(slope, v, free, factor)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        root, back = point(v)
        value, slope = function(root)
        return value, back(slope)

    v = np.sqrt(start)
    # Under bounds a second run starts at the projected point, where a weight that ran past its
    # bound, and so lost its slope, has it again.
    for _ in range(2 if space.bounded else 1):
        found = minimize(
            objective,
            v,
            method="L-BFGS-B",
            jac=True,
            bounds=[(0.0, LARGEST)] * len(v),
            options={"maxiter": iterations},
        )
        v, _ = point(found.x)
    return np.asarray(v**2)
