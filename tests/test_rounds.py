"""Workers and slots: whatever dies, every slot ends with exactly one finished trial."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fleet
import numpy as np
import optuna
import pytest
from fleet import BASELINES, SPACE, Job, PlanningSampler, SlotSampler, score
from optuna.trial import TrialState, create_trial
from servers import Postgres, closed_engines, grpc_proxy, postgres  # noqa: F401

from climb_opt import TrialFailed, rounds
from climb_opt.errors import Interrupted, UserError
from climb_opt.history import all_trials
from climb_opt.rounds import BEAT, ENQUEUED, ERROR, PAUSED, Claims, Pace
from climb_opt.rounds.beats import Watch, life, sign
from climb_opt.slots import INTERRUPTED, RETRY, SLOT, Plan, attempts_by_slot
from climb_opt.storages import open_storage, patient, study_lock

optuna.logging.set_verbosity(optuna.logging.ERROR)

PACE = Pace(beat=0.2, grace=1.0, poll=0.05)
SMALL = Plan((3, 2), named=("baseline/prior",), max_attempts=2)


def study_of(plan: Plan = SMALL, sampler: Any = PlanningSampler) -> optuna.Study:
    return optuna.create_study(sampler=sampler(SPACE, plan, 0))


def work(study: optuna.Study, objective: Any = score, plan: Plan = SMALL, **options: Any) -> None:
    rounds.work(
        study,
        plan,
        objective,
        lock=options.pop("lock", study_lock(study)),
        mixtures=BASELINES,
        space=SPACE,
        pace=PACE,
        **options,
    )


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
    with pytest.raises(UserError, match="Free some space"):
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
        seeds.append(trial.user_attrs[rounds.SEED])
        if len(seeds) == 1:
            raise TrialFailed("once")
        return score(trial)

    rounds.work(
        study,
        plan,
        objective,
        lock=study_lock(study),
        mixtures={"found/seed-1": SPACE.mixture(SPACE.prior)},
        attrs={"found/seed-1": {rounds.SEED: 41}},
        pace=PACE,
    )
    assert seeds == [41, 41] and slots_of(study) == ["found/seed-1"]


# --- in line, paused ---------------------------------------------------------------------------


def in_line(study: optuna.Study, name: str) -> dict[str, float]:
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


def test_a_paused_study_starts_no_trial_until_it_goes_on() -> None:
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


# --- who is dead -------------------------------------------------------------------------------


def running(study: optuna.Study, **attrs: Any) -> None:
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=attrs))


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("climb_opt.rounds.beats.time.monotonic", lambda: self.now)


def test_silence_counts_only_while_somebody_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    study = optuna.create_study()
    running(study, **{SLOT: 0, BEAT: {"count": 3, "worker": "far:1"}})
    watch = Watch(grace=100.0)
    trials = all_trials(study)
    assert not watch.dead(trials)
    clock.now += 5000  # the database was away, or this process slept
    assert not watch.dead(trials)
    for _ in range(3):
        clock.now += 24
        assert not watch.dead(trials)
    clock.now += 24
    ((dead, reason),) = watch.dead(trials)
    assert dead.number == 0 and reason.startswith("no sign of its worker far:1")


def test_a_beat_starts_the_silence_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = Watch(grace=10.0)
    for count in range(30):
        study = optuna.create_study()
        running(study, **{SLOT: 0, BEAT: {"count": count // 2}})
        clock.now += 2
        assert not watch.dead(all_trials(study))


def test_trials_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    study = optuna.create_study()
    study.ask()
    watch = Watch(grace=1.0)
    for _ in range(50):
        clock.now += 1
        assert not watch.dead(all_trials(study))


def test_a_worker_of_this_machine_that_died_is_known_at_once() -> None:
    done = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    beat = {**sign(0), "life": life(done.pid)}
    study = optuna.create_study()
    running(study, **{SLOT: 0, BEAT: beat})
    watch = Watch(grace=1000.0)
    assert beat["life"] is not None and not watch.dead(all_trials(study))
    done.communicate(b"\n")
    ((_, reason),) = watch.dead(all_trials(study))
    assert reason.endswith("died")
    assert life(done.pid) is None


def test_the_late_result_of_a_worker_taken_for_dead_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = study_of()
    late = []

    def objective(trial: optuna.Trial) -> float:
        if not late and trial.user_attrs[SLOT] == 0:
            late.append(trial.number)
            study.tell(trial.number, state=TrialState.FAIL)  # by another worker
        return score(trial)

    work(study, objective)
    audit = fleet.audit(study, SMALL)
    assert audit.sound and audit.failed == 1
    assert "came too late" in caplog.text


def test_a_lost_lock_gives_the_trial_back_and_the_slot_is_not_lost() -> None:
    study = study_of()
    real = study_lock(study)

    class Lossy:
        held_answers = iter([True, False, False, True])

        def __enter__(self) -> Any:
            return real.__enter__()

        def __exit__(self, *error: Any) -> None:
            real.__exit__(*error)

        def held(self) -> bool:
            return next(self.held_answers, True)

    work(study, lock=Lossy())
    audit = fleet.audit(study, SMALL)
    assert audit.sound and audit.failed == 2
    failed = [t for t in all_trials(study) if t.state == TrialState.FAIL]
    assert all(t.user_attrs[INTERRUPTED] for t in failed)


# --- what a person sees ------------------------------------------------------------------------


def test_the_status_counts_rounds_workers_failures_and_time() -> None:
    study = study_of()
    work(study, failing(0, 1, TrialFailed("why")), stop=lambda: len(slots_of(study)) == 3)
    now = time.time()
    beat = {"count": 2, "at": now - 40, "worker": "gpu-7:123"}
    running(study, **{SLOT: 2, BEAT: beat})
    running(study, **{SLOT: 1, BEAT: {**beat, "at": now + 90, "worker": "gpu-8:5"}})
    status = rounds.status(study, SMALL, now=now)
    assert [(r.size, r.finished, r.running, r.idle) for r in status.rounds][1] == (2, 0, 0, 2)
    assert status.rounds[0].size == 4 and not status.done and not status.paused
    assert [round(r.age or 0) for r in status.running] == [40, -90]  # a clock that is ahead
    assert status.running[0].worker == "gpu-7:123"
    assert [f.reason for f in status.failures] == ["why"]
    assert status.trials_per_hour and status.seconds_left and status.best is not None


# --- costs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("domains", [21, 240])
def test_a_planned_trial_costs_the_same_few_statements_for_any_number_of_domains(
    tmp_path: Path, domains: int
) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from climb_opt.simplex import MixtureSpace

    space = MixtureSpace({f"d{k}": float(domains - k) for k in range(domains)})
    storage = open_storage(f"sqlite:///{tmp_path / 'x.db'}")
    plan = Plan((8,))
    study = optuna.create_study(storage=storage, sampler=PlanningSampler(space, plan, 0))
    claims = Claims(
        patient(study),
        plan,
        study_lock(study),
        mixtures={},
        attrs={},
        stop=lambda: False,
        grace=100.0,
    )
    statements, commits = [], []

    def on_statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    def on_commit(connection: Any) -> None:
        commits.append(1)

    for count in range(3):
        if count == 2:  # after the first few, as in a long search
            event.listen(Engine, "before_cursor_execute", on_statement)
            event.listen(Engine, "commit", on_commit)
        trial = claims.claim()
        assert isinstance(trial, optuna.Trial)
        space.suggest(trial)
        if count == 2:
            event.remove(Engine, "before_cursor_execute", on_statement)
            event.remove(Engine, "commit", on_commit)
        study.tell(trial, 0.0)
    assert len(statements) <= 25 and len(commits) <= 6


# --- many workers ------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["asking", "climb"])
def test_one_worker_and_four_give_the_same_mixtures(tmp_path: Path, sampler: str) -> None:
    plan = Plan((8, 4, 2), named=tuple(BASELINES))
    found = []
    for count in (1, 4):
        path = str(tmp_path / f"{count}.journal")
        study = fleet.create(path, "s")
        jobs = [Job(path, "s", plan, seed=3, sampler=sampler, seconds=0.02)] * count
        assert fleet.finish(fleet.start(jobs), 60) == [0] * count
        assert fleet.audit(study, plan).sound
        found.append({s: mixtures_of(study, s)[0] for s in attempts_by_slot(all_trials(study))})
    assert found[0] == found[1]


def test_without_a_barrier_rounds_overlap_and_still_every_slot_ends_once(tmp_path: Path) -> None:
    plan = Plan((6, 6), barrier=False)
    path = str(tmp_path / "x.journal")
    study = fleet.create(path, "s")
    jobs = [Job(path, "s", plan, sampler="asking", failing=0.1)] * 3
    assert fleet.finish(fleet.start(jobs), 60) == [0] * 3
    assert fleet.audit(study, plan).sound


def short_soak(storage: str, name: str, meanwhile: Callable[[optuna.Study], None]) -> fleet.Audit:
    """Plan 16/8/4, four workers and one that comes later; three of them are killed."""
    plan = Plan((16, 8, 4), named=tuple(BASELINES))
    study = fleet.create(storage, name)
    deaths = [(None, 0), ("create", 2), ("first beat", 1), ("objective", 1)]
    jobs = [
        Job(storage, name, plan, failing=0.1, dies=dies, after=after, sampler=sampler)
        for (dies, after), sampler in zip(deaths, ["planning", "asking"] * 2, strict=True)
    ]
    processes = fleet.start(jobs)
    meanwhile(study)
    processes += fleet.start([Job(storage, name, plan, failing=0.1)])
    codes = fleet.finish(processes, 120)
    assert codes == [0, -9, -9, -9, 0]
    return fleet.audit(study, plan)


def some_done(study: optuna.Study) -> None:
    until = time.monotonic() + 60
    while len(slots_of(study)) < 4 and time.monotonic() < until:
        time.sleep(0.2)


def test_a_search_survives_its_workers_on_a_journal(tmp_path: Path) -> None:
    audit = short_soak(str(tmp_path / "x.journal"), "s", some_done)
    assert audit.sound and audit.unfinished == 0 and audit.failed >= 3


@pytest.mark.postgres
def test_a_search_survives_its_workers_and_a_crash_of_the_database(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = Postgres(tmp_path_factory.mktemp("crashing"))

    def crash(study: optuna.Study) -> None:
        some_done(study)
        server.crash()
        time.sleep(1.0)
        server.start()

    try:
        audit = short_soak(server.fresh(), "s", crash)
    finally:
        server.close()
    assert audit.sound and audit.failed >= 3


@pytest.mark.postgres
def test_a_search_works_through_the_grpc_proxy(postgres: Postgres) -> None:  # noqa: F811
    pytest.importorskip("grpc")
    plan = Plan((6, 3))
    with grpc_proxy(postgres.fresh()) as url:
        study = fleet.create(url, "s")
        jobs = [Job(url, "s", plan, failing=0.1, hung=3.0)] * 2
        jobs.append(Job(url, "s", plan, dies="create"))  # holding the lock
        assert fleet.finish(fleet.start(jobs), 90) == [0, 0, -9]
        assert fleet.audit(study, plan).sound
        study._storage.close()  # type: ignore[attr-defined]
