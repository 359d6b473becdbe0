"""What a person does to a running search: look, retry, put mixtures in line, pause."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from climb_opt import workers as rounds
from climb_opt.attributes import ENQUEUED, ERROR, INTERRUPTED, PAUSED, RETRY, SLOT, by_owner
from climb_opt.errors import UserError
from climb_opt.phases import point_of
from climb_opt.plan import Slot, attempts_by_slot
from climb_opt.schedules import Schedule
from climb_opt.storages import patient
from climb_opt.study.opening import read_recipe
from climb_opt.view import StudyView, rung_attributes
from climb_opt.workers import Status


def status(study: optuna.Study) -> Status:
    """How the search stands.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/status.journal")
    >>> now = climb_opt.status(study)
    >>> now.size, now.finished, now.best
    (6, 0, None)
    """
    view = _searched(study)
    now = rounds.status(view.study, view.plan)
    if not now.agreement:
        return now
    from climb_opt.selection.trusting import distrusted  # with SciPy

    return replace(now, distrusted=distrusted(view, view.space, view.history(rungs=True)))


def retry(study: optuna.Study, slots: Sequence[Slot] = ()) -> tuple[Slot, ...]:
    """Let slots that were given up be tried again, as often as at first. Returns them.

    A slot of an earlier round is tried again with its own mixture; rounds that started without it
    do not learn from it.

    Args:
        slots: all that were given up, when empty.

    Raises:
        UserError: a slot that was not given up.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/retry.journal")
    >>> climb_opt.retry(study)  # nothing was given up
    ()
    """
    view = _searched(study)
    plan = view.plan
    attempts = attempts_by_slot(view.trials())
    states = {slot: plan.state(tried) for slot, tried in attempts.items()}
    given_up = [slot for slot, state in states.items() if state == "given up"]
    for slot in slots:
        if slot not in given_up:
            raise UserError(
                f"Slot {slot} is {states.get(slot, 'not started')}, not given up. Given up: "
                f"{', '.join(map(str, given_up)) or 'none'}."
            )
    chosen = tuple(slots or given_up)
    for slot in chosen:
        # A mark in the slot's history; the workers do the rest as for any failed attempt.
        marks = {SLOT: slot, RETRY: True, INTERRUPTED: True, ERROR: "retried on request"}
        view.study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=marks))
    return chosen


def enqueue(
    study: optuna.Study,
    name: str,
    mixture: Mapping[str, float] | Schedule,
    *,
    rung: int | str | None = None,
) -> str:
    """Put a mixture in line: the next free worker tries it, outside the rounds. Returns its slot.

    Args:
        name: of its slot, `enqueued/<name>`; a name that is there already gets a number.
        mixture: domain -> weight; the weights sum to 1 up to rounding. Where the study's mixtures
            have phases, a schedule of them, or a mixture, which holds throughout.
        rung: the rung to try it on, by number, from 0, the cheapest, or name; the target when None.

    Raises:
        UserError: an unknown domain, a bound broken, weights that do not sum to 1 even when
            rounding is allowed for, or a rung that the study does not have.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/enqueue.journal")
    >>> climb_opt.enqueue(study, "mine", {"web": 0.5, "code": 0.25, "math": 0.25})
    'enqueued/mine'
    """
    view = StudyView(patient(study))
    space = view.space
    weights = point_of(space, mixture, f"Mixture {name!r}")
    on = rung_asked(view, rung)
    taken = attempts_by_slot(view.trials())
    numbered = (f"{ENQUEUED}{name}-{count}" for count in itertools.count(2))
    slot = next(s for s in itertools.chain([f"{ENQUEUED}{name}"], numbered) if s not in taken)
    stored = {SLOT: slot, "fixed_params": space.params(weights), **on}
    add_trial(view, weights, stored, state=TrialState.WAITING)
    return slot


def add_trial(view: StudyView, weights: np.ndarray, stored: Mapping[str, Any], **told: Any) -> None:
    """A trial of the point `weights` of the study's space, without a slot's claim.

    Args:
        stored: its attributes, ours and others.
        told: its state, values and constraints, as `optuna.trial.create_trial` takes them.
    """
    ours, system = by_owner(stored)
    params, kinds = view.space.params(weights), view.space.distributions()
    told |= {"params": params, "distributions": kinds, "user_attrs": ours, "system_attrs": system}
    view.study.add_trial(create_trial(**told))


def pause(study: optuna.Study) -> None:
    """Start no new trials; those that run are finished.

    Raises:
        UserError: a study without a recipe: `study.optimize` knows no pause.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/pause.journal")
    >>> climb_opt.pause(study)
    >>> climb_opt.status(study).paused
    True
    """
    _searched(study).study.set_user_attr(PAUSED, True)


def resume(study: optuna.Study) -> None:
    """Let the workers go on.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/resume.journal")
    >>> climb_opt.pause(study)
    >>> climb_opt.resume(study)
    >>> climb_opt.status(study).paused
    False
    """
    _searched(study).study.set_user_attr(PAUSED, False)


def rung_asked(view: StudyView, rung: int | str | None) -> dict[str, Any]:
    """What a trial on the rung that a person asks for stores; nothing where the study has one.

    Raises:
        UserError: the study has no such rung.
    """
    if view.ladder is None:
        if rung is None or str(rung) == "0":
            return {}
        raise UserError(f"No rung {rung!r}: study {view.name!r} has one rung, its proxy.")
    number = view.ladder.target if rung is None else view.ladder.number(rung)
    return rung_attributes(number, view.ladder.target)


def _searched(study: optuna.Study) -> StudyView:
    """Of a study that waits for its storage, whoever opened it."""
    study = patient(study)
    read_recipe(study)  # raises: another program's study has no plan
    return StudyView(study)
