"""Many workers: who is dead, who is late, what it costs, and what is left when some are killed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import fleet
from climb_opt import TrialFailed
from climb_opt import workers as rounds
from climb_opt.attributes import BEAT, FACTS, INTERRUPTED, SLOT
from climb_opt.history import seconds_of
from climb_opt.ladder import Ladder
from climb_opt.plan import Plan, attempts_by_slot
from climb_opt.storages import open_storage, patient, study_lock
from climb_opt.view import all_trials
from climb_opt.workers import Claims, Work
from climb_opt.workers.beats import Reaper, life, sign
from fleet import BASELINES, SPACE, Job, PlanningSampler, score
from one_worker import SMALL, failing, in_line, mixtures_of, slots_of, study_of, work
from servers import Postgres, closed_engines, grpc_proxy, postgres  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)

# --- who is dead -------------------------------------------------------------------------------


def running(study: optuna.Study, **attrs: Any) -> None:
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=attrs))


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("climb_opt.workers.beats.time.monotonic", lambda: self.now)


def test_silence_counts_only_while_somebody_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    study = optuna.create_study()
    running(study, **{SLOT: 0, BEAT: {"count": 3, "worker": "far:1"}})
    watch = Reaper(grace=100.0)
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
    watch = Reaper(grace=10.0)
    for count in range(30):
        study = optuna.create_study()
        running(study, **{SLOT: 0, BEAT: {"count": count // 2}})
        clock.now += 2
        assert not watch.dead(all_trials(study))


def test_trials_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    study = optuna.create_study()
    study.ask()
    watch = Reaper(grace=1.0)
    for _ in range(50):
        clock.now += 1
        assert not watch.dead(all_trials(study))


def test_a_worker_of_this_machine_that_died_is_known_at_once() -> None:
    done = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    beat = {**sign(0), "life": life(done.pid)}
    study = optuna.create_study()
    running(study, **{SLOT: 0, BEAT: beat})
    watch = Reaper(grace=1000.0)
    assert beat["life"] is not None and not watch.dead(all_trials(study))
    done.communicate(b"\n")
    ((_, reason),) = watch.dead(all_trials(study))
    assert reason.endswith("died")
    assert life(done.pid) is None


def test_a_worker_that_finished_its_trial_and_ended_did_not_fail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    study = optuna.create_study()
    running(study, **{SLOT: 0, BEAT: {**sign(0), "life": life(done.pid)}})
    read = all_trials(study)
    study.tell(0, 1.0)
    done.communicate(b"\n")
    monkeypatch.setattr("climb_opt.workers.claims.all_trials", lambda study: read)
    Claims(study, study_lock(study), Work(SMALL)).reap()
    assert study.trials[0].state == TrialState.COMPLETE and "is failed" not in caplog.text


def test_a_worker_that_was_killed_and_never_asked_for_is_known_at_once() -> None:
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    study = optuna.create_study()
    running(study, **{SLOT: 0, BEAT: {**sign(0), "life": life(killed.pid)}})
    watch = Reaper(grace=1000.0)
    assert not watch.dead(all_trials(study))
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # dead, but still in the table
    assert Path(f"/proc/{killed.pid}").exists()
    assert len(watch.dead(all_trials(study))) == 1
    assert rounds.status(study, SMALL).running[0].ended
    killed.communicate()


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
        answers = iter([True, False, False, True])

        def __enter__(self) -> Any:
            return real.__enter__()

        def __exit__(self, *error: Any) -> None:
            real.__exit__(*error)

        def held(self) -> bool:
            return True

        def release(self) -> bool:
            return next(self.answers, True)

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
    assert status.named is not None
    assert (status.named.size, status.rounds[0].size, status.size) == (1, 3, 6)
    assert not status.done and not status.paused
    assert [round(r.age or 0) for r in status.running] == [40, -90]  # a clock that is ahead
    assert status.running[0].worker == "gpu-7:123"
    assert [f.reason for f in status.failures] == ["why"]
    assert status.trials_per_hour and status.seconds_left and status.best is not None


def test_what_waits_outside_the_rounds_is_counted_and_what_was_given_up_is_named() -> None:
    study = study_of()
    study.enqueue_trial(SPACE.params(SPACE.prior))
    for name in ("a", "b"):
        in_line(study, name)
    before = rounds.status(study, SMALL).outside
    assert (before.size, before.waiting, before.idle, before.finished) == (3, 3, 0, 0)
    broken = failing("enqueued/a", 9, TrialFailed("x"))
    work(study, broken, stop=lambda: bool(slots_of(study, TrialState.FAIL)))
    once = rounds.status(study, SMALL)
    assert (once.outside.finished, once.outside.waiting, once.outside.idle) == (1, 1, 1)
    assert once.given_up == () and not once.done
    work(study, broken)
    now = rounds.status(study, SMALL)
    assert (now.outside.finished, now.outside.waiting, now.outside.idle) == (2, 0, 0)
    assert now.given_up == ("enqueued/a",) and now.done and now.extra == 2


def test_rate_and_time_left_are_right_when_somebody_sets_the_clock_back() -> None:
    study = study_of()
    noon = datetime(2026, 11, 28, 12)
    for slot, stated in ((0, 36.0), (1, None)):
        trial = create_trial(
            value=1.0,
            params=SPACE.params(SPACE.prior),
            distributions=SPACE.distributions(),
            user_attrs={SLOT: slot, **({FACTS: {"seconds": stated}} if stated else {})},
        )
        trial.datetime_start, trial.datetime_complete = noon, noon - timedelta(hours=1)
        study.add_trial(trial)
        assert seconds_of(study.trials[-1]) == (stated or 0.0)
    status = rounds.status(study, SMALL)
    assert status.trials_per_hour == pytest.approx(3600 / 18)
    assert status.seconds_left == 18 * (status.size - 2)


def test_a_trial_whose_worker_died_took_until_its_last_sign_of_life() -> None:
    noon = datetime(2026, 11, 28, 12)
    for at, expected in ((90.0, 90.0), (-5.0, 0.0), (10 * 86400.0, 3 * 86400.0)):
        beat = {"count": 3, "at": noon.timestamp() + at, "worker": "gone:1"}
        trial = create_trial(state=TrialState.FAIL, user_attrs={SLOT: 0, BEAT: beat})
        trial.datetime_start, trial.datetime_complete = noon, noon + timedelta(days=3)
        assert seconds_of(trial) == expected
        trial.set_user_attr(FACTS, {"seconds": 36.0})
        assert seconds_of(trial) == 36.0, "its worker lived to measure it"


@pytest.mark.parametrize(("direction", "best"), [("minimize", 1.0), ("maximize", 2.0)])
def test_the_best_score_is_the_best_finite_one(direction: str, best: float) -> None:
    study = optuna.create_study(direction=direction)
    assert rounds.status(study, SMALL).best is None
    for value in (2.0, math.inf, -math.inf, 1.0):
        study.add_trial(create_trial(value=value))
    assert rounds.status(study, SMALL).best == best


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
    claims = Claims(patient(study), study_lock(study), Work(plan))
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
def test_one_worker_and_eight_give_the_same_mixtures(tmp_path: Path, sampler: str) -> None:
    plan = Plan((8, 4, 2), named=tuple(BASELINES))
    found = []
    for count in (1, 8):
        path = str(tmp_path / f"{count}.journal")
        study = fleet.create(path, "s")
        jobs = [Job(path, "s", plan, seed=3, sampler=sampler, seconds=0.02)] * count
        assert fleet.finish(fleet.start(jobs), 60) == [0] * count
        assert fleet.audit(study, plan).sound
        found.append({s: mixtures_of(study, s)[0] for s in attempts_by_slot(all_trials(study))})
    assert found[0] == found[1]


def test_without_a_barrier_rounds_overlap_and_still_every_slot_ends_once(tmp_path: Path) -> None:
    plan = Plan((6, 6), max_attempts=8, barrier=False)
    path = str(tmp_path / "x.journal")
    study = fleet.create(path, "s")
    jobs = [Job(path, "s", plan, sampler="asking", failing=0.1)] * 3
    assert fleet.finish(fleet.start(jobs), 60) == [0] * 3
    assert fleet.audit(study, plan).sound


def short_soak(storage: str, name: str, meanwhile: Callable[[optuna.Study], None]) -> fleet.Audit:
    """Plan 16/8/4, four workers and one that comes later; three of them are killed."""
    plan = Plan((16, 8, 4), named=tuple(BASELINES), max_attempts=8)
    study = fleet.create(storage, name)
    deaths = [None, "create", "first beat", "objective"]  # each on its first trial
    jobs = [
        Job(storage, name, plan, failing=0.1, dies=dies, sampler=sampler)
        for dies, sampler in zip(deaths, ["planning", "asking"] * 2, strict=True)
    ]
    processes = fleet.start(jobs)
    try:
        meanwhile(study)
        processes += fleet.start([Job(storage, name, plan, failing=0.1)])
        codes = fleet.finish(processes, 120)
    finally:
        fleet.finish(processes, 0)
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
    plan = Plan((6, 3), max_attempts=8)
    with grpc_proxy(postgres.fresh()) as url:
        study = fleet.create(url, "s")
        jobs = [Job(url, "s", plan, failing=0.1, hung=3.0)] * 2
        jobs.append(Job(url, "s", plan, dies="create"))  # holding the lock
        assert fleet.finish(fleet.start(jobs), 90) == [0, 0, -9]
        assert fleet.audit(study, plan).sound
        study._storage.close()  # type: ignore[attr-defined]


def test_a_budget_is_spent_once_whoever_dies_on_whichever_rung(tmp_path: Path) -> None:
    ladder = Ladder.of([1, 4, 16])
    plan = Plan((), tuple(BASELINES), 8, ladder=ladder, budget=100.0)
    storage = str(tmp_path / "x.journal")
    study = fleet.create(storage, "bought")
    deaths = ["objective", "create", "tell", None]
    jobs = [
        Job(storage, "bought", plan, sampler="choosing", dies=moment, after=2) for moment in deaths
    ]
    codes = fleet.finish(fleet.start(jobs), 90)
    assert codes.count(-9) >= 2 and codes.count(0) >= 1
    tried = attempts_by_slot(all_trials(study))
    done = {s: [t for t in a if t.state == TrialState.COMPLETE] for s, a in tried.items()}
    assert all(len(finished) == 1 for finished in done.values())
    assert fleet.audit(study, plan).two_mixtures == 0  # nor two rungs
    assert 84 < ladder.spent(all_trials(study)) <= 100  # a trial of the target is 16
