"""Workers and slots: whatever dies, every slot ends with exactly one finished trial."""

from __future__ import annotations

import errno
import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

import fleet
from climb_opt import TrialFailed
from climb_opt import workers as rounds
from climb_opt.attributes import BEAT, ENQUEUED, ERROR, INTERRUPTED, OURS, PAUSED, RETRY, SEED, SLOT
from climb_opt.errors import Interrupted, UserError
from climb_opt.ladder import BudgetSpent
from climb_opt.plan import Plan
from climb_opt.storages import study_lock
from climb_opt.view import all_trials
from climb_opt.workers import Work
from climb_opt.workers.claims import Claims, fail
from fleet import SPACE, PlanningSampler, SlotSampler, score
from one_worker import PACE, SMALL, failing, in_line, mixtures_of, slots_of, study_of, work
from servers import Postgres, closed_engines, grpc_proxy, postgres  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)

# --- one worker --------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [PlanningSampler, SlotSampler])
def test_one_worker_finishes_every_slot_once_baselines_first(sampler: Any) -> None:
    study = study_of(sampler=sampler)
    seen = []
    work(study, on_trial=lambda trial: seen.append(trial.user_attrs[SLOT]))
    assert seen == slots_of(study) == ["baseline/prior", 0, 1, 2, 3, 4]
    assert fleet.audit(study, SMALL).sound
    prior = SPACE.params(SPACE.prior)
    assert all_trials(study)[0].params == pytest.approx(prior)
    work(study)  # nothing is left to do
    assert len(all_trials(study)) == 6


def test_a_failed_attempt_is_tried_again_with_its_mixture_after_the_others() -> None:
    study = study_of()
    work(study, failing(1, 1, RuntimeError("no luck")))
    assert slots_of(study) == ["baseline/prior", 0, 2, 1, 3, 4]
    first, second = mixtures_of(study, 1)
    assert first == second and fleet.audit(study, SMALL).sound
    failed = next(t for t in all_trials(study) if t.state == TrialState.FAIL)
    assert failed.user_attrs[ERROR] == "RuntimeError: no luck"


def test_a_worker_that_waits_names_whom_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="climb_opt")
    study = study_of()
    work(study)
    assert "waiting" not in caplog.text and "too late" not in caplog.text
    beat = {"count": 0, "worker": "node7:12", "life": None}
    away = create_trial(
        state=TrialState.RUNNING,
        params=SPACE.params(SPACE.prior),
        distributions=SPACE.distributions(),
        user_attrs={SLOT: f"{ENQUEUED}x", "climb/beat": beat},
    )
    study.add_trial(away)
    work(study)
    assert caplog.text.count("waiting for a trial of node7:12.") == 1


def test_a_retry_keeps_the_mixture_of_a_stock_sampler() -> None:
    study = optuna.create_study(sampler=fleet.tpe(SMALL, 0))
    work(study, failing(2, 1, TrialFailed("diverged")))
    first, second = mixtures_of(study, 2)
    assert first == second
    assert slots_of(study, TrialState.FAIL) == [2]


def test_a_slot_that_fails_too_often_is_given_up_and_blocks_nothing() -> None:
    study = study_of()
    work(study, failing(0, 9, TrialFailed("diverged at step 7")))
    assert slots_of(study) == ["baseline/prior", 1, 2, 3, 4]
    now = rounds.status(study, SMALL)
    assert now.given_up == (0,) and now.done and now.finished == 5
    assert [f.reason for f in now.failures] == ["diverged at step 7"] * 2


def test_a_given_up_slot_is_tried_anew_after_a_mark() -> None:
    study = study_of()
    work(study, failing(0, 2, TrialFailed("x")))
    marks = {SLOT: 0, RETRY: True, INTERRUPTED: True}
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=marks))
    work(study, failing(0, 1, TrialFailed("x")))
    audit = fleet.audit(study, SMALL)
    assert audit.complete == audit.slots and not audit.doubles and not audit.two_mixtures


def test_what_was_interrupted_does_not_count_and_keeps_its_mixture() -> None:
    study = study_of()
    for _ in range(4):
        with pytest.raises(Interrupted):
            work(study, failing(1, 1, Interrupted("step 3")))
    work(study)
    assert fleet.audit(study, SMALL).sound and len(mixtures_of(study, 1)) == 5
    given_back = [t for t in all_trials(study) if t.state == TrialState.FAIL]
    assert all(t.user_attrs[INTERRUPTED] for t in given_back)


def test_a_pruned_trial_finishes_its_slot() -> None:
    study = study_of()
    work(study, failing(3, 1, optuna.TrialPruned()))
    assert slots_of(study, TrialState.PRUNED) == [3] and rounds.status(study, SMALL).done


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_fails_with_its_reason(value: float) -> None:
    study = study_of(Plan((1,), max_attempts=1))
    work(study, lambda trial: score(trial) * 0 + value, plan=Plan((1,), max_attempts=1))
    assert "not finite" in all_trials(study)[0].user_attrs[ERROR]


def test_bad_input_found_by_the_objective_stops_the_worker_and_loses_nothing() -> None:
    study = study_of()
    with pytest.raises(UserError, match="no such file"):
        work(study, failing(0, 1, UserError("no such file")))
    assert all_trials(study)[-1].user_attrs[INTERRUPTED]
    work(study)
    assert fleet.audit(study, SMALL).sound


def test_a_full_disk_stops_the_worker_and_gives_the_slot_back() -> None:
    study = study_of()
    full = RuntimeError("could not save")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match="Make room"):
        work(study, failing(0, 1, full))
    assert all_trials(study)[-1].user_attrs[INTERRUPTED]


def test_a_worker_that_fails_on_slot_after_slot_stops_before_it_uses_them_up() -> None:
    plan = Plan((20,), max_attempts=3)
    study = study_of(plan)
    with pytest.raises(UserError, match=r"last trials of 5 slots failed .* CUDA error"):
        work(study, lambda trial: (_ for _ in ()).throw(RuntimeError("CUDA error")), plan=plan)
    assert slots_of(study, TrialState.FAIL) == [0, 1, 2, 3, 4]
    work(study, plan=plan)
    assert fleet.audit(study, plan).sound


def test_a_worker_that_fails_on_every_slot_of_a_short_round_stops_before_it_uses_them_up() -> None:
    plan = Plan((3, 1), max_attempts=3)
    study = study_of(plan)
    with pytest.raises(UserError, match=r"last trials of 3 slots failed .* CUDA error"):
        work(study, lambda trial: (_ for _ in ()).throw(RuntimeError("CUDA error")), plan=plan)
    work(study, plan=plan)
    assert fleet.audit(study, plan).sound


def test_slots_that_fail_between_others_that_succeed_are_given_up_and_stop_nobody() -> None:
    plan = Plan((12,), max_attempts=3)
    study = study_of(plan)
    bad = {1, 3, 5, 7, 9, 10}

    def objective(trial: optuna.Trial) -> float:
        if trial.user_attrs[SLOT] in bad:
            raise RuntimeError("it diverges")
        return score(trial)

    work(study, objective, plan=plan)
    assert rounds.status(study, plan).given_up == tuple(sorted(bad))


def test_leaving_at_once_still_gives_the_slot_back() -> None:
    study = study_of()
    with pytest.raises(KeyboardInterrupt):
        work(study, failing(2, 1, KeyboardInterrupt()))
    assert all_trials(study)[-1].user_attrs[INTERRUPTED]


def test_a_group_that_lost_a_rank_fails_its_trial_and_ends() -> None:
    study = study_of()

    def objective(trial: optuna.Trial) -> float:
        value = score(trial)
        try:
            if trial.user_attrs[SLOT] == 0:
                raise RuntimeError("CUDA error on rank 1")
        except RuntimeError:
            raise SystemExit(1) from None
        return value

    for attempt in (1, 2):
        with pytest.raises(SystemExit):
            work(study, objective)
        failed = [t for t in all_trials(study) if t.state == TrialState.FAIL]
        assert len(failed) == attempt
        assert failed[-1].user_attrs[ERROR] == "RuntimeError: CUDA error on rank 1"
    work(study)
    assert rounds.status(study, SMALL).given_up == (0,)  # after two attempts, as the plan says


def test_a_password_in_an_error_is_not_stored() -> None:
    study = study_of(Plan((1,), max_attempts=1))
    error = RuntimeError("cannot reach postgresql://me:hunter2@host/db")
    work(study, failing(0, 1, error), plan=Plan((1,), max_attempts=1))
    assert "hunter2" not in all_trials(study)[0].user_attrs[ERROR]


def test_a_worker_that_is_asked_to_stop_takes_no_more() -> None:
    study = study_of()
    work(study, stop=lambda: len(slots_of(study)) == 2)
    assert slots_of(study) == ["baseline/prior", 0]


def test_attributes_of_a_slot_are_there_from_the_start_and_kept_by_a_retry() -> None:
    plan = Plan((), ("found/seed-1",))
    study = study_of()
    seeds: list[Any] = []

    def objective(trial: optuna.Trial) -> float:
        seeds.append(trial.user_attrs[SEED])
        if len(seeds) == 1:
            raise TrialFailed("once")
        return score(trial)

    slot = "found/seed-1"
    prior = {slot: SPACE.mixture(SPACE.prior)}
    rounds.work(
        study, objective, study_lock(study), Work(plan, prior, {slot: {SEED: 41}}, pace=PACE)
    )
    assert seeds == [41, 41] and slots_of(study) == ["found/seed-1"]


def test_a_retry_has_what_its_trial_was_given_and_nothing_of_what_came_of_it() -> None:
    study, tries = study_of(), list[dict[str, Any]]()

    def objective(trial: optuna.Trial) -> float:
        if trial.user_attrs[SLOT] != 1:
            return score(trial)
        tries.append(trial.user_attrs)
        for name in ("mine", SEED, OURS + "result"):
            trial.set_user_attr(name, len(tries))
        return failing(1, 2 - len(tries), TrialFailed("once"))(trial)

    work(study, objective)
    first, second = tries
    assert first.keys() == {SLOT, BEAT}
    assert second.keys() == {SLOT, BEAT, "mine", SEED}
    assert (second["mine"], second[SEED]) == (1, 1)


@pytest.mark.parametrize("space", [SPACE, None])
@pytest.mark.parametrize("whole", [True, False])
def test_an_attempt_that_died_between_two_weights_is_no_mixture_to_keep(
    space: Any, whole: bool
) -> None:
    study = study_of()
    given = SPACE.params(SPACE.project(np.arange(len(SPACE)) + 1.0))
    kept = given if whole else dict(list(given.items())[:3])
    kinds = {name: SPACE.distributions()[name] for name in kept}
    study.add_trial(
        create_trial(state=TrialState.FAIL, params=kept, distributions=kinds, user_attrs={SLOT: 0})
    )
    wanted = Work(SMALL, fleet.BASELINES, space=space, pace=PACE)
    rounds.work(study, score, study_lock(study), wanted)
    again = mixtures_of(study, 0)[-1]
    assert slots_of(study).count(0) == 1 and sum(again.values()) == pytest.approx(1.0)
    assert (again == given) == whole


@pytest.mark.parametrize("busy", [True, False])
def test_a_spent_budget_is_waited_with_while_a_trial_may_still_fail(busy: bool) -> None:
    class Spent(PlanningSampler):
        def plan_ahead(self, study: optuna.Study, slot: Any) -> Any:
            raise BudgetSpent

    plan = Plan((3,), barrier=False)
    study = study_of(plan, Spent)
    beat = {BEAT: {"count": 0, "worker": "node7:12", "life": None}}
    for slot, state in enumerate((TrialState.FAIL, TrialState.RUNNING)[: 1 + busy]):
        study.add_trial(create_trial(state=state, user_attrs={SLOT: slot, **beat}))
    claims = Claims(study, study_lock(study), Work(plan, pace=PACE))
    assert claims.claim() == ("wait" if busy else "done")
    assert len(all_trials(study)) == 1 + busy


def test_a_trial_of_a_lock_that_was_lost_is_given_back_and_costs_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = study_of()
    lock = study_lock(study)
    monkeypatch.setattr(lock, "release", lambda: False)
    assert Claims(study, lock, Work(SMALL, fleet.BASELINES, pace=PACE)).claim() == "wait"
    (trial,) = all_trials(study)
    assert trial.state == TrialState.FAIL and trial.user_attrs[INTERRUPTED]


def test_only_a_trial_that_still_runs_is_failed() -> None:
    study = study_of()
    lost, done = study.ask(), study.ask()
    study.tell(done, 1.0)
    assert fail(study, lost._trial_id, "it died", {"why": 1})
    assert not fail(study, done._trial_id, "it died", {"why": 1})
    first, second = all_trials(study)
    assert first.state == TrialState.FAIL and first.user_attrs == {"why": 1, ERROR: "it died"}
    assert second.value == 1.0 and not second.user_attrs


# --- in line, paused ---------------------------------------------------------------------------


def test_mixtures_in_line_come_first_are_tried_again_and_stay_outside_the_rounds() -> None:
    study = study_of()
    params = in_line(study, "mine")
    work(study, failing(f"{ENQUEUED}mine", 1, TrialFailed("once")))
    assert slots_of(study)[0] == "enqueued/mine" and len(slots_of(study)) == 7
    assert mixtures_of(study, "enqueued/mine") == [params, params]
    assert rounds.status(study, SMALL).extra == 1


def test_optunas_own_queue_is_served_and_a_bad_mixture_in_it_stops_nobody() -> None:
    study = study_of()
    study.enqueue_trial(SPACE.params(SPACE.prior))
    study.enqueue_trial({"w/domain-0": 0.9, "w/domain-1": 0.9})
    study.enqueue_trial({name: 0.5 for name in SPACE.parameter_names})
    work(study)
    assert fleet.audit(study, SMALL).sound
    outside = [t for t in all_trials(study) if SLOT not in t.user_attrs]
    assert [t.state.name for t in outside] == ["COMPLETE", "FAIL", "FAIL"]
    assert "sum to" in outside[2].user_attrs[ERROR]


def test_a_paused_study_starts_no_trial_until_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="climb_opt")
    study = study_of()
    study.set_user_attr(PAUSED, True)
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 20:
            assert not all_trials(study)
            study.set_user_attr(PAUSED, False)
        return False

    work(study, stop=stop)
    assert fleet.audit(study, SMALL).sound
    assert "paused; `climb_opt.resume(study)` lets it go on." in caplog.text, "no command sees it"
