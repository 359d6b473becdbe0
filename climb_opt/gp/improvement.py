"""Log expected improvement and log feasibility of one mixture, with gradients.

In logs, because far from the incumbent the improvement itself underflows and has no slope (Ament et
al., arXiv 2310.20708).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import erfcx, log_ndtr

from climb_opt.gp.model import Surrogate
from climb_opt.gp.optimise import Smooth

LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


def log_improvement(mean: np.ndarray, std: np.ndarray, incumbent: float) -> np.ndarray:
    """log E[max(incumbent - f, 0)] for f ~ N(mean, std^2); shapes (m,)."""
    return np.asarray(np.log(std) + _log_h((incumbent - mean) / std))


def log_feasible(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """log P(f <= 0) for f ~ N(mean, std^2); shapes (m,)."""
    return np.asarray(log_ndtr(-mean / std))


def negative_improvement(
    objective: Surrogate, incumbent: float | None, constraints: Sequence[Surrogate] = ()
) -> Smooth:
    """-(log expected improvement + log feasibility) of sqrt(w); without incumbent, the latter."""

    def function(root: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = 0.0, np.zeros_like(root)
        if incumbent is not None:
            mean, std, mean_slope, std_slope = objective.slope(root)
            u = max((incumbent - mean) / std, -1e7)
            log_h = float(_log_h(np.array([u]))[0])
            value -= np.log(std) + log_h
            ratio = np.exp(float(log_ndtr(u)) - log_h)  # h' / h
            slope -= std_slope / std - ratio * (mean_slope + u * std_slope) / std
        for constraint in constraints:
            part, part_slope = _negative_log_feasible(constraint, root)
            value, slope = value + part, slope + part_slope
        return float(value), slope

    return function


def mean_of(
    objective: Surrogate, constraints: Sequence[Surrogate] = (), caution: float = 0.0
) -> Smooth:
    """Posterior mean + `caution` x its standard deviation, as a function of sqrt(w).

    With constraints, -log feasibility is added in units of the spread of the values, so that a
    likely breach is never worth it, with noise or without.
    """
    weight = max(objective.noise, objective.spread, 1e-12)

    def function(root: np.ndarray) -> tuple[float, np.ndarray]:
        mean, std, slope, std_slope = objective.slope(root)
        value, slope = mean + caution * std, slope + caution * std_slope
        for constraint in constraints:
            part, part_slope = _negative_log_feasible(constraint, root)
            value, slope = value + weight * part, slope + weight * part_slope
        return float(value), slope

    return function


def _negative_log_feasible(constraint: Surrogate, root: np.ndarray) -> tuple[float, np.ndarray]:
    mean, std, mean_slope, std_slope = constraint.slope(root)
    u = -mean / std
    log_p = float(log_ndtr(u))
    ratio = np.exp(-0.5 * u * u - LOG_ROOT_2PI - log_p)  # density / probability
    return -log_p, ratio * (mean_slope + u * std_slope) / std


def _log_h(u: np.ndarray) -> np.ndarray:
    """log(phi(u) + u Phi(u)), without cancellation for very negative u."""
    safe = np.maximum(u, -1.0)
    near = np.log(np.exp(-0.5 * safe**2 - LOG_ROOT_2PI) + safe * np.exp(log_ndtr(safe)))
    low = np.clip(u, -1e7, -1.0)
    # phi(u) + u Phi(u) = phi(u) (1 + u Phi(u) / phi(u)), and Phi / phi is erfcx up to a factor.
    inner = 1.0 + low * np.sqrt(np.pi / 2) * erfcx(-low / np.sqrt(2))
    inner = np.where(low < -1e3, 1.0 / low**2, inner)  # its series, where the sum cancels
    far = -0.5 * low**2 - LOG_ROOT_2PI + np.log(np.maximum(inner, 1e-300))
    return np.asarray(np.where(u > -1.0, near, far))
