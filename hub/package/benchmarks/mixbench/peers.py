# Written by hub/build.py from climb_opt: change it there.
"""Peers of the literature as methods, each as its authors specify it; numpy and scipy alone.

    olmix    one exponential law of the weights, Huber loss, many starts; the law's minimum with a
             penalty on the distance from the prior (arXiv 2602.12237's public code)
    regmix   boosted trees; the mean of the best 128 of 100,000 draws around the prior (arXiv
             2407.01492's public code); needs LightGBM
    marin    saturating benefit and harm of epochs under a floor-and-log link; its minimum from the
             prior and the best runs (marin-community/marin)
    quadratic  a ridge regression on logarithms of epochs and their squares; its minimum

The first three recommend from the shared random design. `public.py` runs the authors' own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from .methods import Data, Method, Pick, missing
from .problems import Problem
from .parts.predictors_ridge import non_negative

Predicted = Callable[[np.ndarray], np.ndarray]

# Olmix: `LogLinearRegressor.fit` and `LogLinearExactProposer.propose`.
OLMIX_DELTA, OLMIX_KL = 0.02, 0.05
OLMIX_LEVELS, OLMIX_EACH, OLMIX_SEED = np.linspace(-2.0, 1.5, 10), 30, 42  # its 300 starts
OLMIX_EVERY = 5  # of them are tried, for OLMIX_STEPS; the best go on. With six starts alone a fit
OLMIX_STEPS, OLMIX_BEST, OLMIX_MOST = 60, 12, 2000  # of 12 domains ended in another valley
# RegMix: the notebook of its repository.
REGMIX_DRAWS, REGMIX_TOP, REGMIX_SEED, REGMIX_STOP = 100_000, 128, 42, 3
REGMIX_TREES = {
    "boosting_type": "gbdt",
    "objective": "regression",
    "metric": ["l1", "l2"],
    "learning_rate": 1e-2,
    "verbosity": -1,
    "seed": 42,
    "num_threads": 1,  # not theirs: one thread, so that a run is the same wherever it runs
}
REGMIX_ROUNDS = 1000
ASIDE = 8  # every so many-th run, of which LightGBM is told when to stop; theirs are a test set
# Marin: rho, tau and the floor; k is 1.
MARIN_RHO = np.geomspace(0.1, 10.0, 6)
MARIN_TAU = (0.5, 1.0, 2.0)
MARIN_FLOOR = 0.95  # of the lowest score
MARIN_RIDGE = 1e-2
MARIN_STARTS = 4  # runs, beside the prior
MARIN_GRID = 2048  # parts into which its weights are rounded


def olmix(problem: Problem, data: Data, seed: int) -> Pick:
    """Olmix's proposal: argmin exp(t.w) + .05 KL(w || prior) of the law exp(c) + exp(t.w)."""
    law = olmix_law(data.weights, data.scores)
    prior = np.maximum(problem.space.prior, 1e-12)

    def value(w: np.ndarray) -> float:
        apart = w * np.log(np.maximum(w, 1e-12) / prior)
        return float(np.exp(w @ law[1:]) + OLMIX_KL * np.sum(apart))

    def slope(w: np.ndarray) -> np.ndarray:
        pulled = np.log(np.maximum(w, 1e-12) / prior) + 1.0
        return np.asarray(np.exp(w @ law[1:]) * law[1:] + OLMIX_KL * pulled)

    weights = _lowest_by_slope(problem, value, slope, [prior / prior.sum()])
    return Pick(weights, float(np.exp(law[0]) + np.exp(weights @ law[1:])))


def olmix_predict(problem: Problem, data: Data, seed: int) -> Predicted:
    """Olmix's law as a function of mixtures."""
    law = olmix_law(data.weights, data.scores)
    return lambda weights: np.exp(law[0]) + np.exp(weights @ law[1:])


def olmix_law(weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(1 + K): c and t of exp(c) + exp(t.w), which a Huber loss of .02 fits best."""

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        level, bent = np.exp(min(theta[0], 50.0)), np.exp(np.minimum(weights @ theta[1:], 50.0))
        gap = level + bent - scores
        near = np.abs(gap) <= OLMIX_DELTA
        value = np.where(near, gap**2 / 2, OLMIX_DELTA * (np.abs(gap) - OLMIX_DELTA / 2))
        slope = np.clip(gap, -OLMIX_DELTA, OLMIX_DELTA)
        return float(value.sum()), np.concatenate([[slope.sum() * level], (slope * bent) @ weights])

    def fits(starts: Iterable[np.ndarray], steps: int) -> list[OptimizeResult]:
        found = [
            minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
            for start in starts
        ]
        return sorted(found, key=lambda fit: float(fit.fun))

    short = fits(olmix_starts(weights.shape[1])[::OLMIX_EVERY], OLMIX_STEPS)
    return np.asarray(fits((fit.x for fit in short[:OLMIX_BEST]), OLMIX_MOST)[0].x)


def olmix_starts(domains: int) -> np.ndarray:
    """Olmix's own 300 starts (300, 1 + K) of its fit of a first result."""
    draws = np.random.RandomState(OLMIX_SEED).rand(len(OLMIX_LEVELS) * OLMIX_EACH, domains)
    slopes = np.column_stack([-draws[:, :1], draws[:, 1:] * 0.1])
    return np.column_stack([np.repeat(OLMIX_LEVELS, OLMIX_EACH), slopes])


def regmix(problem: Problem, data: Data, seed: int) -> Pick:
    """RegMix's proposal: the mean of the 128 best predicted of draws from Dirichlet(prior)."""
    model = regmix_predict(problem, data, seed)
    draws = np.random.RandomState(REGMIX_SEED).dirichlet(problem.space.prior, REGMIX_DRAWS)
    weights = problem.space.project(draws[np.argsort(model(draws))[:REGMIX_TOP]].mean(axis=0))
    return Pick(weights, float(model(weights[None])[0]))


def regmix_predict(problem: Problem, data: Data, seed: int) -> Predicted:
    """RegMix's trees as a function of mixtures."""
    import lightgbm

    aside = np.arange(len(data)) % ASIDE == ASIDE - 1
    train = lightgbm.Dataset(data.weights[~aside], data.scores[~aside], params=REGMIX_TREES)
    check = lightgbm.Dataset(
        data.weights[aside], data.scores[aside], reference=train, params=REGMIX_TREES
    )
    stop = lightgbm.early_stopping(REGMIX_STOP, verbose=False)
    model = lightgbm.train(REGMIX_TREES, train, REGMIX_ROUNDS, valid_sets=[check], callbacks=[stop])
    return lambda weights: np.asarray(model.predict(weights))


def marin(problem: Problem, data: Data, seed: int) -> Pick:
    """Marin's proposal: the minimum of its law of epochs, from the prior and the four best runs."""
    law = marin_predict(problem, data, seed)
    starts = [problem.space.prior, *data.weights[np.argsort(data.scores)[:MARIN_STARTS]]]
    found = _lowest_by_slope(problem, lambda w: float(law(w[None])[0]), None, starts)
    weights = problem.space.project(np.round(found * MARIN_GRID) / MARIN_GRID)
    return Pick(weights, float(law(weights[None])[0]))


def marin_predict(problem: Problem, data: Data, seed: int) -> Predicted:
    """Marin's law as a function of mixtures."""
    epochs = problem.space.epochs
    law = marin_law(data.weights * epochs, data.scores)
    return lambda weights: law(weights * epochs)


def marin_law(epochs: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function of epochs (m, K): y = floor + exp(eta), amplitudes not negative.

    rho and tau are those with the least leave-one-out error of eta; scores are shifted to be
    positive, which losses are already.
    """
    shift = min(0.0, float(scores.min()) - float(np.ptp(scores)))
    floor = MARIN_FLOOR * (float(scores.min()) - shift) + shift
    eta = np.log(np.maximum(scores - floor, 1e-9))
    mean, ridge = float(eta.mean()), MARIN_RIDGE * len(eta)
    fits = [
        (*non_negative(_features(epochs, rho, tau), eta - mean, ridge), rho, tau)
        for rho in MARIN_RHO
        for tau in MARIN_TAU
    ]
    constant, amplitudes, _, rho, tau = min(fits, key=lambda fit: fit[2])

    def law(seen: np.ndarray) -> np.ndarray:
        bent = mean + constant + _features(seen, rho, tau) @ amplitudes
        return np.asarray(floor + np.exp(np.minimum(bent, 50.0)))

    return law


def quadratic_predict(problem: Problem, data: Data, seed: int) -> Predicted:
    """A ridge regression on logarithms of epochs and their squares."""
    epochs, y = problem.space.epochs, data.scores
    x = _squares(data.weights * epochs)
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = (x - centre) / spread
    kernel, middle = z @ z.T, float(y.mean())
    best = min(np.geomspace(1e-2, 1e4, 13), key=lambda ridge: _left_out(kernel, y - middle, ridge))
    slopes = z.T @ np.linalg.solve(kernel + best * np.eye(len(y)), y - middle)
    return lambda w: np.asarray(middle + (_squares(w * epochs) - centre) / spread @ slopes)


OLMIX = Method(recommend=olmix, predict=olmix_predict)
"""Olmix's exponential law from random mixtures: its minimum, held to the prior."""

REGMIX = Method(
    recommend=regmix, predict=regmix_predict, needs=missing("lightgbm", "RegMix's trees")
)
"""RegMix's boosted trees from random mixtures: the mean of the best of 100,000 draws."""

MARIN = Method(recommend=marin, predict=marin_predict)
"""Marin's law of epochs from random mixtures: its minimum."""

QUADRATIC = Method(predict=quadratic_predict)
"""A quadratic of log-epochs from random mixtures: its minimum."""

RANDOM = Method()
"""Random mixtures: the best measured."""

PRIOR = Method(
    recommend=lambda problem, data, seed: problem.space.project(problem.space.prior), free=True
)
"""The prior, whatever was measured."""


# --- private -----------------------------------------------------------------------------------


def _lowest_by_slope(
    problem: Problem,
    value: Callable[[np.ndarray], float],
    slope: Callable[[np.ndarray], np.ndarray] | None,
    starts: list[np.ndarray],
) -> np.ndarray:
    """The lowest end (K,) of sequential quadratic programming within the space's bounds."""
    space, ends = problem.space, []
    for start in starts:
        found = minimize(
            value,
            space.project(start),
            jac=slope,
            method="SLSQP",
            bounds=list(zip(space.lower, space.upper, strict=True)),
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0},
            options={"maxiter": 300, "ftol": 1e-10},
        )
        ends += [space.project(w) for w in (found.x, start) if np.all(np.isfinite(w))]
    return min(ends, key=value)


def _features(epochs: np.ndarray, rho: float, tau: float) -> np.ndarray:
    """What amplitudes multiply (n, 2K): benefits, negative, and harms."""
    harm = np.logaddexp(0.0, np.log1p(epochs) - tau)
    return np.concatenate([np.expm1(-epochs / rho), harm], axis=1)


def _squares(epochs: np.ndarray) -> np.ndarray:
    logs = np.log(0.01 + epochs)
    return np.concatenate([logs, logs**2], axis=1)


def _left_out(kernel: np.ndarray, y: np.ndarray, ridge: float) -> float:
    """Leave-one-out mean square of kernel ridge regression."""
    inverse = np.linalg.inv(kernel + ridge * np.eye(len(y)))
    return float(np.mean((inverse @ y / np.diag(inverse)) ** 2))
