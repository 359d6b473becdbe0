"""The next mixture and its rung: the most expected improvement of the recommendation per FLOP.

The recommendation is the mixture with the lowest expected value *at the target*, and what counts is
by how much a measurement on any rung is expected to lower that (`knowledge.py`), per FLOP. A cheap
rung that says little of the target moves little, and is not bought.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from climb_opt.gp.knowledge import improvements
from climb_opt.gp.ladder import LadderProcess
from climb_opt.gp.proposal import SAME, Problem, best_candidates, candidates_of

MOST_KNOWN = 200  # evaluated mixtures that may be recommended or run again: the most promising


class Choice(NamedTuple):
    """A mixture (K,) and the rung to run it on; `gain` is what it is expected to improve."""

    weights: np.ndarray
    rung: int
    gain: float


def choose(
    problem: Problem,
    costs: np.ndarray,
    rungs: Iterable[int],
    rng: np.random.Generator,
    going_on: np.ndarray | None = None,
) -> Choice:
    """The mixture and rung with the most expected improvement per cost.

    Args:
        problem: of one objective, whose surrogate is a `LadderProcess`.
        costs: of a trial on each rung (R,), in any unit.
        rungs: those that may be chosen; at least one.
        going_on: costs (R,) of a trial whose mixture has a result on the rung below; None: as any.
    """
    process = problem.objectives[0]
    assert isinstance(process, LadderProcess)
    process = process.imagine(np.sqrt(_pending(problem)), problem.pending_rungs)
    pool = _contenders(problem, process, rng)
    level = _levels(problem, process, pool)
    best = Choice(pool[int(np.argmin(level))], max(rungs := list(rungs)), -1.0)
    worth = -np.inf
    for rung in rungs:
        new = fresh(pool, problem, rung)
        if not len(new):
            continue
        std, covariance = process.measured(np.sqrt(pool[new]), rung, np.sqrt(pool))
        gains = improvements(level, covariance / std)
        price = np.full(len(new), costs[rung])
        if going_on is not None:
            price[_begun(pool[new], problem, rung)] = going_on[rung]
        top = int(np.argmax(gains / price))
        if gains[top] / price[top] > worth:
            worth = gains[top] / price[top]
            best = Choice(pool[new[top]], rung, float(gains[top]))
    return best


def recommended(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """The contender (K,) with the lowest expected value at the target."""
    process = problem.objectives[0]
    assert isinstance(process, LadderProcess)
    pool = _contenders(problem, process, rng)
    return np.asarray(pool[int(np.argmin(_levels(problem, process, pool)))])


def fresh(pool: np.ndarray, problem: Problem, rung: int) -> np.ndarray:
    """Rows of `pool` (m, K) without a result, or one that is due, on this rung or above."""
    above = problem.known[problem.known_rungs >= rung]
    if not len(above):
        return np.arange(len(pool))
    return np.flatnonzero(cdist(pool, above, "cityblock").min(axis=1) > SAME)


# --- private -------------------------------------------------------------------------------------


def _begun(pool: np.ndarray, problem: Problem, rung: int) -> np.ndarray:
    """Which of `pool` (m, K) have a result on the rung below: (m,) bool."""
    below = problem.evaluated[problem.rungs == rung - 1]
    if not len(below):
        return np.zeros(len(pool), dtype=bool)
    return np.asarray(cdist(pool, below, "cityblock").min(axis=1) <= SAME)


def _pending(problem: Problem) -> np.ndarray:
    return problem.pending.reshape(-1, len(problem.space))


def _contenders(problem: Problem, process: LadderProcess, rng: np.random.Generator) -> np.ndarray:
    """What may be recommended, run, or run again on a higher rung: distinct mixtures (m, K)."""
    known = best_candidates(problem, process, MOST_KNOWN)
    pool = np.concatenate([known, _pending(problem), candidates_of(problem, process, rng)])
    pool = problem.space.project(pool)  # a descent may end outside of a table's rows
    return pool[~np.tril(cdist(pool, pool, "cityblock") <= SAME, -1).any(axis=1)]


def _levels(problem: Problem, process: LadderProcess, pool: np.ndarray) -> np.ndarray:
    """Expected values (m,) at the target, worse where a guard-rail is likely broken."""
    roots = np.sqrt(pool)
    weight = max(process.noise, process.spread)
    return np.asarray(process.mean(roots) - weight * problem.feasible(roots))
