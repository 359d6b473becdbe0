"""What the trials of a search took, by rung, and so how long it still takes."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import FrozenTrial, Trial, TrialState

from climb_opt.attributes import IMPORTED, METHOD
from climb_opt.history import is_moved, seconds_of
from climb_opt.ladder import ENDED, Ladder, rung_of
from climb_opt.ladder.branches.slots import is_branch
from climb_opt.plan import Plan, Slot

RECENT = 20  # finished trials that a rate is taken from
# A trial that takes so many times what others took at most may hang; of minutes any other work on
# its machine makes as much.
OVERDUE = 2.0
LEAST = 600.0  # seconds


def overdue(most: float) -> float:
    """Seconds after which a trial may hang, where others took at most so many."""
    return max(OVERDUE * most, LEAST)


@dataclass(frozen=True)
class RungStatus:
    """Trials of a rung, imported ones too: the FLOPs of one, the FLOPs and the seconds that those
    that ended took."""

    name: str
    flops: float
    finished: int
    running: int
    spent: float
    seconds: float


class Durations:
    """How long trials take: typically, and on each rung."""

    def __init__(self, trials: Sequence[FrozenTrial], plan: Plan) -> None:
        ended = [t for t in trials if t.state in ENDED and t.datetime_start and t.datetime_complete]
        # Imported ones took no time here, and seldom say what they took elsewhere.
        ended = [t for t in ended if not (is_branch(t) or is_moved(t) or IMPORTED in t.user_attrs)]
        ended.sort(key=lambda t: t.datetime_complete or datetime.min)
        self._costs = [1.0] if plan.ladder is None else plan.ladder.costs.tolist()
        self._on: dict[int, list[float]] = {}
        self._target = plan.target
        for trial in ended:
            self._on.setdefault(rung_of(trial, plan.target), []).append(seconds_of(trial))
        recent = ended[-RECENT:]
        seconds = [seconds_of(t) for t in recent]
        self.typical = statistics.median(seconds) if ended else None
        flops = sum(self._costs[rung_of(t, plan.target)] for t in recent)
        self._per_flop = sum(seconds) / flops if ended else None

    def needed(
        self, todo: Sequence[Mapping[int, int]], workers: int, barrier: bool
    ) -> float | None:
        """Seconds for trials by round and rung; with the barrier workers wait as a round ends."""
        if self.typical is None:
            return None
        part = math.ceil if barrier else float
        each = [pair for counts in todo for pair in counts.items()]
        return float(sum(part(n / workers) * self._seconds(rung) for rung, n in each))

    def paid(self, flops: float, workers: int) -> float | None:
        """Seconds in which so many FLOPs are spent."""
        return None if self._per_flop is None else self._per_flop * flops / workers

    def longest(self, trial: FrozenTrial | Trial) -> float:
        """What recent trials of a running one's rung took at most; infinite where nothing is known
        of trials like it."""
        if is_branch(trial) or METHOD in trial.user_attrs:
            return math.inf
        return max(self._on.get(rung_of(trial, self._target), [math.inf])[-RECENT:])

    def exceeded(self, trial: FrozenTrial, seconds: float) -> float | None:
        """`longest`, where a trial takes far longer; None where it does not."""
        most = self.longest(trial)
        return most if seconds > overdue(most) else None

    def _seconds(self, rung: int) -> float:
        """Of a trial on a rung: typically, or by its FLOPs where none has ended there yet."""
        if rung in self._on:
            return statistics.median(self._on[rung][-RECENT:])
        assert self._per_flop is not None
        return self._per_flop * self._costs[rung]


def rung_status(ladder: Ladder, trials: Sequence[FrozenTrial]) -> tuple[RungStatus, ...]:
    """What each rung's trials took, cheapest first."""
    on: list[list[FrozenTrial]] = [[] for _ in ladder.rungs]
    for trial in trials:
        if not is_branch(trial):
            on[ladder.rung_of(trial)].append(trial)
    return tuple(
        RungStatus(
            name=rung.name,
            flops=rung.flops,
            finished=sum(t.state in ENDED for t in mine),
            running=sum(t.state == TrialState.RUNNING for t in mine),
            spent=ladder.spent(mine),
            seconds=sum(seconds_of(t) for t in mine if t.state.is_finished()),
        )
        for rung, mine in zip(ladder.rungs, on, strict=True)
    )


def unfinished(
    plan: Plan, attempts: Mapping[Slot, Sequence[FrozenTrial]], slots: Collection[Slot]
) -> Counter[int]:
    """Slots by rung that are neither finished nor given up."""
    found: Counter[int] = Counter()
    for slot in slots:
        tried = attempts.get(slot, ())
        if plan.state(tried) not in ("finished", "given up"):
            fixed = plan.rung_of(slot) if not tried else rung_of(tried[-1], plan.target)
            found[plan.target if fixed is None else fixed] += 1
    return found
