"""The best mixture of a function that may have no slope: evolved, then exchanged pair by pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from climb_opt.gp.optimise import tidy
from climb_opt.simplex import MixtureSpace

POPULATION = 150  # of the search for the optimum
GENERATIONS = 200
STEPS = tuple(np.geomspace(0.1, 2e-4, 12).tolist())  # of what is exchanged
Score = Callable[[np.ndarray], np.ndarray]  # weights (n, K) -> values (n,)


def lowest(
    score: Score,
    space: MixtureSpace,
    rows: np.ndarray | None = None,
    steps: tuple[float, ...] = STEPS,
) -> np.ndarray:
    """The mixture (K,) with the lowest score that two evolutions and an exchange find.

    Differential evolution on the square roots, then exchanges between pairs of domains. Trees have
    no slope to follow. Two runs agree to about 3e-4 of the score's spread on the three published
    tables (docs/notes/searching.md#optima-of-emulators), which is what a search of 112 evaluations
    can resolve.

    Args:
        rows: mixtures (m, K) to begin with, beside random ones.
        steps: how much is exchanged, ever less.
    """
    start = np.zeros((0, len(space))) if rows is None else rows
    found = [_evolve(score, space, start, np.random.default_rng([7, run])) for run in range(2)]
    polished = [exchanged(score, space, w, steps) for w in found]
    return min(polished, key=lambda w: float(score(w[None])[0]))


def exchanged(
    score: Score, space: MixtureSpace, weights: np.ndarray, steps: tuple[float, ...] = STEPS
) -> np.ndarray:
    """Move weight between two domains, the best pair first, in ever smaller steps."""
    k, value = len(weights), float(score(weights[None])[0])
    pairs = (np.eye(k)[:, None] - np.eye(k)[None])[~np.eye(k, dtype=bool)]
    for step in steps:
        for _ in range(50):
            given = np.minimum(step, (np.minimum(pairs, 0) * -weights).sum(axis=1))
            moved = space.project(weights + given[:, None] * pairs)
            found = score(moved)
            best = int(np.argmin(found))
            if found[best] >= value - 1e-12:
                break
            weights, value = moved[best], float(found[best])
    return weights


# --- private -------------------------------------------------------------------------------------


def _evolve(
    score: Score, space: MixtureSpace, rows: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    pool = np.concatenate([rows, space.sample_mixed(rng, 4000)])
    values = score(pool)
    keep = np.argsort(values, kind="stable")[:POPULATION]
    roots, values = np.sqrt(pool[keep]), values[keep]
    size = len(roots)
    for _ in range(GENERATIONS):
        a, b = roots[rng.permutation(size)], roots[rng.permutation(size)]
        best = roots[np.argsort(values, kind="stable")[rng.integers(max(size // 10, 1), size=size)]]
        step = rng.choice([0.3, 0.6, 0.9], (size, 1))
        towards = step * (best - roots) * rng.integers(0, 2, (size, 1))
        crossed = rng.random(roots.shape) < rng.choice([0.1, 0.5, 0.9], (size, 1))
        moved = np.maximum(np.where(crossed, roots + towards + step * (a - b), roots), 0.0)
        fresh = tidy(space.project(moved**2), space)
        found = score(fresh)
        better = found <= values
        roots[better], values[better] = np.sqrt(fresh[better]), found[better]
    return np.asarray(roots[int(np.argmin(values))] ** 2)
