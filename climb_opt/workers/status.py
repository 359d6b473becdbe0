"""How a search stands: rounds, running trials and their workers, failures, time left."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import BEAT, ENQUEUED, ERROR, INTERRUPTED, PAUSED, SLOT, UNREAD
from climb_opt.history import seconds_of
from climb_opt.plan import Plan, Slot, attempts_by_slot
from climb_opt.view import all_trials
from climb_opt.workers.beats import ended_here

RECENT = 20  # finished trials that the rate is taken from


@dataclass(frozen=True)
class RoundStatus:
    """Slots by what has become of them: of one round (the first has the named ones, too), or all
    outside the rounds, where a trial without a slot counts as one."""

    size: int
    finished: int
    running: int
    waiting: int
    idle: int
    given_up: tuple[Slot, ...]


@dataclass(frozen=True)
class RunningStatus:
    """A running trial. `age` is seconds since its worker's beat; negative when clocks differ."""

    number: int
    slot: Slot | None
    worker: str
    age: float | None
    seconds: float
    ended: bool = False  # its process, of this very machine, is no more


@dataclass(frozen=True)
class FailureStatus:
    """A failed trial and why; `interrupted` ones do not count as attempts."""

    number: int
    slot: Slot | None
    reason: str
    interrupted: bool


@dataclass(frozen=True)
class Status:
    """How a study stands at one moment. Seconds and trials per hour; None where not known yet."""

    name: str
    rounds: tuple[RoundStatus, ...]
    outside: RoundStatus  # mixtures in line, imported trials: `idle` ones will be tried again
    running: tuple[RunningStatus, ...]
    failures: tuple[FailureStatus, ...]
    extra: int  # finished trials outside the rounds: enqueued or imported
    paused: bool
    best: float | None  # of the finite scores
    trials_per_hour: float | None
    seconds_left: float | None
    finished: int = field(default=0)
    unread: tuple[str, ...] = ()  # domains too small for round 1 to read

    @property
    def size(self) -> int:
        """Slots of the plan, the named ones included."""
        return sum(r.size for r in self.rounds)

    @property
    def given_up(self) -> tuple[Slot, ...]:
        """Slots that failed too often: in the order of the plan, then those of mixtures in line."""
        return tuple(slot for r in (*self.rounds, self.outside) for slot in r.given_up)

    @property
    def done(self) -> bool:
        """Whether every slot of the plan is finished or given up."""
        return self.finished + sum(len(r.given_up) for r in self.rounds) == self.size


def status(study: optuna.Study, plan: Plan, *, now: float | None = None) -> Status:
    """The status of a study under its plan. `now` is Unix time, for tests."""
    now = time.time() if now is None else now
    trials = all_trials(study)
    attempts = attempts_by_slot(trials)
    indices = range(max(1, len(plan.rounds)))
    planned = [plan.slots(index) for index in indices]
    rounds = tuple(_round(plan, slots, attempts) for slots in planned)
    outside = _outside(plan, {slot for slots in planned for slot in slots}, attempts, trials)
    running = tuple(_running(t, now) for t in trials if t.state == TrialState.RUNNING)
    seconds = _seconds(trials)
    workers = max(1, sum(r.slot is not None for r in running))
    typical = statistics.median(seconds[-RECENT:]) if seconds else None
    turns = _turns(rounds, outside, workers, plan.barrier)
    return Status(
        name=study.study_name,
        rounds=rounds,
        outside=outside,
        running=running,
        failures=tuple(_failure(t) for t in trials if t.state == TrialState.FAIL),
        extra=outside.finished,
        paused=bool(study.user_attrs.get(PAUSED)),
        best=_best(study, trials),
        trials_per_hour=None if not typical else 3600 * workers / typical,
        seconds_left=None if typical is None else typical * turns,
        finished=sum(r.finished for r in rounds),
        unread=tuple(study.user_attrs.get(UNREAD, ())),
    )


def _round(
    plan: Plan, slots: Collection[Slot], attempts: Mapping[Slot, list[FrozenTrial]]
) -> RoundStatus:
    states = {slot: plan.state(attempts.get(slot, ())) for slot in slots}
    busy = [slot for slot in slots if states[slot] == "busy"]
    running = sum(any(t.state == TrialState.RUNNING for t in attempts[slot]) for slot in busy)
    return RoundStatus(
        size=len(slots),
        finished=sum(state == "finished" for state in states.values()),
        running=running,
        waiting=len(busy) - running,
        idle=sum(state == "idle" for state in states.values()),
        given_up=tuple(slot for slot in slots if states[slot] == "given up"),
    )


def _outside(
    plan: Plan,
    planned: Collection[Slot],
    attempts: Mapping[Slot, list[FrozenTrial]],
    trials: Sequence[FrozenTrial],
) -> RoundStatus:
    """Also Optuna's own queue and what was imported: trials without a slot, never tried again."""
    loose: dict[Slot, list[FrozenTrial]] = {
        f"trial {t.number}": [t]
        for t in trials
        if SLOT not in t.user_attrs and t.state != TrialState.FAIL
    }
    named = {
        slot: tried
        for slot, tried in attempts.items()
        if slot not in planned
        and (str(slot).startswith(ENQUEUED) or plan.state(tried) in ("finished", "busy"))
    }
    return _round(plan, [*named, *loose], {**named, **loose})


def _running(trial: FrozenTrial, now: float) -> RunningStatus:
    beat: Any = trial.user_attrs.get(BEAT)
    known = isinstance(beat, dict)
    started = trial.datetime_start or datetime.fromtimestamp(now)
    return RunningStatus(
        number=trial.number,
        slot=trial.user_attrs.get(SLOT),
        worker=str(beat.get("worker", "unknown")) if known else "unknown",
        age=now - float(beat["at"]) if known and "at" in beat else None,
        seconds=max(0.0, now - started.timestamp()),
        ended=ended_here(beat),
    )


def _failure(trial: FrozenTrial) -> FailureStatus:
    return FailureStatus(
        number=trial.number,
        slot=trial.user_attrs.get(SLOT),
        reason=str(trial.user_attrs.get(ERROR, "no reason stored")),
        interrupted=bool(trial.user_attrs.get(INTERRUPTED)),
    )


def _seconds(trials: Sequence[FrozenTrial]) -> list[float]:
    """Durations of finished trials, in the order in which they ended."""
    ended = [
        t
        for t in trials
        if t.state in (TrialState.COMPLETE, TrialState.PRUNED)
        and t.datetime_start is not None
        and t.datetime_complete is not None
    ]
    ended.sort(key=lambda t: t.datetime_complete or datetime.min)
    return [seconds_of(t) for t in ended]


def _turns(
    rounds: Sequence[RoundStatus], outside: RoundStatus, workers: int, barrier: bool
) -> float:
    """Typical durations left; with the barrier each round ends with workers that wait."""
    left = [r.size - r.finished - len(r.given_up) for r in (*rounds, outside)]
    if not barrier:
        return sum(left) / workers
    return float(sum(math.ceil(n / workers) for n in left))


def _best(study: optuna.Study, trials: Sequence[FrozenTrial]) -> float | None:
    if len(study.directions) != 1:
        return None
    told = [t.values[0] for t in trials if t.state == TrialState.COMPLETE and t.values]
    values = [value for value in told if math.isfinite(value)]
    pick = max if study.direction == StudyDirection.MAXIMIZE else min
    return pick(values, default=None)
