"""Which of the running trials may hang, though their workers beat, and who says so."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from climb_opt import workers as rounds
from climb_opt.attributes import BEAT, FACTS, METHOD, RUNG, SLOT
from climb_opt.cli.status import describe
from climb_opt.ladder import Ladder
from climb_opt.plan import Plan
from climb_opt.storages import study_lock
from climb_opt.workers import Pace, Work
from climb_opt.workers.beats import worker_name
from fleet import BASELINES, SPACE, score
from one_worker import SMALL, slots_of, study_of

optuna.logging.set_verbosity(optuna.logging.ERROR)

BEATS = {"count": 99, "at": time.time(), "worker": "gpu-7:123", "life": None}
CAUTION = (
    "trial 1 has run for 9 h 0 min, others like it for 30 min 0 s at most; "
    "if its worker gpu-7:123 hangs, `kill -9` that process, and the slot is tried again"
)


def took(study: optuna.Study, minutes: float, **attrs: Any) -> None:
    stored = {SLOT: 0, FACTS: {"seconds": 60 * minutes}, **attrs}
    study.add_trial(create_trial(value=1.0, user_attrs=stored))


def begin(study: optuna.Study, **attrs: Any) -> None:
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=attrs))


@pytest.mark.parametrize(
    ("minutes", "hours", "attrs", "caution"),
    [
        (30, 9.0, {SLOT: 1, BEAT: BEATS}, CAUTION),
        (30, 0.9, {SLOT: 1, BEAT: BEATS}, ""),
        (0.1, 0.1, {SLOT: 1, BEAT: BEATS}, ""),  # of minutes
        (30, 9.0, {SLOT: "branch/code", BEAT: BEATS}, ""),
        (30, 9.0, {SLOT: "baseline/doremi", METHOD: "doremi", BEAT: BEATS}, ""),
        (30, 9.0, {BEAT: BEATS}, ""),  # nobody would try it again
        (30, 9.0, {SLOT: 1}, ""),
    ],
)
def test_the_status_says_which_trial_takes_far_longer_than_others_did(
    minutes: float, hours: float, attrs: dict[str, Any], caution: str
) -> None:
    study = study_of()
    took(study, minutes)
    begin(study, **attrs)
    now = rounds.status(study, SMALL, now=time.time() + 3600 * hours)
    assert [one.caution for one in now.running] == [caution]
    assert describe(now).count("caution: trial") == bool(caution)


@pytest.mark.parametrize(("rung", "doubted"), [(0, True), (1, False)])
def test_a_trial_is_compared_with_those_of_its_rung(rung: int, doubted: bool) -> None:
    plan = Plan((), tuple(BASELINES), ladder=Ladder.of([1, 4]), budget=100.0)
    study = study_of(plan)
    took(study, 30, **{RUNG: 0})
    took(study, 600, **{RUNG: 1})
    begin(study, **{SLOT: 1, BEAT: BEATS, RUNG: rung})
    (one,) = rounds.status(study, plan, now=time.time() + 9 * 3600).running
    assert bool(one.caution) == doubted


def test_a_worker_that_waits_says_once_that_another_may_hang(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of()
    took(study, 30)
    begin(study, **{SLOT: 1, BEAT: BEATS})
    later, looks = time.time() + 9 * 3600, iter(range(60))
    monkeypatch.setattr("climb_opt.workers.worker.time.time", lambda: later)
    patiently = Work(SMALL, BASELINES, space=SPACE, pace=Pace(beat=60, grace=1000, poll=0.001))
    wanted = replace(patiently, stop=lambda: next(looks, None) is None)
    rounds.work(study, score, study_lock(study), wanted)
    assert slots_of(study) == [0, "baseline/prior", 2], "round 2 waits"
    assert caplog.text.count(CAUTION) == 1


@pytest.mark.parametrize("least", [0.05, 60.0])
def test_a_lone_worker_says_once_that_its_own_trial_may_hang(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    monkeypatch.setattr("climb_opt.workers.durations.LEAST", least)
    study = study_of()
    took(study, 0.01 / 60)

    def slow(trial: optuna.Trial) -> float:
        time.sleep(0.3 * (trial.user_attrs[SLOT] == 1))
        return score(trial)

    wanted = Work(SMALL, BASELINES, space=SPACE, pace=Pace(beat=60, grace=1000, poll=0.001))
    rounds.work(study, slow, study_lock(study), wanted)
    said = [m for m in caplog.messages if "hangs" in m]
    assert len(said) == (least < 1)
    assert all(
        "others like it for" in m and f"worker {worker_name()} hangs, `kill" in m for m in said
    )
