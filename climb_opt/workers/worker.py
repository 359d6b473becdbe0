"""One worker: claim a slot, run the objective, tell the result, until the plan is done."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import ERROR, INTERRUPTED, SLOT
from climb_opt.commands import typed_with
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.files import is_full
from climb_opt.storages import StudyLock, command_on, impatient, never, patient, redact, rest
from climb_opt.text import score
from climb_opt.workers.beats import Heart, worker_name
from climb_opt.workers.claims import Claims, Verdict, Work, fail
from climb_opt.workers.durations import Durations, overdue
from climb_opt.workers.running import RunningStatus, running_now

log = logging.getLogger(__name__)

Objective = Callable[[optuna.Trial], float | Sequence[float]]

# A worker that fails so often in a row, on so many slots, is at fault itself (a broken device, a
# missing file) and must not use up the attempts of everybody's slots. A slot that failed between
# others that succeeded is at fault, and counts no more.
FAILURES_IN_A_ROW = 5
SLOTS_IN_A_ROW = 3
LONGEST_REASON = 1000  # characters


def work(study: optuna.Study, objective: Objective, lock: StudyLock, wanted: Work) -> None:
    """Take slots of the plan until none is left, or until `wanted.stop` says so.

    Any number of workers, on any machines, may do this on one study; each may come and go.

    Args:
        objective: trial -> score. `TrialFailed` and other exceptions fail the trial, which is
            tried again up to `plan.max_attempts` times; `Interrupted` gives the slot back.
        lock: `storages.study_lock(study)`.

    Raises:
        Interrupted: the objective was told to stop, or `stop` said so while the storage was away.
        UserError: raised by the objective for a planned trial, or this worker failed on slot after
            slot, or its disk is full; the slot is given back.
    """
    pace, stop = wanted.pace, wanted.stop
    study = patient(study, stop)
    claims = Claims(study, lock, wanted)
    failed: list[Any] = []  # the slot of each failure since the last success
    faulty: set[Any] = set()
    while not stop():
        claimed = _claim(claims, stop, pace.poll)
        if claimed is None:
            return
        with _minded(claims, claimed):
            trial, verdict = _run(claimed, objective, wanted)
        wanted.on_trial(trial)
        if verdict is not None:
            raise verdict
        if trial.state != TrialState.FAIL:
            faulty.update(failed)
            failed.clear()
        elif not trial.user_attrs.get(INTERRUPTED):
            slot = trial.user_attrs.get(SLOT, trial.number)
            failed += [] if slot in faulty else [slot]
        slots = len(set(failed))
        if len(failed) >= FAILURES_IN_A_ROW and slots >= SLOTS_IN_A_ROW:
            raise UserError(
                f"The last trials of {slots} slots failed on this worker, most recently: "
                f"{trial.user_attrs.get(ERROR)}. Mend it and start the worker again; the study "
                "goes on with the others."
            )


def log_trial(trial: FrozenTrial) -> None:
    """Log that a trial ended: one that failed as a warning, which Python shows unasked."""
    given_back, error = trial.user_attrs.get(INTERRUPTED), trial.user_attrs.get(ERROR)
    slot = trial.user_attrs.get(SLOT, "none")
    if trial.state == TrialState.FAIL and not given_back:
        log.warning("Trial %d (slot %s) failed: %s", trial.number, slot, error)
    else:
        done = trial.state == TrialState.COMPLETE
        what = " / ".join(map(score, trial.values)) if done else trial.state.name.lower()
        said = "given back" if given_back else what
        log.info("Trial %d (slot %s): %s", trial.number, slot, said)


def _claim(claims: Claims, stop: Callable[[], bool], longest: float) -> optuna.Trial | None:
    """A trial; None when the plan is done or the worker is asked to stop."""
    said: Verdict | None = None
    told: set[int] = set()  # of which others hang
    pause = min(0.05, longest)
    verdict: optuna.Trial | Verdict | None = None
    while not stop():
        if verdict is None:
            verdict = claims.claim()
        if isinstance(verdict, optuna.Trial):
            return verdict
        if verdict == "done":
            return None
        if verdict != said and (news := _news(claims, verdict)):
            said = verdict
            log.info(news)
        _say_hanging(claims, told)
        rest(pause, stop)
        pause = min(1.5 * pause, longest)
        verdict = claims.look()
    return None


def _news(claims: Claims, verdict: Verdict) -> str:
    name = claims.study.study_name
    if verdict == "paused":
        return f"{name}: paused; `{command_on(claims.study, 'resume')}` lets it go on."
    others = claims.others()  # none: a lone worker lost the lock for a moment
    return f"{name}: waiting for a trial of {', '.join(others)}." if others else ""


def _say_hanging(claims: Claims, told: set[int]) -> None:
    """Warn, once, of each trial that is waited for and may never end."""
    plan, trials = claims.wanted.plan, claims.seen
    for one in running_now(trials, plan, Durations(trials, plan), time.time()):
        if one.caution and one.number not in told:
            told.add(one.number)
            log.warning("%s: %s.", claims.study.study_name, one.caution)


@contextmanager
def _minded(claims: Claims, trial: optuna.Trial) -> Iterator[None]:
    """Warn, once, of this worker's own trial if it may never end: there may be no other worker."""
    most = Durations(claims.seen, claims.wanted.plan).longest(trial)
    limit, slot = overdue(most), trial.user_attrs.get(SLOT)
    if slot is None or math.isinf(limit):
        yield
        return
    one = RunningStatus(trial.number, slot, worker_name(), None, limit, exceeds=most)
    said = f"{claims.study.study_name}: {one.caution}."
    timer = threading.Timer(min(limit, threading.TIMEOUT_MAX), log.warning, ("%s", said))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _run(
    trial: optuna.Trial, objective: Objective, wanted: Work
) -> tuple[FrozenTrial, Exception | None]:
    """The trial as it ended, and what ends its worker."""
    study, lost = trial.study, wanted.lost
    ends: Exception | None = None
    lost.clear()
    with Heart.of_trial(trial, wanted.pace.beat, lost):
        try:
            with typed_with(None):  # what goes wrong is stored with the trial
                values = _checked(objective(trial))
        except optuna.TrialPruned:
            _tell(trial, TrialState.PRUNED, None)
        except Interrupted as error:
            ends = None if lost.is_set() and not wanted.stop() else error
            _give_back(trial, str(error) or "interrupted")
        except UserError as error:
            if _planned(trial):
                ends = error
                _give_back(trial, redact(error))
            else:  # a bad mixture that somebody enqueued
                fail(study, trial._trial_id, redact(error))
        except Exception as error:
            if is_full(error):
                ends = UserError(
                    f"Trial {trial.number}: the disk is full ({redact(error)}). Make room "
                    "and start the worker again; the trial will be resumed."
                )
                _give_back(trial, "the disk is full")
            else:
                log.debug("Trial %d failed.", trial.number, exc_info=error)
                fail(study, trial._trial_id, reason_of(error))
        except BaseException as error:  # a second Ctrl-C, or a group that lost one of its ranks
            _leave(trial, error)
            raise
        else:
            _tell(trial, TrialState.COMPLETE, values)
    return study._storage.get_trial(trial._trial_id), ends


def reason_of(error: BaseException) -> str:
    """Why a trial failed, in one line without passwords."""
    text = " ".join(redact(error).split())
    if not isinstance(error, TrialFailed):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text[:LONGEST_REASON]


def _checked(values: float | Sequence[float]) -> list[float]:
    numbers = [float(v) for v in values] if isinstance(values, Sequence) else [float(values)]
    if not all(math.isfinite(number) for number in numbers):
        raise TrialFailed(f"the score is not finite: {values}")
    return numbers


def _tell(trial: optuna.Trial, state: TrialState, values: list[float] | None) -> None:
    study = patient(trial.study, never)  # whatever `stop` says: the result may have taken hours
    try:
        study.tell(trial, values, state=state, skip_if_finished=True)
    except UpdateFinishedTrialError:
        log.debug("Trial %d was finished meanwhile.", trial.number)
    told = study._storage.get_trial(trial._trial_id)
    if told.state != state:
        log.warning(
            "The result of trial %d came too late: it was taken for lost (%s).",
            trial.number,
            told.user_attrs.get(ERROR, told.state.name),
        )


def _give_back(trial: optuna.Trial, reason: str) -> None:
    fail(trial.study, trial._trial_id, reason, {INTERRUPTED: True})


def _leave(trial: optuna.Trial, error: BaseException) -> None:
    """Leave at once: one attempt to say so; without it the beat stands still, which says it too."""
    crash = error.__context__ if isinstance(error, SystemExit) and error.code else None
    trial.study = impatient(trial.study)
    try:
        if crash is not None and not is_full(crash):
            fail(trial.study, trial._trial_id, reason_of(crash))  # counts, or it would never end
        else:
            _give_back(trial, "interrupted")
    except Exception as away:
        log.warning("Trial %d could not be given back: %s", trial.number, redact(away))


def _planned(trial: optuna.Trial) -> bool:
    frozen = trial.study._storage.get_trial(trial._trial_id)
    return SLOT in frozen.user_attrs and "fixed_params" not in frozen.system_attrs
