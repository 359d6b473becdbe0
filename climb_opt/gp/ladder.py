"""A Gaussian process of several rungs: what cheap trials say of the target.

    y_r(x) = m_r + s_r (f(x) + d_r(x) + noise_r)        f: the target's function; d of the target: 0
    cov(f + d_r at x, f + d_q at x') = B[r, q] k(x, x')   B[r, q] = 1 + sum of eta_j, j >= max(r, q)

Deviations add up from the target downwards (Kennedy & O'Hagan 2000), so two cheap rungs that err
together are not taken for two witnesses; the correlation of a rung with the target is
1 / sqrt(B[r, r]). k is the kernel of one rung (model.py), so at the target nothing changes but the
matrix of the results. Hyper-parameters: ladder_fit.py.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from climb_opt.gp.model import JITTER, GaussianProcess, Shape
from climb_opt.gp.phased import PhaseView


class Results(NamedTuple):
    """Values (n,) at `roots` (n, K) on `rungs` (n,), of `height` rungs; n >= 1.

    `view`: of schedules, how a process sees them.
    """

    roots: np.ndarray
    values: np.ndarray
    rungs: np.ndarray
    height: int
    view: PhaseView | None = None

    @property
    def seen(self) -> tuple[np.ndarray, int]:
        """What the kernel compares (n, K), and its columns before the deviations of phases, if any
        are."""
        if self.view is None:
            return self.roots, 0
        return self.view.features(self.roots), self.view.plain(self.roots)

    @property
    def of_target(self) -> Results:
        """Those on the highest of the rungs."""
        return self.rows(self.rungs == self.height - 1)

    def rows(self, which: np.ndarray | slice) -> Results:
        """Those that `which` picks."""
        return self._replace(
            roots=self.roots[which], values=self.values[which], rungs=self.rungs[which]
        )


@dataclass(frozen=True)
class LadderShape:
    """Hyper-parameters: those of one rung, with the target's noise, and what rungs differ in.

    `log_noise` (R,) of each rung, relative to its function's variance; `log_eta` (R - 1,) from each
    rung to the next; `log_scale` (R,) standard deviation of each rung's function, 0 for the highest
    with results and those above. So eta says nothing of sizes, and nothing is known of it where one
    rung alone has results.
    """

    one: Shape
    log_noise: np.ndarray
    log_eta: np.ndarray
    log_scale: np.ndarray

    @property
    def links(self) -> np.ndarray:
        """B (R, R)."""
        above = np.append(np.cumsum(np.exp(self.log_eta)[::-1])[::-1], 0.0)
        place = np.arange(len(above))
        return np.asarray(1.0 + above[np.maximum.outer(place, place)])

    @property
    def units(self) -> np.ndarray:
        """s (R,)."""
        return np.asarray(np.exp(self.log_scale) / np.sqrt(np.diag(self.links)))

    @property
    def noises(self) -> np.ndarray:
        """Variances (R,) of one evaluation, in the units of the kernel."""
        return np.asarray(np.exp(self.log_noise) * np.diag(self.links))


class LadderProcess(GaussianProcess):
    """The posterior at the target given results on several rungs.

    While no trial of the target has finished, its scores are taken to be as those of the highest
    rung that has results, and the less sure for what may lie between.
    """

    def __init__(self, results: Results, shape: LadderShape) -> None:
        roots, values, rungs, _, view = self.results = results
        self._look(roots, shape.one, view)
        self._shape, self._rungs = shape, rungs
        self._links, self._units, self._noises = shape.links, shape.units, shape.noises
        self._factors = np.ones(len(roots))  # each rung has one noise
        self._condition(self._inputs(roots))
        self._seen, sets = sets_of(rungs)
        own = values / self._units[rungs]
        self._means, residual = profiled(sets, own, cho_solve(self._factor, sets))
        self.constant = float(self._means[-1])
        self._alpha = cho_solve(self._factor, residual)
        scale = float(residual @ self._alpha) / len(values)
        self.scale = max(scale, 1e-24 * float(np.max(np.abs(values), initial=1e-100)) ** 2)
        self.noise = float(np.sqrt(self.scale * self._noises[-1]))
        self.spread = float(np.std(values[rungs == self._seen[-1]])) or float(np.std(residual))
        self._values = values

    def imagine(self, roots: np.ndarray, rungs: np.ndarray | None = None) -> LadderProcess:
        """See `Surrogate`; the trials run on `rungs` (q,), by default the target."""
        if not len(roots):
            return self
        target = np.full(len(roots), len(self._units) - 1)
        other = copy.copy(self)
        other._rungs = np.concatenate([self._rungs, target if rungs is None else rungs])
        return GaussianProcess.imagine(other, roots)

    def measured(
        self, roots: np.ndarray, rung: int, at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What a trial at each of `roots` (m, K) on `rung` would show, in the target's units.

        Returns its standard deviation (m,), noise included, and its covariance (c, m) with the
        target's function at `at` (c, K).
        """
        x, c = self._inputs(roots), self._inputs(at)
        half = self._half(self._kernel(x, self._x) * self._links[rung, self._rungs])
        variance = self._prior_variance(x) * self._links[rung, rung]
        variance += self._noises[rung] - np.einsum("ij,ij->j", half, half)
        covariance = self._kernel(c, x) - self._half(self._kernel(c, self._x)).T @ half
        return np.sqrt(self.scale * np.maximum(variance, 1e-12)), self.scale * covariance

    def doubting(self, times: float) -> LadderProcess:
        """The same results, were the variances of what rungs differ in so many times as large."""
        differ = self._shape.log_eta + np.log(times)
        return LadderProcess(self.results, replace(self._shape, log_eta=differ))

    def at(self, rung: int) -> RungOfProcess:
        """What is believed of another rung, in its own units."""
        return RungOfProcess(self, rung)

    def correlation(self, rung: int) -> float:
        """Of the function of a rung with the target's, as it was found."""
        return float(1.0 / np.sqrt(self._links[rung, rung]))

    def says(self, rung: int) -> float:
        """What one result on a rung says of the target's function, as a correlation, relative to
        what one of the target says: a rung that no mixture explains is taken for noise."""
        told = np.diag(self._links) + self._noises
        return float(np.sqrt(min(1.0, told[-1] / told[rung])))

    def foretold(self) -> float:
        """Log density of the target's results, each predicted from all others, in nats."""
        rows = np.flatnonzero(self._rungs == len(self._units) - 1)
        diagonal = np.diag(self._inverse)[rows]
        precision, missed = diagonal / self.scale, self._alpha[rows] / diagonal
        found = np.log(precision / (2 * np.pi)) - missed**2 * precision
        return float(found.sum() / 2 - len(rows) * np.log(self._units[-1]))

    def aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """The values (n,) in the target's units, and how much each weighs (n,), at most 1.

        A result weighs as the share of its variance that is the target's function.
        """
        own = self._values / self._units[self._rungs]
        place = np.searchsorted(self._seen, self._rungs)
        shares = (1.0 + self._noises[-1]) / (np.diag(self._links) + self._noises)
        return own - self._means[place] + self.constant, np.minimum(shares, 1.0)[self._rungs]

    # --- private ---------------------------------------------------------------------------

    def _condition(self, x: np.ndarray) -> None:
        self._x, self._scaled = x, x / self._lengths
        matrix = self._kernel(x, x) * self._links[np.ix_(self._rungs, self._rungs)]
        matrix[np.diag_indices(len(x))] += self._noises[self._rungs] + JITTER
        self._factor = cho_factor(matrix, lower=True, check_finite=False)

    def _half(self, cross: np.ndarray) -> np.ndarray:
        return np.asarray(
            solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        )


@dataclass(frozen=True)
class RungOfProcess:
    """The function of one rung by a `LadderProcess`, in that rung's units."""

    process: LadderProcess
    rung: int

    @property
    def noise(self) -> float:
        """Standard deviation of one evaluation on it."""
        p, r = self.process, self.rung
        return float(np.sqrt(p.scale * p._noises[r]) * p._units[r])

    @property
    def constant(self) -> float:
        """Its mean; of a rung without results that of its neighbour."""
        p = self.process
        nearest = int(np.argmin(np.abs(p._seen - self.rung)))
        return float(p._units[self.rung] * p._means[nearest])

    def moments(self, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) at `roots` (m, K)."""
        p, r = self.process, self.rung
        x = p._inputs(roots)
        cross = p._kernel(x, p._x) * p._links[r, p._rungs]
        half = p._half(cross)
        variance = p._prior_variance(x) * p._links[r, r] - np.einsum("ij,ij->j", half, half)
        std = np.sqrt(p.scale * np.maximum(variance, 1e-12))
        return self.constant + p._units[r] * (cross @ p._alpha), np.asarray(p._units[r] * std)


def sets_of(rungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rungs with results (p,), lowest first, and which rows are theirs (n, p), as 0 and 1."""
    seen = np.unique(rungs)
    return seen, (rungs[:, None] == seen).astype(float)


def profiled(
    sets: np.ndarray, values: np.ndarray, solved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each rung's mean (p,) by generalised least squares, and what is left of the values (n,).

    Args:
        solved: inverse of the matrix times `sets`, (n, p).
    """
    means = np.linalg.solve(sets.T @ solved, solved.T @ values)
    return means, values - sets @ means
