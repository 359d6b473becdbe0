"""Facts that all workers of a search must agree on, kept in the study itself.

    slot    of a trial that no worker loop has given one (plain `study.optimize`)
    basis   the trials a round learns from, written down with the round's first trial
    seed    of a sampler that was given none

A sampler that reads them computes the same round in every process, whatever has finished since.
Optuna offers samplers no public call to store such facts; its own samplers use these same private
ones (docs/notes/running.md#optuna).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import BASIS, SAMPLER_SEED, SLOT
from climb_opt.history import History
from climb_opt.plan import Plan, Slot
from climb_opt.view import all_trials, once, remember

CLAIMS = 20  # tries to get a slot for oneself
LOOK = 0.2  # seconds in which another process sees a claim, and gives way


def claim_slot(study: optuna.Study, trial: FrozenTrial, plan: Plan) -> None:
    """Give `trial` the next idle slot, unless it has one or brings its own mixture.

    Processes that ask at once may take one slot: each looks again when its claim is written, when
    at least one of them sees both. The higher trial then takes another, the lower one waits for
    that, and takes another itself if the higher did not see it.
    """
    if SLOT in trial.user_attrs or trial.params or trial.system_attrs.get("fixed_params"):
        return
    for _ in range(CLAIMS):
        slot = plan.next(all_trials(study)).slot
        if slot is not None or SLOT in trial.user_attrs:  # past the plan nothing is claimed
            remember(study, trial, SLOT, slot)
        if slot is None or not _lost(study, trial, slot):
            return


def begin_round(study: optuna.Study, trial: FrozenTrial, plan: Plan) -> None:
    """Write down what the round of `trial` learns from, if `trial` is its first.

    Before the round is computed: that takes a while, in which another process may ask for its next
    trial, and would begin a round of its own from other trials. Where several begin it at once, the
    lowest trial's is the round: one that finds the round begun by a higher one takes that over, and
    while a lower one has not said which, it is waited for.
    """
    place = place_of(trial.user_attrs.get(SLOT), plan)
    if place is None or not (index := plan.round_of(place)):
        return
    numbers, stored = basis_of(study, plan, index)
    for name, value in stored.items():
        remember(study, trial, name, value)
    within = [t for t in all_trials(study) if _round(t, plan) == index]
    first = min(t.number for t in within if BASIS in t.system_attrs)
    if trial.number < first:
        first = trial.number
        remember(study, trial, BASIS, list(numbers))
    if any(t.number < first and t.state == TrialState.RUNNING for t in within):
        time.sleep(LOOK)


def place_of(slot: Slot | None, plan: Plan) -> int | None:
    """The slot if it lies in the plan; None for baselines and for trials without a slot."""
    return slot if isinstance(slot, int) and 0 <= slot < plan.size else None


def basis_of(study: optuna.Study, plan: Plan, index: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Numbers of the finished trials that round `index` learns from, and what is still to store.

    They are what was finished, in earlier rounds or outside the plan, when the round's first trial
    was asked for. For that one the second item holds the system attribute it must store.
    """
    trials = all_trials(study)
    for trial in trials:
        if BASIS in trial.system_attrs and _round(trial, plan) == index:
            return tuple(trial.system_attrs[BASIS]), {}
    done = (t for t in trials if t.state == TrialState.COMPLETE)
    numbers = [trial.number for trial in done if _round(trial, plan) < index]
    return tuple(numbers), {BASIS: numbers}


def in_order(history: History, plan: Plan) -> History:
    """The history with the plan's trials in the order of their slots.

    A slot that was tried again comes late, and what learns may heed the order of its rows: LightGBM
    sets a tenth of them aside. With it a failed attempt would change all later rounds.
    """
    named = {slot: place - len(plan.named) for place, slot in enumerate(plan.named)}
    slots = [trial.user_attrs.get(SLOT) for trial in history.trials]
    places = [place_of(slot, plan) if slot not in named else named[slot] for slot in slots]
    planned = np.array([row for row, place in enumerate(places) if place is not None], dtype=int)
    order = np.arange(len(history))
    order[planned] = sorted(planned, key=lambda row: places[row])
    return history.rows(order)


def all_finished(study: optuna.Study) -> tuple[int, ...]:
    """Numbers of all finished trials, for proposals beyond the plan."""
    return tuple(t.number for t in all_trials(study) if t.state == TrialState.COMPLETE)


def stored_seed(study: optuna.Study) -> int:
    """The study's own seed, drawn by whoever asks first."""
    drawn = once(study, SAMPLER_SEED, lambda: int(np.random.SeedSequence().generate_state(1)[0]))
    return int(drawn)


def _round(trial: FrozenTrial, plan: Plan) -> int:
    place = place_of(trial.user_attrs.get(SLOT), plan)
    return -1 if place is None else plan.round_of(place)


def _lost(study: optuna.Study, trial: FrozenTrial, slot: Slot) -> bool:
    """Whether another trial took the slot at the same moment, and keeps it."""
    rivals = _rivals(study, trial, slot)
    if rivals and min(rivals) > trial.number:
        time.sleep(LOOK)
        rivals = _rivals(study, trial, slot)
    return bool(rivals)


def _rivals(study: optuna.Study, trial: FrozenTrial, slot: Slot) -> list[int]:
    """Numbers of the other trials that have the slot, and have not failed."""
    return [
        t.number
        for t in all_trials(study)
        if t.number != trial.number
        and t.user_attrs.get(SLOT) == slot
        and t.state != TrialState.FAIL
    ]
