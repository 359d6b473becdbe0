# Written by hub/build.py from climb_opt: change it there.
"""The problems by name. Simulated ones need no data; `tables.py` makes problems of yours.

Add one with a function that gives its law, or its rungs, and a line in `PROBLEMS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from numbers import Real
from typing import Any

from .parts.emulator_ladders import SourceLadder
from .parts.emulator_laws import MixingLaw
from .parts.emulator_objective import Source
from .parts.emulator_phased import InPhases
from .parts.emulator_repetition import Repetition, RepetitionLadder, scarce
from .parts.emulator_shapes import Interactions, Thresholds, Traces
from .parts.emulator_simulated import SimulatedLadder
from .parts.errors import UserError, did_you_mean, listed, misnamed
from .parts.ladder import Ladder
from .problems import Problem

NOISE = 0.1  # in sigma: that of bits per byte of task answers on 60M proxies (PIQA's)
ONE = Ladder.of((1.0,))
SEEN = ("traces", "mixing-law")  # constants of climb_opt were chosen on their shapes

Rungs = RepetitionLadder | SimulatedLadder


def problem(name: str, **options: Any) -> Problem:
    """The simulated problem of that name, built once a process.

    Args:
        name: one of `PROBLEMS`.
        options: `noise` (in sigma), `law` (the seed of the law), `domains`; what else the
            problem's function takes.

    Raises:
        UserError: no such problem or option, or an option out of range.

    >>> problem("repetition", law=1).ladder.shares.tolist()
    [1.0]
    >>> len(problem("misleading").ladder)
    3
    """
    if name not in PROBLEMS:
        raise UserError(f"No {misnamed('problem', name, PROBLEMS)}")
    own = inspect.signature(PROBLEMS[name]).parameters.values()
    usual = {"law": 0, "noise": NOISE, **{option.name: option.default for option in own}}
    if odd := sorted(set(options) - set(usual)):
        hint = did_you_mean(odd[0], usual)
        raise UserError(f"Problem {name!r} takes no {odd[0]!r}.{hint} It takes {listed(usual)}.")
    numbers = {key: _number(name, key, options[key], usual[key]) for key in options}
    return _made(name, tuple(sorted(numbers.items())))


def _number(name: str, option: str, value: Any, usual: float) -> float:
    """An option as the kind of number that its default is."""
    whole = isinstance(usual, int)
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or (whole and not float(value).is_integer()):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{name}: {option} must be {kind}, but is {value!r}.")
    return int(value) if whole else float(value)


def _interactions(law: int = 0, domains: int = 8) -> Source:
    """Tasks that need several kinds of text at once; some domains spoil each other."""
    return Interactions(domains, seed=law)


def _thresholds(law: int = 0, domains: int = 10) -> Source:
    """Domains help once their share passes a threshold: plateaus and several optima."""
    return Thresholds(domains, seed=law)


def _traces(law: int = 0, domains: int = 16) -> Source:
    """Ratios of shares count down to traces: the optimum lies in logarithms of the weights."""
    return Traces(domains, seed=law)


def _repetition(law: int = 0, domains: int = 12) -> Source:
    """Tokens run out: a repeated domain gives less, then harms; inventories are known."""
    return Repetition(domains, seed=law)


def _wide(law: int = 0, domains: int = 40) -> Source:
    """Repetition with many domains, most of them of little use."""
    return Repetition(domains, seed=law)


def _bounded(law: int = 0, domains: int = 12) -> Source:
    """Repetition within bounds: every domain at least 1 %, none above 40 % or 4 epochs."""
    space = scarce(domains, supply=2.0, lower=0.01, upper=0.4, max_epochs=4.0)
    return Repetition(domains, seed=law, space=space)


def _ladder(law: int = 0, domains: int = 12) -> Rungs:
    """Repetition with rungs of a sixteenth and a quarter of the tokens, epochs matched."""
    return RepetitionLadder(Repetition(domains, seed=law), matched=True)


def _misleading(law: int = 0, domains: int = 12) -> Rungs:
    """Repetition with rungs of fewer tokens of the same text: they cannot see what runs out."""
    target = Repetition(domains, seed=law, space=scarce(domains, supply=0.5))
    return RepetitionLadder(target)


def _decoy(law: int = 0, domains: int = 8, correlation: float = 0.9) -> Rungs:
    """Interactions with rungs that rank well but not near the optimum, which looks bad to them."""
    target = Interactions(domains, seed=law)
    return SimulatedLadder(target, correlation=correlation, misleads=True)


def _phases(law: int = 0, domains: int = 8, effect: float = 2.0) -> Source:
    """Interactions in phases of 80 and 20 %: some domains are worth more late, some early."""
    return InPhases(Interactions(domains, seed=law), effect=effect, seed=law)


def _phases_scarce(law: int = 0, domains: int = 8, effect: float = 2.0) -> Source:
    """Repetition in the same phases: what is scarce is spent early or kept for the end."""
    return InPhases(Repetition(domains, seed=law), effect=effect, seed=law)


def _mixing_law(law: int = 0, domains: int = 21) -> Source:
    """A mixing law, exponential and convex: the shape climb_opt's constants were chosen on."""
    return MixingLaw(domains, seed=law)


PROBLEMS: dict[str, Callable[..., Source | Rungs]] = {
    "interactions": _interactions,
    "thresholds": _thresholds,
    "traces": _traces,
    "repetition": _repetition,
    "wide": _wide,
    "bounded": _bounded,
    "ladder": _ladder,
    "misleading": _misleading,
    "decoy": _decoy,
    "phases": _phases,
    "phases-scarce": _phases_scarce,
    "mixing-law": _mixing_law,
}


@lru_cache(maxsize=64)  # thousands of evaluations for the units and the optimum
def _made(name: str, options: tuple[tuple[str, Any], ...]) -> Problem:
    given = dict(options)
    noise = given.pop("noise", NOISE)
    made = PROBLEMS[name](**given)
    if isinstance(made, Rungs):
        return Problem(name, replace(made, noise=noise))
    return Problem(name, SourceLadder((made,), ONE, noise), parts=made, seen=name in SEEN)
