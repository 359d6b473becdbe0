"""The measurement that is expected to improve the recommendation most: the knowledge gradient.

The recommendation is the mixture with the lowest expected value. A measurement moves the expected
values of all mixtures together, by what the joint posterior says of it; what it is worth is by how
much it is expected to lower the lowest of them (arXiv 0812.4855). Where scores are noisy, such
measurements often lie far from the best mixture, where they tell more of it than its neighbours do:
expected improvement never looks there (docs/notes/searching.md#what-to-measure-under-noise).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import ndtri

from climb_opt.draws import SPARSE
from climb_opt.gp.proposal import SAME, Problem, best_candidates, candidates_of, propose

# Relative noise above which trials are chosen by what they tell of the recommendation
# (docs/notes/searching.md#what-to-measure-under-noise). With few results the estimate is mostly its
# prior, .13: it takes clear noise to be above.
NOISY = 0.2
QUANTILES = 24  # equally likely outcomes of a measurement
# A single measurement under much noise hardly moves anything, and so tells little of which is best
# to make: each counts as if it were made this often, as a search that goes on will nearly do.
PATIENCE = 4.0
KNOWN = 100  # evaluated mixtures among what may be recommended: the most promising
DRAWN = 100  # fresh draws among what may be measured, of mixed concentration; of few domains, twice


def improvements(level: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """By how much each of q measurements is expected to lower the lowest level: (q,), >= 0.

    Args:
        level: expected values (m,) now.
        moved: (m, q) what one standard deviation of each measurement adds to them.
    """
    outcomes = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    lowest = np.stack([(level[:, None] + moved * z).min(axis=0) for z in outcomes])
    return np.asarray(level.min() - lowest.mean(axis=0))


def told_or_better(problem: Problem, rng: np.random.Generator, noise: float) -> np.ndarray:
    """The weights (K,) to evaluate next where there is one rung: what tells most of the
    recommendation of a single objective where scores are noisy, else what may be better.

    Args:
        noise: of one evaluation, relative to the spread of the first results: what share of trials
            explore, where they may be better.
    """
    if noise > NOISY and len(problem.objectives) == 1:
        return most_told(problem, rng)
    return propose(problem, rng, noise)


def most_told(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """The weights (K,) whose measurement is expected to improve the recommendation most.

    Args:
        problem: of one objective.
    """
    space, pending = problem.space, problem.pending.reshape(-1, len(problem.space))
    objective = problem.objectives[0].imagine(np.sqrt(pending))
    pool = np.concatenate(
        [
            best_candidates(problem, objective, KNOWN),
            candidates_of(problem, objective, rng),
            space.sample_mixed(rng, DRAWN),
            *(
                space.sample(rng, 2 * DRAWN // len(SPARSE), temperature=t, strength=s)
                for t, s in SPARSE
            ),
        ]
    )
    new = np.flatnonzero(cdist(pool, problem.known, "cityblock").min(axis=1) > SAME)
    if not len(new):  # one domain: there is nothing else
        return pool[-1]
    roots = np.sqrt(pool)
    mean, covariance = objective.joint(roots)
    level = mean - max(objective.noise, objective.spread) * problem.feasible(roots)
    std = np.sqrt(np.maximum(np.diag(covariance)[new], 0.0) + objective.noise**2 / PATIENCE)
    return np.asarray(pool[new[int(np.argmax(improvements(level, covariance[:, new] / std)))]])
