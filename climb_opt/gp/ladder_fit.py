"""Hyper-parameters of the process of several rungs, by maximum penalised likelihood.

As of one rung (fit.py), with each rung's mean profiled out. Where little is known of a rung its
penalties leave it at a correlation of .88 with the next, .99 and .4 being as likely.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from climb_opt.gp.fit import (
    BOUNDS,
    EVERY,
    MAX_ROWS,
    STARTS,
    WARM,
    Fits,
    fit_shape,
    grams_of,
    with_deviations,
)
from climb_opt.gp.ladder import LadderProcess, LadderShape, Results, profiled, sets_of
from climb_opt.gp.model import JITTER, Shape, frame, matern52
from climb_opt.gp.penalties import SEARCHING, Penalties

# Penalties, as (centre, variance) of a normal, of log eta and log s; tuned on nothing.
DEVIATION = (float(np.log(0.3)), 2.25)
SCALE = (0.0, 0.25)
MISLED = -0.5  # nats, of `told`, from which the rungs below do more harm than good
ALONE = 12  # results of the target, as many as a search of one rung starts with, that then suffice
BOUND = {"eta": (-9.0, 5.0), "scale": (-2.5, 2.5)}


class LadderFits(Fits):
    """Processes of several rungs for growing data, as `Fits` of one."""

    def ladder(self, results: Results) -> LadderProcess:
        """The posterior given `results`, in order of arrival."""

        def shape(n: int, start: LadderShape | None) -> LadderShape:
            rows, iterations = results.rows(slice(n)), 60 if start is None else WARM
            make = partial(fit_ladder, rows, start, iterations, self.penalties)
            return self.remembered(rows[:3], make)

        n = len(results.values)
        dear = np.count_nonzero(results.rungs == results.rungs.max())
        # Of the few results on the highest rung each says much of how the others are related.
        full = n if dear < EVERY else EVERY * (n // EVERY) or n
        found = shape(full, None)
        return LadderProcess(results, shape(n, found) if full < n else found)

    def told(self, process: LadderProcess) -> float:
        """What the rungs below say of the target's results, in nats: by how much likelier these
        are, each foretold from all other results, than from those of the target alone; 0 where
        there is no more than one, or nothing else."""
        own = process.results.of_target
        if len(own.values) < 2 or len(own.values) == len(process.results.values):
            return 0.0
        return process.foretold() - self.ladder(own).foretold()

    def alone(self, process: LadderProcess, told: float) -> LadderProcess | None:
        """The process of the target's results alone, where they suffice and those of the rungs
        below mislead; else None.

        Such results tell a process at first more of the target than nothing does, and spoil it once
        the target's own are enough (docs/notes/searching.md#rungs-that-mislead).

        Args:
            told: what `told` says of the process.
        """
        own = process.results.of_target
        if len(own.values) < ALONE or told >= MISLED:
            return None
        return self.ladder(own)


def fit_ladder(
    results: Results,
    start: LadderShape | None = None,
    iterations: int = 60,
    penalties: Penalties = SEARCHING,
) -> LadderShape:
    """The hyper-parameters for `results`.

    Args:
        start, iterations, penalties: as of `fit_shape`.
    """
    if results.rungs.min() == results.height - 1:  # the target alone: the process of one rung
        rows, plain = results.seen
        begun = None if start is None else start.one
        one = fit_shape(rows, results.values, begun, iterations, replace(penalties, plain=plain))
        below = results.height - 1
        noise = np.append(np.full(below, penalties.noise[0]), one.log_noise)
        return LadderShape(one, noise, np.full(below, DEVIATION[0]), np.zeros(below + 1))
    if len(results.values) > MAX_ROWS:  # evenly spaced on each rung: a likelihood costs n^3
        order = np.argsort(results.rungs, kind="stable")
        results = results.rows(np.sort(order[np.linspace(0, len(order) - 1, MAX_ROWS).astype(int)]))
    problem = Likelihood(results, penalties)
    bounds = problem.bounds()
    options = {"maxiter": iterations, "maxcor": 10}
    found = [
        minimize(problem, theta, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
        for theta in problem.starts(start)
    ]
    return problem.shape(min(found, key=lambda result: float(result.fun)).x)


class Likelihood:
    """Penalised negative log likelihood of (lengths, noises, linear, etas, scales) and gradient."""

    def __init__(self, results: Results, penalties: Penalties = SEARCHING) -> None:
        roots, self.plain = results.seen
        self.penalties = replace(penalties, plain=self.plain)
        _, values, rungs, count, _ = results
        centre, width = frame(roots)
        self.x = x = (roots - centre) / width
        self.rungs, self.count = rungs, count
        self.seen, self.sets = sets_of(rungs)
        self.top = int(self.seen[-1])
        spreads = [float(np.std(values[rungs == r])) for r in self.seen]
        unit = max(spreads[-1], float(np.median(spreads))) or float(np.std(values)) or 1.0
        self.y = (values - values.mean()) / unit
        self.grams = grams_of(x, self.plain)
        higher = np.maximum.outer(rungs, rungs)
        self.below = [higher <= j for j in range(count - 1)]

    def bounds(self) -> list[tuple[float, float]]:
        k, r = self.x.shape[1], self.count
        one = [BOUNDS["length"]] * k + [BOUNDS["noise"]] * r + [BOUNDS["linear"]]
        both = one + [BOUND["eta"]] * (r - 1) + [BOUND["scale"]] * self.top
        return both + [BOUNDS["linear"]] * bool(self.plain)

    def starts(self, start: LadderShape | None) -> list[np.ndarray]:
        k, r = self.x.shape[1], self.count
        if start is not None:
            one, scale = start.one, start.log_scale[: self.top]
            linear, *deviating = one.log_linears
            rest = [*start.log_eta, *scale, *deviating]
            return [np.array([*one.log_lengths, *start.log_noise, linear, *rest])]
        rest = [DEVIATION[0]] * (r - 1) + [0.0] * self.top
        begun = [
            np.array([ell] * k + [noise] * r + [linear, *rest]) for ell, noise, linear in STARTS
        ]
        return with_deviations(begun, slice(self.plain, k)) if self.plain else begun

    def shape(self, theta: np.ndarray) -> LadderShape:
        lengths, noise, linear, eta, scale = self._parts(theta)
        more = (float(theta[-1]), self.plain) if self.plain else ()
        one = Shape(lengths, float(noise[-1]), float(linear), *more)
        return LadderShape(one, noise, eta, scale)

    def _parts(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        k, r = self.x.shape[1], self.count
        ends = [k, k + r, k + r + 1, k + 2 * r, k + 2 * r + self.top]
        lengths, noise, linear, eta, scale, _ = np.split(theta, ends)
        return lengths, noise, linear[0], eta, np.append(scale, np.zeros(r - self.top))

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        shape, x, rungs, n = self.shape(theta), self.x, self.rungs, len(self.y)
        lengths, linears = np.exp(shape.one.log_lengths), np.exp(shape.one.log_linears)
        eta, noise, units, size = np.exp(shape.log_eta), shape.noises, shape.units, shape.links
        links, size = size[np.ix_(rungs, rungs)], np.diag(size)
        matern, pull = matern52(x / lengths, x / lengths)
        kernel = sum((a * gram for a, gram in zip(linears, self.grams, strict=True)), start=matern)
        matrix = kernel * links
        matrix[np.diag_indices(n)] += noise[rungs] + JITTER
        factor = cho_factor(matrix, lower=True, check_finite=False)
        inverse = cho_solve(factor, np.eye(n), check_finite=False)
        own = self.y / units[rungs]
        _, residual = profiled(self.sets, own, inverse @ self.sets)
        alpha = inverse @ residual
        scale = max(float(residual @ alpha) / n, 1e-12)
        value = 0.5 * n * np.log(scale) + float(np.log(np.diag(factor[0])).sum())
        value += float(np.log(units)[rungs].sum())
        # d value / d matrix, of which every hyper-parameter takes its share.
        weight = 0.5 * (inverse - np.outer(alpha, alpha) / scale)
        linked = weight * links
        shared, diagonal, moved = linked * pull, np.diag(weight), weight * kernel
        by_length = 2 * (shared.sum(1) @ x**2 - np.einsum("ij,ij->j", x, shared @ x)) / lengths**2
        by_noise = noise * np.bincount(rungs, diagonal, self.count)
        by_unit = np.bincount(rungs, 1.0 - alpha * own / scale, self.count)
        by_linear = linears * [float(np.einsum("ij,ij->", linked, gram)) for gram in self.grams]
        # Of the matrix; of the noises and units, which are relative to what eta adds up to.
        by_sum = np.cumsum((by_noise - 0.5 * by_unit) / size)[:-1]
        by_eta = eta * (np.array([float(moved[low].sum()) for low in self.below]) + by_sum)
        parts = [by_length, by_noise, by_linear[:1], by_eta, by_unit[: self.top], by_linear[1:]]
        slope = np.concatenate(parts)
        return self._penalised(theta, value, slope)

    def _penalised(
        self, theta: np.ndarray, value: float, slope: np.ndarray
    ) -> tuple[float, np.ndarray]:
        k, r = self.x.shape[1], self.count
        one = [*range(k), k + r - 1, k + r]  # lengths, the target's noise, linear: as of one rung
        one += [len(theta) - 1] * bool(self.plain)
        cost, pull = self.penalties(theta[one])
        slope[one] += pull
        others = theta[k : k + r - 1] - self.penalties.noise[0]  # noises of the other rungs
        pulls = others / np.where(others > 0, self.penalties.noisier, self.penalties.noise[1])
        cost += float(others @ pulls) / 2
        slope[k : k + r - 1] += pulls
        for low, high, (centre, variance) in (
            (k + r + 1, k + 2 * r, DEVIATION),
            (k + 2 * r, k + 2 * r + self.top, SCALE),
        ):
            gap = theta[low:high] - centre
            cost += float(gap @ gap) / (2 * variance)
            slope[low:high] += gap / variance
        return value + cost, slope
