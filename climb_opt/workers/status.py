"""How a search stands: rounds, running trials and their workers, failures, time left."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import (
    BESIDE,
    ENQUEUED,
    ERROR,
    INTERRUPTED,
    METHOD,
    PAUSED,
    SLOT,
    UNREAD,
)
from climb_opt.history import is_moved
from climb_opt.ladder import rung_of
from climb_opt.ladder.agreement import Agreement, rank_agreement
from climb_opt.plan import Plan, Slot, attempts_by_slot
from climb_opt.view import StudyView, all_trials
from climb_opt.workers.durations import Durations, RungStatus, rung_status, unfinished
from climb_opt.workers.running import RunningStatus, running_now


@dataclass(frozen=True)
class RoundStatus:
    """Slots by what has become of them: of one round, of what is before or beside the rounds, or
    all outside the plan, where a trial without a slot counts as one. `rung`: the name of its slots'
    rung; None where there is but one, or the sampler chooses. `verifies`: whether they measure the
    recommendation (`verify`)."""

    size: int
    finished: int
    running: int
    waiting: int
    idle: int
    given_up: tuple[Slot, ...]
    rung: str | None = None
    verifies: bool = False


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
    best: float | None  # of the finite scores, at the target
    trials_per_hour: float | None
    seconds_left: float | None
    finished: int = field(default=0)
    unread: tuple[str, ...] = ()  # domains too small for round 1 to read
    rungs: tuple[RungStatus, ...] = ()  # cheapest first; empty without a ladder
    agreement: tuple[Agreement, ...] = ()  # of rungs, on mixtures that were run on both
    distrusted: tuple[str, ...] = ()  # a sentence for each rung that is bought no more
    budget: float | None = None  # FLOPs
    left: float | None = None  # FLOPs of the budget that are neither spent nor `begun`
    begun: float = 0.0  # FLOPs of the budget that trials take which run or wait
    spent: bool | None = None  # whether the budget pays for no further trial
    before: RoundStatus | None = None  # trunk, branches and what checks them; None: there are none
    verdicts: tuple[str, ...] = ()  # on branches of several domains, on checked read-outs
    methods: Mapping[str, float] = field(default_factory=dict)  # baselines by methods: their scores
    named: RoundStatus | None = None  # the baselines; None: there are none
    beside: str = ""  # the command whose runs beside a search `named` are, as `confirm`

    @property
    def size(self) -> int:
        """Slots of the plan, the named ones included; with a budget those that were begun."""
        return sum(r.size for r in self._all)

    @property
    def count(self) -> int:
        """Slots of the plan that are done; with a budget, whatever it paid for, trials that are."""
        return self.finished + (0 if self.budget is None else self.extra)

    @property
    def _all(self) -> tuple[RoundStatus, ...]:
        return tuple(r for r in (self.before, self.named, *self.rounds) if r is not None)

    @property
    def given_up(self) -> tuple[Slot, ...]:
        """Slots that failed too often: in the order of the plan, then those of mixtures in line."""
        return tuple(slot for r in (*self._all, self.outside) for slot in r.given_up)

    @property
    def done(self) -> bool:
        """Whether every slot of the plan is finished or given up; with a budget, it is spent."""
        closed = self.finished + sum(len(r.given_up) for r in self._all) == self.size
        return closed if self.spent is None else self.spent


def status(study: optuna.Study, plan: Plan, *, now: float | None = None) -> Status:
    """The status of a study under its plan. `now` is Unix time, for tests."""
    now = time.time() if now is None else now
    trials = all_trials(study)
    attempts = attempts_by_slot(trials)
    planned = plan.planned(trials)
    rounds, named = round_status(plan, trials), None
    if plan.named:
        target = None if plan.ladder is None or not plan.rungs else plan.ladder.rungs[-1].name
        named = replace(_round(plan, plan.named, attempts), rung=target)
    prepared = plan.prepared(trials)
    before = _round(plan, prepared, attempts) if prepared else None
    inside = {slot for slots in (prepared, *planned) for slot in slots}
    loose = _loose(plan, inside, attempts, trials)
    outside = _round(plan, list(loose), loose)
    pace = Durations(trials, plan)
    running = running_now(trials, plan, pace, now)
    workers = max(1, sum(r.slot is not None for r in running))
    left, over, begun = None, None, 0.0
    if plan.budget is not None and plan.ladder is not None:
        over = plan.next(trials).kind == "done"
        left = plan.budget - plan.ladder.taken(trials)
        begun = plan.ladder.taken(t for t in trials if not t.state.is_finished())
        # What is left at the end pays for no trial of the target any more.
        seconds = pace.paid((0.0 if over else max(left, 0.0)) + begun, workers)
    else:
        todo = [unfinished(plan, attempts, slots) for slots in (prepared, *planned)]
        seconds = pace.needed([*todo, unfinished(plan, loose, loose)], workers, plan.barrier)
    return Status(
        name=study.study_name,
        rounds=rounds,
        outside=outside,
        running=running,
        failures=tuple(_failure(t) for t in trials if t.state == TrialState.FAIL),
        extra=outside.finished,
        paused=bool(study.user_attrs.get(PAUSED)),
        best=_best(study, trials, plan.target),
        trials_per_hour=None if not pace.typical else 3600 * workers / pace.typical,
        seconds_left=seconds,
        finished=sum(r.finished for r in (before, named, *rounds) if r is not None),
        unread=tuple(study.user_attrs.get(UNREAD, ())),
        rungs=() if plan.ladder is None else rung_status(plan.ladder, trials),
        agreement=() if plan.target == 0 else _agreement(study),
        budget=plan.budget,
        left=left,
        begun=begun,
        spent=over,
        before=before,
        verdicts=(*plan.before.notes, *map(str, plan.verdicts(trials))),
        methods={t.user_attrs[METHOD]: t.values[0] for t in trials if is_moved(t)},
        named=named,
        beside=next((made for mark, made in BESIDE.items() if mark in study.user_attrs), ""),
    )


def round_status(plan: Plan, trials: Sequence[FrozenTrial]) -> tuple[RoundStatus, ...]:
    """What has become of the slots of each round; named ones, such as baselines, are in none."""
    if not plan.rounds and plan.budget is None:
        return ()
    attempts = attempts_by_slot(trials)
    return tuple(
        replace(
            _round(plan, [slot for slot in slots if slot not in plan.named], attempts),
            rung=_rung_of_round(plan, index),
            verifies=any(plan.verifies(slot) for slot in slots),
        )
        for index, slots in enumerate(plan.planned(trials))
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


def _rung_of_round(plan: Plan, index: int) -> str | None:
    if plan.ladder is None or not plan.rungs:
        return None
    return plan.ladder.rungs[plan.rungs[index]].name


def _loose(
    plan: Plan,
    planned: Collection[Slot],
    attempts: Mapping[Slot, list[FrozenTrial]],
    trials: Sequence[FrozenTrial],
) -> dict[Slot, list[FrozenTrial]]:
    """Attempts outside the plan, also of Optuna's own queue and of what was imported: trials
    without a slot, never tried again."""
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
    return {**named, **loose}


def _failure(trial: FrozenTrial) -> FailureStatus:
    return FailureStatus(
        number=trial.number,
        slot=trial.user_attrs.get(SLOT),
        reason=str(trial.user_attrs.get(ERROR, "no reason stored")),
        interrupted=bool(trial.user_attrs.get(INTERRUPTED)),
    )


def _agreement(study: optuna.Study) -> tuple[Agreement, ...]:
    view = StudyView(study)
    if view.ladder is None or not any(t.state == TrialState.COMPLETE for t in view.trials()):
        return ()
    return tuple(rank_agreement(view.history(rungs=True), len(view.ladder)))


def _best(study: optuna.Study, trials: Sequence[FrozenTrial], target: int) -> float | None:
    if len(study.directions) != 1:
        return None
    told = [
        t.values[0]
        for t in trials
        if t.state == TrialState.COMPLETE and t.values and rung_of(t, target) == target
    ]
    pick = max if study.direction == StudyDirection.MAXIMIZE else min
    return pick(filter(math.isfinite, told), default=None)
