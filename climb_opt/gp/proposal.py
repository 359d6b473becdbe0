"""The next mixture: noisy expected improvement, judged on joint posterior samples.

The joint posterior over evaluated, running and candidate mixtures answers every question at once:
noise (the incumbent is itself uncertain), running trials and batches (they have no value yet, but
are in the sample), guard-rails (feasible or not, per sample), several objectives (hypervolume).
Gaussian-process gradients only find good candidates; they do not choose. After BoTorch's qLogNEI
and qNEHVI (arXiv 1706.07094, 2105.08195), on samples instead of gradients: level in quality with
BoTorch on the sphere at an eighth of the time (docs/notes/searching.md#against-botorch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.distance import cdist

from climb_opt.gp.candidates import CLOSE, around, candidates, sparse
from climb_opt.gp.hypervolume import front, improvement, reference_point
from climb_opt.gp.improvement import log_feasible, log_improvement, mean_of, negative_improvement
from climb_opt.gp.mixed import WeightedSum
from climb_opt.gp.model import Surrogate, draw
from climb_opt.gp.optimise import descend
from climb_opt.simplex import MixtureSpace

SAMPLES = 256  # joint samples; for several objectives a quarter of them
SAME = 1e-4  # L1 distance: one token in 20,000 moves
FRESH = 128  # of 8000 draws or more: those an exploring trial is drawn from
BEST = 8  # evaluated mixtures around which candidates are drawn
DIRECTIONS = 4  # weightings of several objectives along which candidates are sought
PART = 12_000_000  # weights of candidates that are looked at at once: 100 MB
MAX_JOINT = 200  # evaluated mixtures in the joint sample: the most promising, if there are more


@dataclass(frozen=True)
class Problem:
    """What is believed about a study: one surrogate an objective, one a guard-rail (<= 0 is kept).

    `evaluated` (n, K) are the mixtures with results, `pending` (p, K) those whose results are due;
    `rungs` (n,) and `pending_rungs` (p,) are theirs, where there are several. `told`: by how many
    nats the target's results are likelier with those of the rungs below than without. `alone`: what
    is believed without, where the rungs below mislead and the target has results enough.
    """

    space: MixtureSpace
    objectives: Sequence[Surrogate]
    evaluated: np.ndarray
    constraints: Sequence[Surrogate] = ()
    pending: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    rungs: np.ndarray | None = None
    pending_rungs: np.ndarray | None = None
    told: float = 0.0
    alone: Surrogate | None = None

    @property
    def trusted(self) -> Problem:
        """The same, without results of rungs that mislead."""
        return self if self.alone is None else replace(self, objectives=[self.alone])

    @property
    def known(self) -> np.ndarray:
        """Evaluated and pending mixtures, (n + p, K)."""
        return np.concatenate([self.evaluated, self.pending.reshape(-1, len(self.space))])

    @property
    def known_rungs(self) -> np.ndarray:
        """The rungs (n + p,) of `known`, where there are several."""
        assert self.rungs is not None and self.pending_rungs is not None
        return np.concatenate([self.rungs, self.pending_rungs])

    def feasible(self, roots: np.ndarray) -> np.ndarray:
        """log P(every guard-rail holds) at `roots` (m, K), shape (m,)."""
        total = np.zeros(len(roots))
        for constraint in self.constraints:
            total += log_feasible(*constraint.moments(roots))
        return total


def propose(problem: Problem, rng: np.random.Generator, explore: float = 0.0) -> np.ndarray:
    """The weights (K,) to evaluate next.

    Args:
        explore: probability of a draw among the fresh mixtures with the lowest expected values,
            which guards against a surrogate that noise has misled.
    """
    directions = _directions(problem, rng)
    if rng.random() < explore:
        return _fresh(problem, directions[0], rng)
    imagined = np.sqrt(problem.pending.reshape(-1, len(problem.space)))
    pool = np.concatenate(
        [_pool(problem, d, d.imagine(imagined), rng, len(directions)) for d in directions]
    )
    pool = _unlike(pool, problem.known)
    if not len(pool):  # the optimum is known to the last digit: look around it
        drawn = candidates(rng, problem.evaluated, problem.space)
        unlike = _unlike(drawn, problem.known)
        return unlike[0] if len(unlike) else drawn[0]  # one domain: there is nothing else
    return pool[int(np.argmax(gains(problem, pool, rng)))]


def gains(problem: Problem, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Expected improvement (m,) of each row of `pool` (m, K) over the known mixtures."""
    known = _promising(problem)
    count = SAMPLES if len(problem.objectives) == 1 else SAMPLES // 4
    roots = np.sqrt(np.concatenate([known, pool]))
    ok = np.ones((count, len(roots)), dtype=bool)
    for constraint in problem.constraints:
        ok &= draw(constraint, roots, rng.standard_normal((count, len(roots)))) <= 0
    samples = np.stack(
        [draw(o, roots, rng.standard_normal((count, len(roots)))) for o in problem.objectives], -1
    )
    n = len(known)
    if samples.shape[2] == 1:
        return _improvements(samples[:, :, 0], ok, n)
    reference = reference_point(np.stack([o.mean(np.sqrt(known)) for o in problem.objectives], -1))
    total = np.zeros(len(pool))
    for values, fine in zip(samples, ok, strict=True):
        total += fine[n:] * improvement(values[n:], values[:n][fine[:n]], reference)
    return total / count


def incumbent(problem: Problem, objective: Surrogate) -> float | None:
    """The lowest expected value at an evaluated mixture that is likely feasible, if any is."""
    roots = np.sqrt(problem.evaluated)
    likely = problem.feasible(roots) >= np.log(0.5)
    return float(objective.mean(roots)[likely].min()) if likely.any() else None


# --- private -------------------------------------------------------------------------------------


def _improvements(samples: np.ndarray, ok: np.ndarray, n: int) -> np.ndarray:
    """Mean over samples (s, n + m) of max(best known - candidate, 0), where feasible."""
    # A sample in which nothing known is feasible counts any feasible candidate as a gain.
    best = np.where(ok[:, :n], samples[:, :n], np.inf).min(axis=1)
    best = np.where(np.isfinite(best), best, samples.max(axis=1))[:, None]
    gain = np.maximum(best - samples[:, n:], 0.0) * ok[:, n:]
    return np.asarray(gain.mean(axis=0))


def _directions(problem: Problem, rng: np.random.Generator) -> list[Surrogate]:
    """The objective itself, or random weightings of several, on the scale of their spread."""
    if len(problem.objectives) == 1:
        return [problem.objectives[0]]
    roots = np.sqrt(problem.evaluated)
    spread = np.array([np.ptp(o.mean(roots)) for o in problem.objectives])
    weights = rng.dirichlet(np.ones(len(spread)), size=DIRECTIONS)
    weights /= np.where(spread > 0, spread, 1.0)
    return [WeightedSum(problem.objectives, w) for w in weights]


def _fresh(problem: Problem, objective: Surrogate, rng: np.random.Generator) -> np.ndarray:
    draws = sparse(rng, 8000, problem.space)
    parts = [np.sqrt(part) for part in np.array_split(draws, -(-len(draws) // 4000))]  # memory
    mean = np.concatenate([objective.mean(part) for part in parts])
    breach = np.concatenate([problem.feasible(part) for part in parts]) < np.log(0.5)
    order = np.lexsort((mean, breach))  # likely feasible first, then by expected value
    lowest = _unlike(draws[order[:FRESH]], problem.known)
    return np.asarray(rng.choice(lowest)) if len(lowest) else draws[0]


def _pool(
    problem: Problem,
    objective: Surrogate,
    imagined: Surrogate,
    rng: np.random.Generator,
    shares: int,
) -> np.ndarray:
    """Candidates for one objective or weighting: local optima, their surroundings, good draws."""
    space, constraints = problem.space, problem.constraints
    best = best_candidates(problem, objective)
    drawn = candidates(rng, best, space)
    # What is computed of a part takes several times its memory.
    parts = [np.sqrt(part) for part in np.array_split(drawn, -(-drawn.size // PART))]
    moments = [imagined.moments(part) for part in parts]
    mean, std = (np.concatenate(found) for found in zip(*moments, strict=True))
    level = incumbent(problem, imagined)
    score = np.concatenate([problem.feasible(part) for part in parts])
    if level is not None:
        score = score + log_improvement(mean, std, level)
    order = np.argsort(-score, kind="stable")
    ascents = max(2, 4 // shares)
    others = rng.choice(order[2:40], size=ascents - 2, replace=False)
    starts = drawn[np.concatenate([order[:2], others]).astype(int)]
    climbed = descend(negative_improvement(imagined, level, constraints), starts, space)
    sunk = descend(mean_of(imagined, constraints), best[: 2 if shares == 1 else 1], space)
    optima = np.concatenate([climbed, sunk])
    lowest = np.argsort(mean, kind="stable")
    return np.concatenate(
        [
            optima,
            around(rng, optima, 160 // shares, space, CLOSE),
            drawn[order[: 130 // shares]],
            drawn[lowest[: 60 // shares]],
        ]
    )


def candidates_of(problem: Problem, imagined: Surrogate, rng: np.random.Generator) -> np.ndarray:
    """Candidates (m, K) for one objective, given what is expected of running trials."""
    return _pool(problem, problem.objectives[0], imagined, rng, 1)


def best_candidates(problem: Problem, objective: Surrogate, count: int = BEST) -> np.ndarray:
    """The evaluated mixtures (count, K) with the lowest expected values where feasible."""
    roots = np.sqrt(problem.evaluated)
    weight = 1e3 * max(objective.noise, objective.spread)
    mean = objective.mean(roots) - weight * np.minimum(problem.feasible(roots) - np.log(0.5), 0.0)
    return problem.evaluated[np.argsort(mean, kind="stable")[:count]]


def _promising(problem: Problem) -> np.ndarray:
    """The known mixtures that can matter to an improvement: all, or the best `MAX_JOINT`."""
    n = len(problem.evaluated)
    if n <= MAX_JOINT:
        return problem.known
    roots = np.sqrt(problem.evaluated)
    means = np.stack([o.mean(roots) for o in problem.objectives], -1)
    rank = np.argsort(means.sum(axis=1), kind="stable")
    if means.shape[1] > 1:
        rank = np.argsort(~front(means), kind="stable")
    return np.concatenate([problem.evaluated[rank[:MAX_JOINT]], problem.known[n:]])


def _unlike(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The `rows` (m, K) that no trainer would take for one of the `known` mixtures (n, K)."""
    return np.asarray(rows[cdist(rows, known, "cityblock").min(axis=1) > SAME])
