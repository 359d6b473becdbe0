"""The Gaussian process: its kernel and its posterior.

    x = (sqrt(w) - centre) / width                                      one width for all columns
    k(x, x') = scale * ( Matern52(x, x'; l_1..l_K) + linear x.x' + noise 1[same row] )

The noise is one, or differs between mixtures as `uneven.py` says.

The square root makes the distance between mixtures Hellinger's, which ranks real proxy runs better
than plain, log-ratio or no transform of the weights at the sizes of a search (RegMix's and
Olmix's tables: docs/notes/searching.md#predictors); `views.py` has the exception. `scale` and the
constant mean are profiled out: maximum likelihood and generalised least squares.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from climb_opt.gp.uneven import Uneven, factors
from climb_opt.gp.views import View

ROOT5 = np.sqrt(5.0)
JITTER = 1e-9  # on the diagonal of a correlation matrix, so that repeated rows have a factor


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters: log length-scale per domain (K,), log noise and log linear variance.

    Noise and linear variance are relative to the Matern part, whose variance is 1. Of schedules the
    last (P - 1) / P of the columns are deviations of phases (`phased.py`), whose linear variance is
    another.
    """

    log_lengths: np.ndarray
    log_noise: float
    log_linear: float
    log_deviating: float | None = None
    plain: int = 0  # columns before the deviations, where there are any

    @property
    def log_linears(self) -> list[float]:
        """Of the linear terms: of the one, or of the plain columns and of the deviations."""
        return [self.log_linear, *([] if self.log_deviating is None else [self.log_deviating])]


class Surrogate(Protocol):
    """A belief about a function of the mixture, given as square roots of the weights."""

    @property
    def noise(self) -> float:
        """Standard deviation of one evaluation around the function, in units of the values."""

    def noise_at(self, roots: np.ndarray) -> np.ndarray:
        """The same (m,) at `roots` (m, K), where it differs between mixtures."""

    @property
    def spread(self) -> float:
        """Standard deviation of the values that were seen."""

    def mean(self, roots: np.ndarray) -> np.ndarray:
        """Mean (m,) of the function at `roots` (m, K)."""

    def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of the function at `roots` (m, K)."""

    def slope(self, root: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """Mean, standard deviation and their gradients (K,) with respect to one `root` (K,)."""

    def joint(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and covariance (m, m) of the function at `roots` (m, K)."""

    def imagine(self, roots: np.ndarray) -> Surrogate:
        """The belief after evaluations at `roots` (q, K) that come out as expected."""


class GaussianProcess:
    """The posterior given values (n,) at `roots` (n, K), for one `Shape`; n >= 1.

    Args:
        view: how the process sees roots, where not as they are.
        uneven: how noise differs between mixtures; None: not.
    """

    uneven: Uneven | None = None

    def __init__(
        self,
        roots: np.ndarray,
        values: np.ndarray,
        shape: Shape,
        view: View | None = None,
        uneven: Uneven | None = None,
    ) -> None:
        self._look(roots, shape, view)
        self.uneven, self._factors = uneven, factors(uneven, roots)
        self._condition(self._inputs(roots))
        n, ones = len(values), np.ones(len(values))
        solved = cho_solve(self._factor, ones)
        self.constant = float(solved @ values / solved.sum())
        self._alpha = cho_solve(self._factor, values - self.constant)
        scale = float((values - self.constant) @ self._alpha) / n
        self.scale = max(scale, 1e-24 * float(np.max(np.abs(values), initial=1e-100)) ** 2)
        self.noise = float(np.sqrt(self.scale * np.exp(shape.log_noise)))
        self.spread = float(np.std(values))
        self._values = values

    def noise_at(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        return self.noise * np.sqrt(factors(self.uneven, roots))

    def mean(self, roots: np.ndarray) -> np.ndarray:
        """See `Surrogate`."""
        cross = self._kernel(self._inputs(roots), self._x)
        return np.asarray(self.constant + cross @ self._alpha)

    def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        x = self._inputs(roots)
        cross = self._kernel(x, self._x)
        mean = self.constant + cross @ self._alpha
        half = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        variance = self._prior_variance(x) - np.einsum("ij,ij->j", half, half)
        return mean, np.sqrt(self.scale * np.maximum(variance, 1e-12))

    def slope(self, root: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        x = self._inputs(root[None])[0]
        gap = x / self._lengths - self._scaled
        distance = np.sqrt(np.einsum("ij,ij->i", gap, gap))
        decay = np.exp(-ROOT5 * distance)
        rise = 1.0 + ROOT5 * distance
        cross = (rise + (5 / 3) * distance**2) * decay + self._dot(self._x, x)
        pull = -(5 / 3) * rise * decay  # d Matern / d (half the squared distance)
        solved = self._inverse @ cross
        variance = 1.0 + float(self._dot(x, x)) - cross @ solved
        mean_slope = self._cross_slope(x, pull, self._alpha)
        variance_slope = 2 * self._linear * x - 2 * self._cross_slope(x, pull, solved)
        if variance <= 1e-12:
            variance, variance_slope = 1e-12, np.zeros_like(x)
        std = float(np.sqrt(self.scale * variance))
        by_mean = mean_slope / self._width
        by_std = self.scale * variance_slope / (2 * std * self._width)
        if self.view is not None:
            by_mean, by_std = self.view.pull(root, by_mean), self.view.pull(root, by_std)
        return self.constant + float(cross @ self._alpha), std, by_mean, by_std

    def joint(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Surrogate`."""
        x = self._inputs(roots)
        cross = self._kernel(x, self._x)
        half = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        covariance = self._kernel(x, x) - half.T @ half
        return self.constant + cross @ self._alpha, self.scale * covariance

    def imagine(self, roots: np.ndarray) -> Self:
        """See `Surrogate`. Only the spread changes: results that are expected teach no mean."""
        if not len(roots):
            return self
        other = copy.copy(self)
        other.__dict__.pop("_inverse", None)
        other._factors = np.concatenate([self._factors, factors(self.uneven, roots)])
        other._condition(np.concatenate([self._x, self._inputs(roots)]))
        other._alpha = np.concatenate([self._alpha, np.zeros(len(roots))])
        return other

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and standard deviation (n,) predicted for each value from all the others."""
        diagonal = np.diag(self._inverse)[: len(self._values)]
        mean = self._values - self._alpha[: len(self._values)] / diagonal
        return mean, np.sqrt(self.scale / diagonal)

    # --- private ---------------------------------------------------------------------------

    def _look(self, roots: np.ndarray, shape: Shape, view: View | None) -> None:
        """Take up the shape, and the frame of what is known."""
        self.shape, self.view = shape, view
        self._centre, self._width = frame(roots if view is None else view.features(roots))
        self._lengths = np.exp(shape.log_lengths)
        self._linear: float | np.ndarray = float(np.exp(shape.log_linear))
        if shape.log_deviating is not None:  # one for each column
            columns = np.arange(len(self._lengths)) < shape.plain
            self._linear = np.where(columns, self._linear, np.exp(shape.log_deviating))

    def _inputs(self, roots: np.ndarray) -> np.ndarray:
        """What the kernel compares (m, K), of `roots` (m, K)."""
        rows = roots if self.view is None else self.view.features(roots)
        return np.asarray((rows - self._centre) / self._width)

    def _condition(self, x: np.ndarray) -> None:
        self._x, self._scaled = x, x / self._lengths
        matrix = self._kernel(x, x)
        matrix[np.diag_indices(len(x))] += np.exp(self.shape.log_noise) * self._factors + JITTER
        self._factor = cho_factor(matrix, lower=True, check_finite=False)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.asarray(cho_solve(self._factor, np.eye(len(self._x)), check_finite=False))

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        matern, _ = matern52(a / self._lengths, b / self._lengths)
        return matern + self._dot(a, b.T)

    def _dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a @ b in the linear part's variances."""
        if isinstance(self._linear, float):
            return np.asarray(self._linear * (a @ b))
        return np.asarray((a * self._linear) @ b)

    def _prior_variance(self, x: np.ndarray) -> np.ndarray:
        if isinstance(self._linear, float):
            return np.asarray(1.0 + self._linear * np.einsum("ij,ij->i", x, x))
        return np.asarray(1.0 + np.einsum("ij,ij->i", x * self._linear, x))

    def _cross_slope(self, x: np.ndarray, pull: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Gradient of k(x, X) @ c with respect to x."""
        weighted = pull * c
        matern = (weighted.sum() * x - weighted @ self._x) / self._lengths**2
        return np.asarray(matern + self._linear * (c @ self._x))


def frame(roots: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (K,) and width of the data: x = (roots - centre) / width."""
    width = float(np.max(np.ptp(roots, axis=0), initial=0.0))
    return roots.mean(axis=0), width if width > 1e-6 else 1.0


def matern52(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matern-5/2 correlations (n, m) of scaled inputs, and -d/d(half squared distance) of them."""
    squared = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b) - 2 * (a @ b.T)
    distance = np.sqrt(5.0 * np.maximum(squared, 0.0))
    decay = np.exp(-distance)
    return (1.0 + distance + distance**2 / 3) * decay, (5 / 3) * (1.0 + distance) * decay


def draw(surrogate: Surrogate, roots: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Joint samples (s, m) of the function at `roots` (m, K) from standard normals (s, m)."""
    mean, covariance = surrogate.joint(roots)
    level = float(np.trace(covariance)) / len(mean)
    for relative in (1e-9, 1e-7, 1e-5, 1e-3):
        try:
            shifted = covariance + max(relative * level, 1e-300) * np.eye(len(mean))
            factor = np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:  # rounding: the covariance of near-equal points
            continue
        return np.asarray(mean + normals @ factor.T)
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(mean + normals @ (vectors * np.sqrt(np.maximum(values, 0.0))).T)
