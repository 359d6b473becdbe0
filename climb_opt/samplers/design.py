"""Round 1: where a search starts, before anything is known.

A design is a function (space, rng, n) -> weights (n, K): `climb-opt ls designs` lists those here.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from climb_opt import lookup
from climb_opt.apportion import apportion
from climb_opt.draws import SPARSE, SPARSE_STRENGTHS, SPARSE_TEMPERATURE, dirichlet, powered
from climb_opt.errors import running
from climb_opt.lookup import facts
from climb_opt.phases import PhasedSpace, one_phase, over_run
from climb_opt.samplers.reach import UNIT, distinct, unread, without_copies
from climb_opt.simplex import MixtureSpace

# RegMix's constants, as used by CLIMB's public code.
MAX_USAGE = 15.0  # a weight may be at most 15 x its prior, and at most 1
OVERSAMPLE = 100  # accepted draws for each one used

NEAR = 100.0  # concentration of a start's draws around the prior
RARE = 0.05  # mixtures of a round that read a domain, on average, below which it is out of reach
MOST_DRAWN = 20_000_000  # random numbers, before accepting that the usage bound rejects nearly all


def initial_design(
    space: MixtureSpace, design: str, rng: np.random.Generator, n: int
) -> np.ndarray:
    """n mixtures (n, K) of a design, distinct as long as the space holds so many.

    Schedules are made of a design's mixtures: half of them hold one throughout.

    A design of little else than copies (a domain of a millionth of the tokens beside one other) is
    filled with mixed draws.

    Args:
        design: a short name, or "module:Name" of a function (space, rng, n) -> weights (n, K); what
            lies outside of the space's bounds is moved inside.

    Raises:
        UserError: no such design, or one that returns something else.
    """
    draw = lookup.find("design", design)
    if isinstance(space, PhasedSpace):
        batch = space.spread(partial(initial_design, space.base, design), rng, n)
        return without_copies(space, rng, batch)
    with running("design", design):
        drawn = draw(space, rng, n)
    batch = space.made_by(f"design {design!r}", drawn, n)
    outside = ~space.contains(batch)
    if outside.any():
        batch[outside] = space.project(batch[outside])
    return without_copies(space, rng, batch)


def out_of_reach(space: MixtureSpace, design: str, batch: np.ndarray) -> tuple[str, ...]:
    """Domains that no mixture of `batch` (n, K) reads because the design hardly ever would."""
    rare = getattr(lookup.find("design", design), "rare", None)
    if rare is None:
        return ()
    base = one_phase(space)
    missed, small = unread(base, over_run(space, batch)), rare(base, len(batch))
    return tuple(d for d, s in zip(base.domains, small, strict=True) if s and d in missed)


# --- the designs: each says which domains (K,) n of its mixtures hardly ever read -----------------


def _below_usage(space: MixtureSpace, n: int) -> np.ndarray:
    return MAX_USAGE * space.prior < UNIT


def _rarely_drawn(space: MixtureSpace, n: int) -> np.ndarray:
    # A weight of Dirichlet(p) is Beta(p, 1 - p), hence above a unit in about p ln(1 / unit).
    return n * space.prior * np.log(1.0 / UNIT) < RARE


@facts(rare=_below_usage)
def regmix(space: MixtureSpace, rng: np.random.Generator, n: int) -> np.ndarray:
    """RegMix's sparse draws, as CLIMB's public code makes them (docs/notes/climb.md#constants)."""
    accepted = _within_usage(space, rng, OVERSAMPLE * n)
    # The space's own bounds, which RegMix does not know, may make two mixtures one.
    return _fresh(space.project(_round_to_unit(accepted)), rng, n)


@facts(rare=_rarely_drawn)
def dirichlet_draws(space: MixtureSpace, rng: np.random.Generator, n: int) -> np.ndarray:
    """ "Dirichlet based on each cluster's token count", as CLIMB's paper says."""
    return _fresh(space.sample(rng, 4 * n), rng, n)


def mixed(space: MixtureSpace, rng: np.random.Generator, n: int) -> np.ndarray:
    """Draws of several concentrations, the best start: docs/notes/searching.md#the-start."""
    return _fresh(space.sample_mixed(rng, 4 * n), rng, n)


def _fresh(draws: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    draws = distinct(draws)
    return draws[rng.choice(len(draws), size=n, replace=len(draws) < n)]


def start_mixture(
    space: MixtureSpace, seed: int, index: int, stream: int = 0, *, sparse: bool = True
) -> np.ndarray:
    """The weights (K,) of start `index`: the prior, the uniform mixture, then draws.

    Two thirds are of a few domains (`SPARSE`), whose scores differ most, so that noise hides least
    of them; the others, by turns, near the prior, which every mixture is compared with, and from
    Dirichlet(1) (docs/notes/searching.md#the-start).

    Args:
        stream: another set of draws for the same seed.
        sparse: otherwise a third each from RegMix's sparse prior, Dirichlet(1) and
            Dirichlet(K x prior^.5 normalised), as ladders were measured with.
    """
    if isinstance(space, PhasedSpace):
        return _start_schedule(space, seed, index, stream)
    k = len(space)
    if index == 0:
        return space.project(space.prior)
    if index == 1:
        return space.project(np.full(k, 1.0 / k))
    rng = np.random.default_rng([seed, stream, 0, index])
    if sparse and index % 3:
        temperature, power = SPARSE[index % len(SPARSE)]
        return space.sample(rng, 1, temperature=temperature, strength=power)[0]
    if sparse and index % 6 == 3:
        return space.project(dirichlet(rng, NEAR * space.prior[None]))[0]
    if index % 3 == 2:
        strength = rng.choice(SPARSE_STRENGTHS, size=1)
        return space.sample(rng, 1, temperature=SPARSE_TEMPERATURE, strength=strength)[0]
    root = np.sqrt(space.prior)
    alpha = np.ones(k) if index % 3 == 0 else k * root / root.sum()
    return space.project(dirichlet(rng, alpha[None]))[0]


def _start_schedule(space: PhasedSpace, seed: int, index: int, stream: int) -> np.ndarray:
    """Every other one holds throughout, the prior and the uniform mixture among them."""
    first = start_mixture(space.base, seed, index, stream)
    if index % 2 == 0 or index == 1:
        return space.project(space.constant(first))
    streams = (stream + 2 * place for place in range(1, len(space.shares)))
    later = [start_mixture(space.base, seed, index, other) for other in streams]
    return space.project(space.of_blocks(np.stack([first, *later])))


def _within_usage(space: MixtureSpace, rng: np.random.Generator, n: int) -> np.ndarray:
    """n draws that respect the usage bound (taken from the un-tempered prior, as in RegMix)."""
    bound = np.minimum(MAX_USAGE * space.prior, 1.0)
    alpha = powered(space.prior, SPARSE_TEMPERATURE)
    batch = max(1, min(2 * n, 2_000_000 // len(space)))
    kept: list[np.ndarray] = []
    drawn = found = 0
    while found < n and drawn < MOST_DRAWN:
        strength = rng.choice(SPARSE_STRENGTHS, size=batch)
        draws = dirichlet(rng, np.multiply.outer(strength, alpha))
        good = draws[np.all(draws <= bound, axis=1)]
        kept.append(good)
        found, drawn = found + len(good), drawn + draws.size
    if found < n:  # hundreds of domains: hardly a sparse draw stays below 15 x every small prior
        strength = rng.choice(SPARSE_STRENGTHS, size=min(n - found, batch))
        draws = dirichlet(rng, np.multiply.outer(strength, alpha))
        capped = MixtureSpace(space.mixture(space.prior), upper=space.mixture(bound))
        kept.append(capped.project(draws))
    return np.concatenate(kept)[:n]


def _round_to_unit(weights: np.ndarray) -> np.ndarray:
    """Weights below UNIT -> 0, the rest to whole multiples of UNIT that sum to exactly 1."""
    w = np.where(weights < UNIT, 0.0, weights)
    units = w / w.sum(axis=1, keepdims=True) / UNIT
    total = round(1.0 / UNIT)
    # The public code rounds each weight and leaves the sum a little off; give the missing units to
    # the largest remainders instead, so that the mixture is one.
    return np.asarray(apportion(units, total) / total)
