"""Steering a study: retries, mixtures in line, pauses, its status."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import studying
from climb_opt import study as studies
from climb_opt.attributes import BEAT, ERROR, FACTS, SLOT
from climb_opt.errors import UserError
from climb_opt.plan import attempts_by_slot
from climb_opt.recipes import StudyRecipe
from climb_opt.study import open_study
from climb_opt.view import all_trials
from studying import PACE, finished, score

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe, journal = studying.recipe, studying.journal  # fixtures


@pytest.fixture
def given_up(recipe: StudyRecipe, journal: str) -> optuna.Study:
    study = open_study(recipe, storage=journal, study_name="s")

    def objective(trial: optuna.Trial) -> float:
        value = score(trial)
        if trial.user_attrs[SLOT] in (1, "baseline/uniform"):
            raise RuntimeError("broken")
        return value

    studies.work(study, objective=objective, pace=PACE)
    return study


def test_what_was_given_up_is_tried_again_on_request_as_often_as_at_first(
    given_up: optuna.Study,
) -> None:
    broken = [RuntimeError("broken")]

    def broken_once(trial: optuna.Trial) -> float:
        value = score(trial)
        if trial.user_attrs[SLOT] == 1 and broken:
            raise broken.pop()
        return value

    assert studies.status(given_up).given_up == ("baseline/uniform", 1)
    with pytest.raises(UserError, match="Slot 2 is finished, not given up"):
        studies.retry(given_up, [2])
    with pytest.raises(UserError, match=r"Slot 77 is not started.*Given up: baseline/uniform, 1"):
        studies.retry(given_up, [77])
    assert studies.retry(given_up, [1]) == (1,)
    assert studies.status(given_up).given_up == ("baseline/uniform",)
    studies.work(given_up, objective=broken_once, pace=PACE)
    assert finished(given_up)[-1] == 1
    assert studies.retry(given_up) == ("baseline/uniform",)
    studies.work(given_up, objective=score, pace=PACE)
    now = studies.status(given_up)
    assert now.done and not now.given_up and studies.retry(given_up) == ()
    tried = attempts_by_slot(all_trials(given_up))[1]
    assert tried[0].params == tried[-1].params  # with its own mixture


def test_mixtures_in_line_are_checked_and_tried(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    assert studies.enqueue(study, "mine", {"web": 0.333, "math": 0.666}) == "enqueued/mine"
    assert studies.enqueue(study, "mine", {"code": 1.0}) == "enqueued/mine-2"
    for mixture, said in (
        ({"web": 0.5, "maths": 0.5}, "Unknown domain 'maths'"),
        ({"web": 0.5, "math": 0.6}, "sum to 1.1, not to 1"),
        ({"web": 1.5, "math": -0.5}, "not negative"),
    ):
        with pytest.raises(UserError, match=said):
            studies.enqueue(study, "bad", mixture)
    assert sum(r.waiting for r in studies.status(study).rounds) == 0
    studies.work(study, objective=score, pace=PACE)
    assert finished(study)[:2] == ["enqueued/mine", "enqueued/mine-2"]
    assert studies.status(study).extra == 2 and studies.status(study).done
    params = all_trials(study)[0].params
    assert params["w/math"] == pytest.approx(2 / 3) and sum(params.values()) == pytest.approx(1)


def test_pause_and_resume_are_seen_by_workers(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    studies.pause(study)
    assert studies.status(study).paused
    until = time.monotonic() + 0.5
    studies.work(study, objective=score, stop=lambda: time.monotonic() > until, pace=PACE)
    assert not all_trials(study)
    studies.resume(study)
    studies.work(study, objective=score, pace=PACE)
    assert studies.status(study).done


def test_the_status_is_plain_data(given_up: optuna.Study) -> None:
    now = studies.status(given_up)
    again = json.loads(json.dumps(dataclasses.asdict(now)))
    assert again["finished"] == 5 and len(again["failures"]) == 4
    assert all(f.reason == "RuntimeError: broken" for f in now.failures)
    failed = next(t for t in all_trials(given_up) if t.state == TrialState.FAIL)
    assert failed.user_attrs[ERROR] and failed.user_attrs[BEAT] and failed.user_attrs[FACTS]


def test_a_long_study_is_never_copied(
    recipe: StudyRecipe, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    real: Callable[..., Any] = type(study._storage).get_all_trials

    def strict(self: Any, study_id: int, deepcopy: bool = True, states: Any = None) -> Any:
        assert not deepcopy, "the history was copied"
        return real(self, study_id, deepcopy, states)

    monkeypatch.setattr(type(study._storage), "get_all_trials", strict)
    studies.work(study, objective=score, pace=PACE)
    assert studies.status(study).done
