"""A worker of this very process on a study in memory, with a formula for an objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from climb_opt import workers as rounds
from climb_opt.attributes import ENQUEUED, SLOT
from climb_opt.plan import Plan, attempts_by_slot
from climb_opt.storages import study_lock
from climb_opt.view import all_trials
from climb_opt.workers import Pace, Work
from fleet import BASELINES, SPACE, PlanningSampler, score

PACE = Pace(beat=0.2, grace=1.0, poll=0.05)
SMALL = Plan((3, 2), named=("baseline/prior",), max_attempts=2)


def study_of(plan: Plan = SMALL, sampler: Any = PlanningSampler) -> optuna.Study:
    return optuna.create_study(sampler=sampler(SPACE, plan, 0))


def work(study: optuna.Study, objective: Any = score, plan: Plan = SMALL, **options: Any) -> None:
    lock = options.pop("lock", study_lock(study))
    rounds.work(study, objective, lock, Work(plan, BASELINES, space=SPACE, pace=PACE, **options))


def slots_of(study: optuna.Study, state: TrialState = TrialState.COMPLETE) -> list[Any]:
    return [t.user_attrs.get(SLOT) for t in all_trials(study) if t.state == state]


def failing(slot: Any, times: int, error: BaseException) -> Callable[[optuna.Trial], float]:
    """An objective that raises the first few times on one slot."""
    left = times

    def objective(trial: optuna.Trial) -> float:
        nonlocal left
        value = score(trial)
        if trial.user_attrs.get(SLOT) == slot and left:
            left -= 1
            raise error
        return value

    return objective


def mixtures_of(study: optuna.Study, slot: Any) -> list[dict[str, float]]:
    return [t.params for t in attempts_by_slot(all_trials(study))[slot]]


def in_line(study: optuna.Study, name: str) -> dict[str, float]:
    """Put a mixture in line, as `climb-opt enqueue` does; its parameters."""
    params = SPACE.params(SPACE.project(np.arange(len(SPACE)) + 1.0))
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=params,
            distributions=SPACE.distributions(),
            user_attrs={SLOT: f"{ENQUEUED}{name}"},
            system_attrs={"fixed_params": params},
        )
    )
    return params
