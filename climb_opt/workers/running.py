"""The trials that run: who is at each, for how long, and which of them may hang."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import BEAT, SLOT
from climb_opt.plan import Plan, Slot
from climb_opt.text import duration
from climb_opt.workers.beats import ended_here
from climb_opt.workers.durations import Durations


@dataclass(frozen=True)
class RunningStatus:
    """A running trial. `age` is seconds since its worker's beat; negative when clocks differ.
    `exceeds`: seconds that others of its rung took at most, where it takes far longer."""

    number: int
    slot: Slot | None
    worker: str
    age: float | None
    seconds: float
    ended: bool = False  # its process, of this very machine, is no more
    rung: str | None = None
    exceeds: float | None = None

    @property
    def caution(self) -> str:
        """That it may hang, and what to do; "" where nothing says so."""
        if self.exceeds is None or self.ended:
            return ""
        return (
            f"trial {self.number} has run for {duration(self.seconds)}, others like it for "
            f"{duration(self.exceeds)} at most; if its worker {self.worker} hangs, `kill -9` that "
            "process, and the slot is tried again"
        )


def running_now(
    trials: Sequence[FrozenTrial], plan: Plan, pace: Durations, now: float
) -> tuple[RunningStatus, ...]:
    """The running ones of a study's trials. `now` is Unix time."""
    return tuple(_running(t, plan, pace, now) for t in trials if t.state == TrialState.RUNNING)


def _running(trial: FrozenTrial, plan: Plan, pace: Durations, now: float) -> RunningStatus:
    beat: Any = trial.user_attrs.get(BEAT)
    known, slot = isinstance(beat, dict), trial.user_attrs.get(SLOT)
    started = trial.datetime_start or datetime.fromtimestamp(now)
    seconds = max(0.0, now - started.timestamp())
    return RunningStatus(
        number=trial.number,
        slot=slot,
        worker=str(beat.get("worker", "unknown")) if known else "unknown",
        age=now - float(beat["at"]) if known and "at" in beat else None,
        seconds=seconds,
        ended=ended_here(beat),
        rung=None if plan.ladder is None else plan.ladder.rungs[plan.ladder.rung_of(trial)].name,
        exceeds=pace.exceeded(trial, seconds) if known and slot is not None else None,
    )
