"""What a search can reach: copies among mixtures, domains that nothing reads, weights seen so far.

A domain of a millionth of the tokens gets weight from no usual design, and where it is one of two,
all mixtures of such a design are one. What is not read cannot be learnt, so it is named when a
search starts, and its weight is not recommended beyond what was tried.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from climb_opt.simplex import MixtureSpace

logger = logging.getLogger(__name__)

UNIT = 2e-4  # RegMix's unit of weight: what is below is read by next to no sequence of a proxy
SHOWN = 5  # domains named in one line


def apart(weights: np.ndarray, unit: float = UNIT) -> np.ndarray:
    """Places of the rows (n, K) that, in whole units, are no copies of an earlier one."""
    _, first = np.unique(np.rint(weights / unit), axis=0, return_index=True)
    return np.sort(first)


def distinct(weights: np.ndarray) -> np.ndarray:
    """The rows of `weights` (n, K) without repeats, in order of first appearance."""
    _, first = np.unique(weights, axis=0, return_index=True)
    return weights[np.sort(first)]


def without_copies(space: MixtureSpace, rng: np.random.Generator, batch: np.ndarray) -> np.ndarray:
    """The batch (n, K), with mixed draws instead of copies where it is little else than copies.

    A batch that holds more different mixtures than copies comes back as it is. So does the rest
    of one where the bounds leave no others.
    """
    n = len(batch)
    first = apart(batch)
    exact = len(np.unique(batch, axis=0))
    if n < 2 or (exact == n and 2 * len(first) > n):
        return batch
    drawn = np.concatenate([batch[first], space.sample_mixed(rng, 64 * n)])
    fresh = drawn[apart(drawn)][len(first) :]
    if len(first) + len(fresh) < n:  # bounds so tight that a unit is the whole space
        fresh = distinct(np.concatenate([batch[first], drawn]))[len(first) :]
    filled = batch.copy()
    copies = np.setdiff1d(np.arange(n), first)[: len(fresh)]
    filled[copies] = fresh[: len(copies)]
    logger.info(
        "Caution: of the round's %d mixtures only %d differ; %d mixed draws replace the copies.",
        n,
        len(first),
        len(copies),
    )
    return filled


def unread(space: MixtureSpace, weights: np.ndarray) -> tuple[str, ...]:
    """Domains with tokens and room to which no row of `weights` (n, K) gives a unit."""
    none = (weights.max(axis=0, initial=0.0) < UNIT) & (space.prior > 0) & (space.upper > 0)
    return tuple(d for d, missed in zip(space.domains, none, strict=True) if missed)


def within_evidence(space: MixtureSpace, weights: np.ndarray) -> MixtureSpace:
    """The space with domains that no row of `weights` (n, K) read kept at what was tried of them.

    The space itself, where all were read.
    """
    names = set(unread(space, weights))
    if not names:
        return space
    missed = np.array([d in names for d in space.domains])
    tried = np.maximum(weights.max(axis=0), space.lower)
    return space.capped(np.where(missed, np.minimum(space.upper, tried), space.upper))


def listed(names: Sequence[str]) -> str:
    """Some domains in words: 'a', 'b' and 7 others."""
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    more = len(names) - SHOWN
    return f"{shown} and {more} others" if more > 0 else shown


def caution(space: MixtureSpace, names: Sequence[str]) -> str:
    """What it means that round 1 reads nothing of some domains, and what to do."""
    share = max(space.prior[space.domains.index(name)] for name in names)
    one = len(names) == 1
    return (
        f"no mixture of round 1 reads {listed(names)}: with {'' if one else 'at most '}"
        f"{100 * share:.2g} % of the tokens {'it is' if one else 'they are'} too small for the "
        f"design, and {'its effect stays' if one else 'their effects stay'} unknown. Merge "
        f"{'it' if one else 'them'} with another domain (climb-opt corpus merge), give a lower "
        "bound (space: {lower: {NAME: 0.001}}), or take another first round (design: mixed)"
    )
