# Written by hub/build.py from climb_opt: change it there.
"""Rungs and ladders: what a trial costs, and at which rung mixtures are judged.

A *rung* gives a score for a mixture at a known cost in FLOPs: a proxy recipe with its tokens. A
*ladder* is a study's rungs, cheapest first; the last is the *target*. A trial without the attribute
`climb/rung` is one of the target, so that a study without a ladder is one of a single rung.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, Trial, TrialState

from .attributes import FACTS, IMPORTED, RUNG, SLOT
from .errors import UserError
from .text import flops, powers

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
TAKEN = (*ENDED, TrialState.RUNNING, TrialState.WAITING)


class BudgetSpent(Exception):
    """A sampler found nothing worth its cost among the trials that the budget still pays for."""


@dataclass(frozen=True)
class Rung:
    """What scores a mixture: its name, and the FLOPs, tokens and parameters of one trial.

    `going_on` is what one pays that goes on from a trial of the rung below; None: it cannot.
    `methods` are the FLOPs of trials in slots of which a method sets the weights.
    """

    name: str
    flops: float
    tokens: int | None = None
    parameters: int | None = None
    going_on: float | None = None
    methods: Mapping[str, float] | None = None

    @property
    def methods_beyond(self) -> float:
        """FLOPs by which its trials by methods cost more than as many others."""
        return sum(flops - self.flops for flops in (self.methods or {}).values())


@dataclass(frozen=True)
class Ladder:
    """Rungs, cheapest first; the last is the target. Of rungs of one name each gets a letter.

    Raises:
        UserError: no rung, a cost that is no positive number, or rungs out of order of cost.

    >>> ladder = Ladder((Rung("20M", 1e15), Rung("350M", 4e16)))
    >>> ladder.target, ladder.shares.tolist()
    (1, [0.025, 1.0])
    """

    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        if not self.rungs:
            raise UserError("A ladder needs at least one rung.")
        for rung in self.rungs:
            if not (np.isfinite(rung.flops) and rung.flops > 0):
                raise UserError(
                    f"Rung {rung.name!r} costs {rung.flops!r} FLOPs; it must be a positive number."
                )
        for lower, upper in zip(self.rungs, self.rungs[1:], strict=False):
            if lower.flops >= upper.flops:
                raise UserError(
                    f"Rungs must be in order of cost, cheapest first, but {lower.name!r} costs "
                    f"{flops(lower.flops)} a trial and {upper.name!r} after it "
                    f"{powers(upper.flops)}; sort them, or drop one of two that cost the same."
                )
        object.__setattr__(self, "rungs", _told_apart(self.rungs))

    @classmethod
    def of(cls, costs: Sequence[float]) -> Ladder:
        """A ladder of rungs of these FLOPs a trial, named by their numbers."""
        return cls(tuple(Rung(f"rung {i}", float(cost)) for i, cost in enumerate(costs)))

    @classmethod
    def from_data(cls, data: Iterable[Mapping[str, Any]]) -> Ladder:
        """A ladder as a study stores it."""
        return cls(tuple(Rung(**rung) for rung in data))

    def to_data(self) -> list[dict[str, Any]]:
        """What a study stores."""
        every, spare = (asdict(rung) for rung in self.rungs), ("going_on", "methods")
        return [{k: v for k, v in r.items() if k not in spare or v is not None} for r in every]

    def __len__(self) -> int:
        return len(self.rungs)

    @property
    def target(self) -> int:
        """The rung at which mixtures are judged: the last."""
        return len(self.rungs) - 1

    @property
    def costs(self) -> np.ndarray:
        """FLOPs of a trial on each rung, (R,)."""
        return np.array([rung.flops for rung in self.rungs])

    @property
    def going_on(self) -> np.ndarray:
        """FLOPs (R,) of a trial that finds its mixture trained on the rung below."""
        return np.array([r.flops if r.going_on is None else r.going_on for r in self.rungs])

    @property
    def shares(self) -> np.ndarray:
        """Costs (R,) in trials of the target."""
        return self.costs / self.costs[-1]

    def rung_of(self, trial: FrozenTrial | Trial) -> int:
        """The rung of a trial: the target's where it says nothing."""
        return rung_of(trial, self.target)

    def number(self, rung: int | str) -> int:
        """The number of a rung that a person gives by number or name.

        Raises:
            UserError: there is no such rung; all are named.
        """
        names = [one.name for one in self.rungs]
        if rung in names:
            return names.index(str(rung))
        text = str(rung).strip()
        if text.isdecimal() and int(text) < len(names):
            return int(text)
        known = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
        raise UserError(
            f"No rung {rung!r}. Rungs, cheapest first: {known}; the last is the target."
        )

    def spent(self, trials: Iterable[FrozenTrial]) -> float:
        """FLOPs of the trials that finished; failed and imported ones cost nothing.

        A trial that was pruned, or went on from another, states that it used less than its rung's.
        """
        return self.taken(t for t in trials if t.state in ENDED)

    def taken(self, trials: Iterable[FrozenTrial]) -> float:
        """FLOPs of the trials that finished, run or wait: what they take of a budget."""
        taken = [t for t in trials if t.state in TAKEN and IMPORTED not in t.user_attrs]
        return float(sum(self._taken_by(trial) for trial in taken))

    def _taken_by(self, trial: FrozenTrial) -> float:
        price = self.price(trial.user_attrs.get(SLOT), self.rung_of(trial))
        facts = trial.user_attrs.get(FACTS, {})
        stated = facts.get("flops")
        if not isinstance(stated, (int, float)) or "readout" in facts:
            return price  # a read-out trains nothing: its price is that of evaluating
        return float(stated) if "part" in facts else min(float(stated), price)

    def price(self, slot: Any, rung: int) -> float:
        """FLOPs of a trial in this slot, on this rung."""
        one = self.rungs[rung]
        return (one.methods or {}).get(slot, one.flops)


def _told_apart(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """No two of one name, as those have that differ in their sequences alone."""
    times, seen = Counter(rung.name for rung in rungs), Counter[str]()
    found = []
    for rung in rungs:
        letter = f"-{chr(ord('a') + seen[rung.name])}" if times[rung.name] > 1 else ""
        seen[rung.name] += 1
        found.append(replace(rung, name=f"{rung.name}{letter}"))
    return tuple(found)


def rung_of(trial: FrozenTrial | Trial, target: int) -> int:
    """The rung of a trial: `target` where it says nothing, or names none of the ladder."""
    stated = trial.user_attrs.get(RUNG)
    return stated if isinstance(stated, int) and 0 <= stated < target else target
