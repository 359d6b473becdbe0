"""Mixtures that need no search: what every search must beat.

Olmix (2026) and Aioli (2025) find that nothing reliably beats such heuristics, so each comparison
contains them. Add one with a function (space, **options) -> weights and a line in `lookup.py`.

Notation: K domains, `p` the prior (K,), its share of all tokens; `w` weights (K,).
"""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import numpy as np

from climb_opt import lookup
from climb_opt.errors import UserError, running
from climb_opt.gains.program import Program, solve
from climb_opt.gains.table import read_gains
from climb_opt.mixtures import mixture_from, read_mixture
from climb_opt.phases import one_phase, throughout
from climb_opt.simplex import MixtureSpace
from climb_opt.strict import check_ranges, convert


def uniform(space: MixtureSpace) -> np.ndarray:
    """The same weight for every domain."""
    return np.full(len(space), 1.0 / len(space))


def proportional(space: MixtureSpace) -> np.ndarray:
    """Each domain by its tokens: the prior itself."""
    return space.prior.copy()


def temperature(space: MixtureSpace, *, exponent: float = 0.5) -> np.ndarray:
    """p^exponent, normalised: 1 is proportional, 0 uniform (mT5 uses 0.3, mBERT 0.7)."""
    if not 0.0 <= exponent <= 1.0:
        raise UserError(f"temperature: exponent must lie in [0, 1], but is {exponent}.")
    weights = np.where(space.prior > 0, space.prior, 1.0) ** exponent * (space.prior > 0)
    return weights / weights.sum()


def unimax(space: MixtureSpace, *, epochs: float = 4.0, supply: float = 1.0) -> np.ndarray:
    """As uniform as `epochs` repetitions of each domain allow (UniMax, arXiv 2304.09151).

    Args:
        epochs: a domain is repeated at most this often.
        supply: tokens of all domains together / tokens trained on; 1 means one pass over all.

    Raises:
        UserError: `epochs` passes over every domain do not fill the token budget.
    """
    caps = epochs * supply * space.prior
    if not epochs > 0 or not supply > 0 or caps.sum() < 1.0 - 1e-9:
        raise UserError(
            f"unimax: {epochs} epochs of {supply} x the budget in tokens do not fill the budget. "
            "Raise epochs, or train on fewer tokens."
        )
    # Poorest domain first: it takes all it has or an equal share of what is left.
    weights, left = np.zeros(len(space)), 1.0
    for rank, k in enumerate(np.argsort(caps, kind="stable")):
        weights[k] = min(caps[k], left / (len(space) - rank))
        left -= weights[k]
    return weights / weights.sum()


def given(space: MixtureSpace, *, mixture: dict[str, Any] | str, prefix: str = "") -> np.ndarray:
    """A mixture typed in a recipe, or read from a YAML file (also RegMix's, under `train:`).

    Args:
        mixture: domain -> weight (rounded is fine, it is scaled), or the path of a file.
        prefix: cut from the mixture's names before they are matched, e.g. "train_".
    """
    if isinstance(mixture, str):
        return space.weights(read_mixture(mixture, prefix), what=mixture)
    what = "given.mixture"
    return space.weights(mixture_from(mixture, what, prefix), what=what)


def influence(
    space: MixtureSpace, *, file: str, spread: float = 1.0, gain: float = 1.0, entropy: float = 1.0
) -> np.ndarray:
    """TiKMiX's mixture, from what `climb-opt influence --output FILE` measured.

    Args:
        file: the measurement; its score is the one that gains.
        spread, gain, entropy: weights of the program's three parts (`climb_opt.gains.program`).
    """
    program = check_ranges(Program(spread, gain, entropy), "influence")
    gains, shares = read_gains(file).tasks(space.domains)
    return solve(space, gains, shares=shares, program=program).weights


def fixed_mixture(space: MixtureSpace, name: str, **options: Any) -> np.ndarray:
    """The weights (K,) of the fixed mixture `name`, moved inside the bounds of the space; of
    schedules, of that mixture throughout.

    Args:
        name: a short name, or "module:Name" of a function (space, **options) -> weights (K,).

    Raises:
        UserError: an unknown name or option, one that is missing, of another type or out of range.
    """
    make = lookup.find("baseline", name)
    lookup.check_options("baseline", name, options, {"space"})
    if missing := needed(name) - set(options):
        raise UserError(f"baseline {name!r}: missing key {min(missing)!r}.")
    hints = get_type_hints(make)
    given = {k: convert(v, hints.get(k, Any), f"{name}.{k}") for k, v in options.items()}
    base = one_phase(space)
    with running("baseline", name):
        weights = make(base, **given)
    made = base.made_by(f"baseline {name!r}", weights)
    return space.project(throughout(space, made))


def needed(name: str) -> set[str]:
    """The options that the fixed mixture `name` cannot do without."""
    _, *parameters = inspect.signature(lookup.find("baseline", name)).parameters.values()
    named = (p for p in parameters if p.kind is not p.VAR_KEYWORD)
    return {p.name for p in named if p.default is p.empty}
