"""The start of a search: mixtures of mixed concentration, a pure function of seed and place."""

from __future__ import annotations

import numpy as np

from climb_opt.simplex import SPARSE_STRENGTHS, SPARSE_TEMPERATURE, MixtureSpace, dirichlet


def start_mixture(space: MixtureSpace, seed: int, index: int, stream: int = 0) -> np.ndarray:
    """The weights (K,) of start `index`: the prior, the uniform mixture, then draws.

    A third each from RegMix's sparse prior, Dirichlet(1) and Dirichlet(K x prior^.5 normalised):
    the start that was best or level whether the optimum is a vertex or the middle
    (docs/notes/searching.md#the-start).

    Args:
        stream: another set of draws for the same seed.
    """
    k = len(space)
    if index == 0:
        return space.project(space.prior)
    if index == 1:
        return space.project(np.full(k, 1.0 / k))
    rng = np.random.default_rng([seed, stream, 0, index])
    if index % 3 == 2:
        strength = rng.choice(SPARSE_STRENGTHS, size=1)
        return space.sample(rng, 1, temperature=SPARSE_TEMPERATURE, strength=strength)[0]
    root = np.sqrt(space.prior)
    alpha = np.ones(k) if index % 3 == 0 else k * root / root.sum()
    return space.project(dirichlet(rng, alpha[None]))[0]
