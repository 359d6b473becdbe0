"""Hyper-parameters of the Gaussian process, by maximum penalised likelihood.

The length-scales are *hierarchical*: each is drawn towards their mean, which the data chooses. With
64 domains and 112 results a plain prior per length-scale overfits (regret .085 against .026 without
noise, and it recommends .168: docs/notes/searching.md#the-process).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from climb_opt.gp.model import JITTER, GaussianProcess, Shape, frame, matern52
from climb_opt.gp.penalties import DEVIATING, DEVIATING_MEAN, LINEAR, SEARCHING, Penalties
from climb_opt.gp.phased import PhaseView
from climb_opt.gp.uneven import Uneven
from climb_opt.gp.views import TraceView, View

T = TypeVar("T")

BOUNDS = {"length": (-4.0, 8.0), "noise": (-14.0, 4.0), "linear": (-8.0, 6.0)}
STARTS = ((0.7, -4.0, 0.0), (1.4, -1.0, 0.0))  # log length, log noise, log linear
MANY = 64  # domains, above which a full fit costs seconds and its last digits change no figure
EVERY = 8  # results between full fits of growing data
WARM = 5  # L-BFGS steps between them
MEMORY = 64  # fits remembered
TRACES = TraceView()
ODDS = 3.0  # log odds, 20 to 1, from which results ask for logarithms of the weights
MAX_ROWS = 400  # a likelihood costs n^3: beyond this, hyper-parameters come from a subset


def fit_shape(
    roots: np.ndarray,
    values: np.ndarray,
    start: Shape | None = None,
    iterations: int = 60,
    penalties: Penalties = SEARCHING,
) -> Shape:
    """The hyper-parameters for values (n,) at `roots` (n, K), n >= 1.

    Args:
        start: begin there (a warm start) instead of at the two standard points.
        iterations: L-BFGS steps from each start.
        penalties: with the columns before those that are deviations of phases.
    """
    rows = _subset(values)
    x, y = standardised(roots[rows], values[rows])
    penalties = penalties.of_rows(rows)
    k, plain = x.shape[1], penalties.plain
    bounds = [BOUNDS["length"]] * k + [BOUNDS["noise"]] + [BOUNDS["linear"]] * (2 if plain else 1)
    if start is None:
        starts = [np.array([length] * k + [noise, linear]) for length, noise, linear in STARTS]
    else:
        starts = [np.array([*start.log_lengths, start.log_noise, *start.log_linears])]
    if len(starts[0]) < len(bounds):
        starts = with_deviations(starts, slice(plain, k))
    options = {"maxiter": iterations, "maxcor": 10}
    found = [
        minimize(
            _loss, s, (x, y, penalties), method="L-BFGS-B", jac=True, bounds=bounds, options=options
        )
        for s in starts
    ]
    best = min(found, key=lambda result: float(result.fun)).x
    more = (float(best[k + 2]), plain) if plain else ()
    return Shape(best[:k], float(best[k]), float(best[k + 1]), *more)


def fit(roots: np.ndarray, values: np.ndarray) -> GaussianProcess:
    """The Gaussian process for values (n,) at `roots` (n, K), hyper-parameters fitted."""
    return GaussianProcess(roots, values, fit_shape(roots, values))


def process_of(
    roots: np.ndarray, values: np.ndarray, view: PhaseView | None = None
) -> GaussianProcess:
    """The process for values (n,) at `roots` (n, K), n >= 1, fitted once.

    Args:
        view: of schedules, how a process sees them.
    """

    def fitted(rows: np.ndarray, plain: int) -> Shape:
        penalties = replace(SEARCHING, plain=plain)
        if (k := roots.shape[1]) <= MANY:
            return fit_shape(rows, values, penalties=penalties)
        start = Shape(np.full(k, 0.7), -4.0, 0.0)
        return fit_shape(rows, values, start, 15, penalties)

    seen, shape = asked_for(roots, values, view, fitted)
    return GaussianProcess(roots, values, shape, seen)


def asked_for(
    roots: np.ndarray,
    values: np.ndarray,
    view: View | None,
    fitted: Callable[[np.ndarray, int], Shape],
    penalties: Penalties = SEARCHING,
) -> tuple[View | None, Shape]:
    """How results ask to be seen, and the shape of that: mixtures by `TraceView` where it explains
    them much better than roots do.

    Args:
        view: one that is known to be right, of schedules.
        fitted: rows (n, D), and their columns before deviations of phases -> their shape.
        penalties: what it fits with.
    """
    if view is not None:
        return view, fitted(*_seen(roots, view))
    shape, other = fitted(roots, 0), fitted(TRACES.features(roots), 0)
    rows = TRACES.features(roots)
    gained = cost_of(roots, values, shape, penalties) - cost_of(rows, values, other, penalties)
    return (TRACES, other) if gained > ODDS else (None, shape)


def cost_of(
    rows: np.ndarray, values: np.ndarray, shape: Shape, penalties: Penalties = SEARCHING
) -> float:
    """The penalised negative log likelihood of a shape, of rows (n, K) without phases."""
    theta = np.array([*shape.log_lengths, shape.log_noise, shape.log_linear])
    which = _subset(values)
    return _loss(theta, *standardised(rows[which], values[which]), penalties.of_rows(which))[0]


def standardised(roots: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and values as a likelihood takes them."""
    centre, width = frame(roots)
    spread = float(values.std())
    return (roots - centre) / width, (values - values.mean()) / (spread if spread > 0 else 1.0)


def _seen(roots: np.ndarray, view: View | None) -> tuple[np.ndarray, int]:
    """The rows of a fit, and how many columns are before those that are deviations; 0: none is."""
    rows = roots if view is None else view.features(roots)
    return rows, view.plain(roots) if isinstance(view, PhaseView) else 0


class Fits:
    """Gaussian processes for growing data: a full fit every eighth result, warm steps between.

    A pure function of the rows, whatever was fitted before, so a restarted search proposes what an
    uninterrupted one would; the latest fits are only remembered, never built upon.
    """

    def __init__(self, penalties: Penalties = SEARCHING) -> None:
        self.penalties = penalties
        self._shapes: dict[bytes, Any] = {}

    def process(
        self,
        roots: np.ndarray,
        values: np.ndarray,
        view: PhaseView | None = None,
        uneven: Uneven | None = None,
    ) -> GaussianProcess:
        """The posterior given values (n,) at `roots` (n, K), rows in order of arrival; n >= 1.

        Args:
            view: of schedules, how a process sees them.
            uneven: how noise differs between mixtures, where it is known to.
        """
        full = EVERY * (len(values) // EVERY) or len(values)
        factors = None if uneven is None else uneven.factors(roots)
        every = replace(self.penalties, factors=factors)
        first = every.of_rows(slice(full))

        def fitted(rows: np.ndarray, plain: int) -> Shape:
            return self._shape(rows, values[:full], None, replace(first, plain=plain))

        seen, shape = asked_for(roots[:full], values[:full], view, fitted, first)
        if full < len(values):
            rows, plain = _seen(roots, seen)
            shape = self._shape(rows, values, shape, replace(every, plain=plain))
        return GaussianProcess(roots, values, shape, seen, uneven)

    def _shape(
        self, rows: np.ndarray, values: np.ndarray, start: Shape | None, penalties: Penalties
    ) -> Shape:
        iterations = 60 if start is None else WARM
        make = partial(fit_shape, rows, values, start, iterations, penalties)
        told = [] if penalties.factors is None else [penalties.factors]
        return self.remembered((rows, values, *told), make)

    def remembered(self, rows: Sequence[np.ndarray], make: Callable[[], T]) -> T:
        """What `make` finds for these rows, found once."""
        digest = hashlib.blake2b(digest_size=16)
        for array in rows:
            digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.digest()
        shape = self._shapes.pop(key, None)
        if shape is None:
            shape = make()
        self._shapes[key] = shape  # last in, last out
        while len(self._shapes) > MEMORY:
            del self._shapes[next(iter(self._shapes))]
        found: T = shape
        return found


def _subset(values: np.ndarray) -> np.ndarray | slice:
    """Which rows a fit takes: the best quarter of `MAX_ROWS` and evenly spaced others."""
    n = len(values)
    if n <= MAX_ROWS:
        return slice(None)
    order = np.argsort(values, kind="stable")
    best, rest = order[: MAX_ROWS // 4], np.sort(order[MAX_ROWS // 4 :])
    spaced = rest[np.linspace(0, len(rest) - 1, MAX_ROWS - len(best)).astype(int)]
    return np.sort(np.concatenate([best, spaced]))


def with_deviations(starts: Sequence[np.ndarray], lengths: slice) -> list[np.ndarray]:
    """Where fits begin whose length-scales `lengths` are of deviations, their linear term last: of
    no account, or like the others, for a likelihood that has both optima."""
    begun = [np.append(theta, DEVIATING[0]) for theta in starts]
    for theta in begun:
        theta[lengths] += DEVIATING_MEAN[0] - SEARCHING.length[0]
    return [np.append(starts[0], LINEAR[0]), *begun]


def _loss(
    theta: np.ndarray, x: np.ndarray, y: np.ndarray, penalties: Penalties = SEARCHING
) -> tuple[float, np.ndarray]:
    """Penalised negative log likelihood, scale and mean profiled out, and its gradient."""
    n, k = x.shape
    lengths, noise, linears = np.exp(theta[:k]), np.exp(theta[k]), np.exp(theta[k + 1 :])
    matern, pull = matern52(x / lengths, x / lengths)
    grams = grams_of(x, penalties.plain)
    matrix = sum((a * gram for a, gram in zip(linears, grams, strict=True)), start=matern)
    noises = noise * (np.ones(n) if penalties.factors is None else penalties.factors)
    matrix[np.diag_indices(n)] += noises + JITTER
    factor = cho_factor(matrix, lower=True, check_finite=False)
    inverse = cho_solve(factor, np.eye(n), check_finite=False)
    column = inverse.sum(axis=0)
    residual = y - (column @ y) / column.sum()
    alpha = inverse @ residual
    scale = max(float(residual @ alpha) / n, 1e-12)
    value = 0.5 * n * np.log(scale) + float(np.log(np.diag(factor[0])).sum())
    # d value / d matrix, of which every hyper-parameter takes its share.
    weight = 0.5 * (inverse - np.outer(alpha, alpha) / scale)
    shared = weight * pull
    by_length = 2 * (shared.sum(1) @ x**2 - np.einsum("ij,ij->j", x, shared @ x)) / lengths**2
    by_noise = float(np.diag(weight) @ noises)
    by_linears = linears * [float(np.einsum("ij,ij->", weight, gram)) for gram in grams]
    cost, slope = penalties(theta)
    return value + cost, np.concatenate([by_length, [by_noise, *by_linears]]) + slope


def grams_of(x: np.ndarray, plain: int) -> list[np.ndarray]:
    """Products (n, n) of rows x (n, K): of all columns, or of the plain ones and of the others."""
    parts = [x[:, :plain], x[:, plain:]] if plain else [x]
    return [part @ part.T for part in parts]
