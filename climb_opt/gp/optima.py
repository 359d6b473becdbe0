"""Which mixture to keep, given what is believed: several rules, all from the joint posterior.

With a perfect surrogate the lowest posterior mean would be best. Under noise its minimum is partly
luck, and an average over the places where the optimum may lie loses less
(docs/notes/searching.md#the-mixture-to-keep).
"""

from __future__ import annotations

import numpy as np

from climb_opt.gp.candidates import around
from climb_opt.gp.improvement import mean_of
from climb_opt.gp.model import draw
from climb_opt.gp.optimise import descend, tidy
from climb_opt.gp.proposal import Problem, best_candidates

SAMPLES = 256
TOP = 128


def lowest_mean(problem: Problem, rng: np.random.Generator, caution: float = 0.0) -> np.ndarray:
    """argmin (K,) of posterior mean + caution x standard deviation, over the space."""
    found = _descents(problem, rng, caution)
    function = mean_of(problem.objectives[0], problem.constraints, caution)
    return np.asarray(found[int(np.argmin([function(np.sqrt(w))[0] for w in found]))])


def mean_of_top(problem: Problem, rng: np.random.Generator, top: int = TOP) -> np.ndarray:
    """The average (K,) of the `top` lowest posterior means of 10,000 fresh mixed draws."""
    draws = problem.space.sample_mixed(rng, 10_000)
    roots = np.sqrt(draws)
    mean = problem.objectives[0].mean(roots)
    likely = problem.feasible(roots) >= np.log(0.5)
    draws, mean = (draws[likely], mean[likely]) if likely.sum() >= top else (draws, mean)
    chosen = draws[np.argsort(mean, kind="stable")[:top]]
    return np.asarray(problem.space.project(chosen.mean(axis=0)))


def mean_optimum(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """The average (K,), on the sphere of square roots, of the optima of joint samples."""
    roots = np.sqrt(_contenders(problem, rng))
    samples = draw(problem.objectives[0], roots, rng.standard_normal((SAMPLES, len(roots))))
    ok = np.ones_like(samples, dtype=bool)
    for constraint in problem.constraints:
        ok &= draw(constraint, roots, rng.standard_normal(samples.shape)) <= 0
    # A sample in which nothing is feasible votes for what comes nearest to it.
    worst = samples.max() - samples.min() + 1.0
    chosen = np.argmin(np.where(ok, samples, samples + worst), axis=1)
    mean = roots[chosen].mean(axis=0)
    return np.asarray(tidy(mean**2 / float(mean @ mean), problem.space)[0])


# --- private -------------------------------------------------------------------------------------


def _descents(problem: Problem, rng: np.random.Generator, caution: float = 0.0) -> np.ndarray:
    """Local minima of the posterior mean from the best evaluated and the best drawn mixtures."""
    best = best_candidates(problem, problem.objectives[0])[:3]
    drawn = np.concatenate(
        [problem.space.sample_mixed(rng, 1500), around(rng, best, 2500, problem.space)]
    )
    mean, std = problem.objectives[0].moments(np.sqrt(drawn))
    weight = max(problem.objectives[0].noise, problem.objectives[0].spread)
    value = mean + caution * std - weight * problem.feasible(np.sqrt(drawn))
    starts = np.concatenate([best, drawn[np.argsort(value, kind="stable")[:2]]])
    function = mean_of(problem.objectives[0], problem.constraints, caution)
    return np.concatenate([descend(function, starts, problem.space, 200), best])


def _contenders(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    objective, space = problem.objectives[0], problem.space
    best = best_candidates(problem, objective)

    def lowest(rows: np.ndarray, count: int) -> np.ndarray:
        return rows[np.argsort(objective.mean(np.sqrt(rows)), kind="stable")[:count]]

    near = np.concatenate([space.sample_mixed(rng, 1500), around(rng, best, 2500, space)])
    return np.concatenate(
        [
            _descents(problem, rng),
            lowest(near, 300),
            lowest(space.sample_mixed(rng, 6000), 300),
            lowest(problem.evaluated, 50),
        ]
    )
