"""Schedules: what a model is trained on where the mixture changes while it trains.

A *phase* is a share of a run's tokens with a mixture of its own; a *schedule* is the phases of a
run in order. One phase is the ordinary case: a mixture. Phases end between two steps; where, is
decided here, for training and for every export.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from climb_opt.errors import UserError
from climb_opt.sums import checked_sum
from climb_opt.written import number

JITTER = 1e-9  # of a step: what sums of decimals are off by
SAME = 1e-9  # what is this near to 1 stays as it was given, so that it is read as it was written


@dataclass(frozen=True)
class Phase:
    """A share of a run's tokens, in (0, 1], and its mixture: domain -> weight, the sum 1."""

    share: float
    mixture: Mapping[str, float]


Schedule = tuple[Phase, ...]


def constant(mixture: Mapping[str, float]) -> Schedule:
    """The schedule of one mixture throughout."""
    return (Phase(1.0, mixture),)


def mean_mixture(schedule: Schedule) -> dict[str, float]:
    """domain -> its share of the whole run's tokens, in the order in which phases name them."""
    if len(schedule) == 1:
        return dict(schedule[0].mixture)
    names = dict.fromkeys(name for phase in schedule for name in phase.mixture)
    return {n: math.fsum(p.share * p.mixture.get(n, 0.0) for p in schedule) for n in names}


def step_borders(shares: Iterable[float], steps: int, what: str = "steps") -> list[int]:
    """Where phases begin among so many steps, from 0, and the end: P + 1 whole numbers that rise.

    Each border is the nearest step, a half rounded up; so no phase is off by more than one step.

    Args:
        what: are counted, in words, where it is not steps.

    Raises:
        UserError: a phase shorter than one step.
    """
    shares = list(shares)
    for place, share in enumerate(shares, start=1):
        if share * steps < 1 - JITTER:
            raise UserError(
                f"Phase {place} of {len(shares)} is {share:.4g} of {steps} {what}: less than one. "
                f"Give it at least {1 / max(steps, 1):.4g}, or divide the run into more {what}."
            )
    ends = (math.floor(end * steps + 0.5 + JITTER) for end in accumulate(shares[:-1]))
    return [0, *ends, steps]


def check_shares(shares: Sequence[Any], where: str) -> tuple[float, ...]:
    """The shares of phases, of which the sum is 1: what rounding left is scaled away, and said.

    Args:
        where: they were written, for messages: "study.phases".

    Raises:
        UserError: no phase, a share that is no number in (0, 1], or another sum.
    """
    if isinstance(shares, (str, Mapping)) or not isinstance(shares, Sequence) or not shares:
        raise UserError(f"{where}: expected a list of shares such as [0.8, 0.2], not {shares!r}.")
    found = [number(share, f"{where}: the share of phase {p}") for p, share in enumerate(shares, 1)]
    for place, share in enumerate(found, start=1):
        if not 0 < share <= 1:
            raise UserError(
                f"{where}: the share of phase {place} must be in (0, 1], but is {share:g}."
            )
    total = checked_sum(found, where, ("share", "phase"))
    return tuple(found) if abs(total - 1) < SAME else tuple(share / total for share in found)


def schedule_data(schedule: Schedule) -> list[dict[str, Any]]:
    """A schedule as plain data, which `mixtures.schedule_from` reads."""
    return [{"share": phase.share, "mixture": dict(phase.mixture)} for phase in schedule]
