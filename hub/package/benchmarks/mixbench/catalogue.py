# Written by hub/build.py from climb_opt: change it there.
"""The problems by name. Simulated ones need no data; `tables.py` makes problems of yours.

Add one with a function and a line in `PROBLEMS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
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
    known = inspect.signature(PROBLEMS[name]).parameters
    if odd := sorted(set(options) - set(known)):
        hint = did_you_mean(odd[0], known)
        raise UserError(f"Problem {name!r} takes no {odd[0]!r}.{hint} It takes {listed(known)}.")
    numbers = {key: _number(name, key, options[key], known[key].default) for key in options}
    return _made(name, tuple(sorted(numbers.items())))


def _number(name: str, option: str, value: Any, usual: float) -> float:
    """An option as the kind of number that its default is."""
    whole = isinstance(usual, int)
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or (whole and not float(value).is_integer()):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{name}: {option} must be {kind}, but is {value!r}.")
    return int(value) if whole else float(value)


def _interactions(law: int = 0, noise: float = NOISE, domains: int = 8) -> Problem:
    """Tasks that need several kinds of text at once; some domains spoil each other."""
    return _one("interactions", Interactions(domains, seed=law), noise)


def _thresholds(law: int = 0, noise: float = NOISE, domains: int = 10) -> Problem:
    """Domains help once their share passes a threshold: plateaus and several optima."""
    return _one("thresholds", Thresholds(domains, seed=law), noise)


def _traces(law: int = 0, noise: float = NOISE, domains: int = 16) -> Problem:
    """Ratios of shares count down to traces: the optimum lies in logarithms of the weights."""
    return _one("traces", Traces(domains, seed=law), noise, seen=True)


def _repetition(law: int = 0, noise: float = NOISE, domains: int = 12) -> Problem:
    """Tokens run out: a repeated domain gives less, then harms; inventories are known."""
    return _one("repetition", Repetition(domains, seed=law), noise)


def _wide(law: int = 0, noise: float = NOISE, domains: int = 40) -> Problem:
    """Repetition with many domains, most of them of little use."""
    return _one("wide", Repetition(domains, seed=law), noise)


def _bounded(law: int = 0, noise: float = NOISE, domains: int = 12) -> Problem:
    """Repetition within bounds: every domain at least 1 %, none above 40 % or 4 epochs."""
    space = scarce(domains, supply=2.0, lower=0.01, upper=0.4, max_epochs=4.0)
    return _one("bounded", Repetition(domains, seed=law, space=space), noise)


def _ladder(law: int = 0, noise: float = NOISE, domains: int = 12) -> Problem:
    """Repetition with rungs of a sixteenth and a quarter of the tokens, epochs matched."""
    target = Repetition(domains, seed=law)
    return Problem("ladder", RepetitionLadder(target, matched=True, noise=noise))


def _misleading(law: int = 0, noise: float = NOISE, domains: int = 12) -> Problem:
    """Repetition with rungs of fewer tokens of the same text: they cannot see what runs out."""
    target = Repetition(domains, seed=law, space=scarce(domains, supply=0.5))
    return Problem("misleading", RepetitionLadder(target, noise=noise))


def _decoy(
    law: int = 0, noise: float = NOISE, domains: int = 8, correlation: float = 0.9
) -> Problem:
    """Interactions with rungs that rank well but not near the optimum, which looks bad to them."""
    target = Interactions(domains, seed=law)
    source = SimulatedLadder(target, correlation=correlation, misleads=True, noise=noise)
    return Problem("decoy", source)


def _phases(law: int = 0, noise: float = NOISE, domains: int = 8, effect: float = 2.0) -> Problem:
    """Interactions in phases of 80 and 20 %: some domains are worth more late, some early."""
    return _one("phases", InPhases(Interactions(domains, seed=law), effect=effect, seed=law), noise)


def _phases_scarce(
    law: int = 0, noise: float = NOISE, domains: int = 8, effect: float = 2.0
) -> Problem:
    """Repetition in the same phases: what is scarce is spent early or kept for the end."""
    plain = Repetition(domains, seed=law)
    return _one("phases-scarce", InPhases(plain, effect=effect, seed=law), noise)


def _mixing_law(law: int = 0, noise: float = NOISE, domains: int = 21) -> Problem:
    """A mixing law, exponential and convex: the shape climb_opt's constants were chosen on."""
    return _one("mixing-law", MixingLaw(domains, seed=law), noise, seen=True)


PROBLEMS: dict[str, Callable[..., Problem]] = {
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
    return PROBLEMS[name](**dict(options))


def _one(name: str, law: Source, noise: float, *, seen: bool = False) -> Problem:
    return Problem(name, SourceLadder((law,), ONE, noise), parts=law, seen=seen)
