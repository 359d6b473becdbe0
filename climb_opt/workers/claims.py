"""Claiming a slot: reap the dead, ask the plan, start a trial. All under the study's lock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from climb_opt.attributes import (
    BEAT,
    ENQUEUED,
    ERROR,
    INTERRUPTED,
    OURS,
    PAUSED,
    RUNG,
    SEED,
    SLOT,
    by_owner,
)
from climb_opt.bounds import SUM_TOLERANCE
from climb_opt.ladder import BudgetSpent
from climb_opt.ladder.branches.slots import part_of
from climb_opt.phases import parameters
from climb_opt.plan import Plan, Slot, Step, attempts_by_slot, failures
from climb_opt.simplex import PREFIX, MixtureSpace
from climb_opt.storages import StudyLock, persist, reading_once
from climb_opt.view import all_trials, rung_attributes
from climb_opt.workers.beats import Pace, Reaper, ended_here, sign, worker_name

log = logging.getLogger(__name__)

UNKNOWN = "unknown"  # who is at a trial of another program

Verdict = Literal["wait", "done", "paused"]
Mixture = Mapping[str, float]


@runtime_checkable
class PlansAhead(Protocol):
    """A sampler that knows a slot's mixture before its trial exists.

    The trial is then written in one commit, whatever the number of domains. Called under the
    study's lock.
    """

    def plan_ahead(
        self, study: optuna.Study, slot: Slot
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The weights as parameters, and attributes to store with them: those of ours, "climb/...",
        are user attributes, among them the rung if it chooses one.

        Raises:
            BudgetSpent: nothing that the budget still pays for is worth it.
        """


@dataclass(frozen=True)
class Work:
    """What the workers of a study are to do; the same for all of them but for `stop`, `on_trial`.

    Args:
        plan: the slots.
        mixtures: slot -> mixture (domain -> weight) for slots that the sampler does not propose:
            baselines, runs that confirm.
        attrs: slot -> user attributes that its trials start with, for example `climb/seed`.
        space: tells whether a failed attempt had all its weights, so that a retry keeps them.
        stop: asked again and again, also while the storage is away.
        on_trial: called with each trial that this worker finished, failed ones too.
        pace: how often workers beat and look.
        lost: set while the trial that this worker is at is no longer its own: others took it for
            dead. What is still trained of it is in vain, and in the way of who tries it again.
    """

    plan: Plan
    mixtures: Mapping[Slot, Mixture] = field(default_factory=dict)
    attrs: Mapping[Slot, Mapping[str, Any]] = field(default_factory=dict)
    space: MixtureSpace | None = None
    stop: Callable[[], bool] = lambda: False
    on_trial: Callable[[FrozenTrial], None] = lambda trial: None
    pace: Pace = field(default_factory=Pace)
    lost: threading.Event = field(default_factory=threading.Event)


class Claims:
    """How one worker comes by its trials.

    Args:
        study: with a patient storage.
        wanted: what the study's workers are to do.
    """

    def __init__(self, study: optuna.Study, lock: StudyLock, wanted: Work) -> None:
        self.study, self.lock, self.wanted = study, lock, wanted
        self._plan, self._reaper = wanted.plan, Reaper(wanted.pace.grace)
        self.seen: list[FrozenTrial] = []  # the study's trials, as they were read last
        self._left: dict[int, float] = {}  # a failed trial -> since when nobody else came

    def claim(self) -> optuna.Trial | Verdict:
        """A trial that is ours, or why there is none."""
        if self.study.user_attrs.get(PAUSED):
            return "paused"
        persist(self.lock.__enter__, self.wanted.stop)
        try:
            with reading_once(self.study, self.reap()) as trials:
                started = self._pop(trials)
                if started is None:
                    step = self.step(trials)
                    if step.kind != "go":
                        return step.kind
                    assert step.slot is not None
                    try:
                        started = self._start(step.slot, step.attempts)
                    except BudgetSpent:
                        busy = any(t.state == TrialState.RUNNING for t in trials)
                        return "wait" if busy else "done"
            held = self.lock.release()
        finally:
            self.lock.__exit__(None, None, None)
        if held:
            return optuna.Trial(self.study, started)
        log.warning("The study's lock was lost; its trial is given back.")
        fail(self.study, started, "the study's lock was lost", {INTERRUPTED: True})
        return "wait"

    def look(self) -> Verdict | None:
        """Without the lock: whether a claim is still in vain, and why."""
        trials = self.reap()
        if self.study.user_attrs.get(PAUSED):
            return "paused"
        if any(t.state == TrialState.WAITING for t in trials):
            return None
        step = self.step(trials)
        return None if step.kind == "go" else step.kind

    def step(self, trials: Iterable[FrozenTrial]) -> Step:
        """The plan's next step, with the mixtures in line (and their retries) before it; "wait"
        where that is left to another worker."""
        trials, busy = list(trials), False
        for slot, tried in attempts_by_slot(trials).items():
            if isinstance(slot, str) and slot.startswith(ENQUEUED):
                attempts, state = tuple(tried), self._plan.state(tried)
                left = state == "idle" and self._is_left(attempts, trials)
                if state == "idle" and not left:
                    return Step("go", slot, attempts)
                busy = busy or left or state == "busy"
        step = self._plan.next(trials)
        if step.kind == "go" and self._is_left(step.attempts, trials):
            return Step("wait")
        return Step("wait") if busy and step.kind == "done" else step

    def _is_left(self, attempts: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]) -> bool:
        """Whether a slot's last attempt is left to another worker: all earlier ones failed on this
        one, which may be at fault. It is this one's if none is at work or comes for it."""
        failed = failures(attempts)
        if len(failed) < max(1, self._plan.max_attempts - 1):
            return False
        beats = {_worker(t): t.user_attrs.get(BEAT) for t in trials}
        others = {w for w, beat in beats.items() if not ended_here(beat)} - {worker_name(), UNKNOWN}
        if {*map(_worker, failed)} != {worker_name()} or not others:
            return False
        now, last = time.monotonic(), failed[-1].number
        if any(t.state == TrialState.RUNNING and _worker(t) in others for t in trials):
            self._left[last] = now
        # Who waits looks that often, and is not seen.
        return now - self._left.setdefault(last, now) < 2 * self.wanted.pace.poll

    def reap(self) -> list[FrozenTrial]:
        """Fail the trials of dead workers. Returns all trials, as they are then."""
        trials = all_trials(self.study)
        dead = self._reaper.dead(trials)
        for trial, reason in dead:
            if fail(self.study, trial._trial_id, reason):
                log.warning("Trial %d is failed: %s.", trial.number, reason)
        self.seen = all_trials(self.study) if dead else trials
        return self.seen

    def others(self) -> list[str]:
        """The workers, other than this process, that hold trials of the study."""
        running = [t for t in self.seen if t.state == TrialState.RUNNING]
        return sorted({*map(_worker, running)} - {worker_name()})

    def _pop(self, trials: Iterable[FrozenTrial]) -> int | None:
        storage = self.study._storage
        for trial in trials:
            if trial.state == TrialState.WAITING:
                try:
                    ours = storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
                except UpdateFinishedTrialError:
                    continue
                if ours:
                    storage.set_trial_user_attr(trial._trial_id, BEAT, sign(0))
                    return trial._trial_id
        return None

    def _start(self, slot: Slot, attempts: tuple[FrozenTrial, ...]) -> int:
        params, distributions, stored = self._parameters(slot, attempts)
        earlier = [item for attempt in attempts for item in attempt.user_attrs.items()]
        kept = {k: v for k, v in earlier if not k.startswith(OURS) or k in (SEED, RUNG)}
        if part_of(slot) is not None:
            stored = {}
        elif self._plan.ladder is not None:
            rung = {RUNG: self._plan.rung_of(slot), **stored, **kept}[RUNG]
            rung = self._plan.target if rung is None else rung  # a sampler that names none
            stored = {**stored, **rung_attributes(rung, self._plan.target)}
        ours, system_attrs = by_owner(stored)
        template = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={**kept, **ours, **self.wanted.attrs.get(slot, {}), SLOT: slot}
            | {BEAT: sign(0)},
            system_attrs=system_attrs,
        )
        return self.study._storage.create_new_trial(self.study._study_id, template_trial=template)

    def _parameters(
        self, slot: Slot, attempts: tuple[FrozenTrial, ...]
    ) -> tuple[dict[str, Any], dict[str, BaseDistribution], dict[str, Any]]:
        for attempt in reversed(attempts):  # a retry keeps its mixture, whoever sampled it
            if self._whole(attempt):
                return dict(attempt.params), dict(attempt.distributions), _proposal(attempt)
        if slot in self.wanted.mixtures:
            params = parameters(self.wanted.space, self.wanted.mixtures[slot])
            return params, _weights(params), {}
        if isinstance(slot, int) and isinstance(self.study.sampler, PlansAhead):
            params, stored = self.study.sampler.plan_ahead(self.study, slot)
            return params, _weights(params), stored
        return {}, {}, {}  # the sampler is asked by the objective's first suggest

    def _whole(self, trial: FrozenTrial) -> bool:
        """Whether a trial has all its weights: its worker may have died between two of them."""
        if self.wanted.space is not None:
            return self.wanted.space.weights_of(trial) is not None
        weights = [w for name, w in trial.params.items() if name.startswith(PREFIX)]
        return abs(sum(weights) - 1.0) <= SUM_TOLERANCE


def fail(
    study: optuna.Study, trial_id: int, reason: str, attrs: Mapping[str, Any] | None = None
) -> bool:
    """Fail a running trial with its reason, unless it was finished meanwhile; whether it is so."""
    storage = study._storage
    try:
        for name, value in {**(attrs or {}), ERROR: reason}.items():
            storage.set_trial_user_attr(trial_id, name, value)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        log.info("Trial with id %d was finished meanwhile.", trial_id)
        return False
    return True


def _worker(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(BEAT, {}).get("worker", UNKNOWN))


def _weights(params: Mapping[str, float]) -> dict[str, BaseDistribution]:
    return {name: FloatDistribution(0.0, 1.0) for name in params}


def _proposal(trial: FrozenTrial) -> dict[str, Any]:
    """What the sampler stored with the proposal; constraints are results, and set only once."""
    return {k: v for k, v in trial.system_attrs.items() if not k.startswith("constraint")}
