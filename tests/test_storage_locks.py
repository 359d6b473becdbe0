"""The study's lock on every storage, and patience with a storage that is away."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from climb_opt.errors import Interrupted, UserError
from climb_opt.storages import (
    describe,
    explained,
    is_outage,
    never,
    open_storage,
    patient,
    persist,
    study_lock,
)
from climb_opt.storages.locks import FileLock, SoleUse, ThreadLock, TicketLock
from servers import MariaDB, Postgres, closed_engines, grpc_proxy, mysql, postgres  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)


def journal_study(path: Path, name: str = "s") -> optuna.Study:
    return optuna.create_study(study_name=name, storage=open_storage(path), load_if_exists=True)


# --- locks -------------------------------------------------------------------------------------


def exclusive(study: optuna.Study, other: optuna.Study) -> None:
    """Two holders never at once; the second gets it when the first leaves."""
    first, second = study_lock(study), study_lock(other)
    order: list[str] = []

    def wait() -> None:
        with second:
            order.append("second")
            assert second.release()

    with first:
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        order.append("first")
        assert first.release()
    thread.join(10)
    assert order == ["first", "second"]


def test_the_lock_of_a_journal_is_exclusive_and_one_per_study(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    study, other = journal_study(path), journal_study(path, "t")
    assert isinstance(study_lock(study), FileLock)
    exclusive(study, journal_study(path))
    with study_lock(study), study_lock(other):
        pass


def test_a_lock_file_that_was_deleted_is_no_longer_held(tmp_path: Path) -> None:
    study = journal_study(tmp_path / "x.journal")
    lock = study_lock(study)
    with lock:
        for file in tmp_path.glob("x.journal.*.flock"):
            file.unlink()
        assert not lock.release()


def test_a_study_in_memory_has_a_lock_too() -> None:
    study = optuna.create_study()
    assert isinstance(study_lock(study), ThreadLock)
    exclusive(study, study)


HOLD = """
import sys, time, optuna
from climb_opt.storages import open_storage, study_lock
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="s", storage=open_storage(sys.argv[1]))
with study_lock(study):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the study's lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def seconds_to_lock(study: optuna.Study) -> float:
    begun = time.monotonic()
    with study_lock(study):
        return time.monotonic() - begun


def test_a_killed_holder_frees_the_journals_lock_at_once(tmp_path: Path) -> None:
    study = journal_study(tmp_path / "x.journal")
    with holder(str(tmp_path / "x.journal")) as process:
        process.send_signal(signal.SIGKILL)
        assert seconds_to_lock(study) < 5


def test_sqlite_serves_one_process_and_refuses_another_with_the_remedy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    with holder(url), pytest.raises(UserError, match=r"use a journal .* PostgreSQL"):
        study_lock(study).__enter__()
    lock = study_lock(study)
    assert isinstance(lock, SoleUse)
    for _ in range(2):  # the same process may come back
        with lock, study_lock(study):
            assert lock.release()


@pytest.mark.postgres
def test_the_lock_of_postgres_is_exclusive_and_freed_by_death(
    postgres: Postgres,  # noqa: F811
) -> None:
    url = postgres.fresh()
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    exclusive(study, study)
    with holder(url) as process:
        process.send_signal(signal.SIGKILL)
        assert seconds_to_lock(study) < 10


@pytest.mark.postgres
def test_a_lock_that_the_server_took_away_is_not_held(postgres: Postgres) -> None:  # noqa: F811
    url = postgres.fresh()
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    lock = study_lock(study)
    with lock:
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert not lock.release()


@pytest.mark.postgres
def test_a_lock_let_go_is_free_before_it_is_left(postgres: Postgres) -> None:  # noqa: F811
    url = postgres.fresh()
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    with study_lock(study) as lock:
        assert lock.release()
        with study_lock(study) as other:
            assert not lock.release() and other.release()


@pytest.mark.postgres
def test_a_holder_that_hangs_loses_the_lock(
    postgres: Postgres,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("climb_opt.storages.locks.HUNG", 1)
    study = optuna.create_study(study_name="s", storage=open_storage(postgres.fresh()))
    hung = study_lock(study)
    with hung:
        assert seconds_to_lock(study) < 30  # the server ends the idle session after a second
        assert not hung.release()


def test_tickets_are_exclusive_in_order_and_outlive_a_dead_holder(tmp_path: Path) -> None:
    study = journal_study(tmp_path / "x.journal")
    locks = [TicketLock(study._storage, "s", hung=0.5, poll=0.05) for _ in range(4)]
    inside, most, entered = 0, 0, 0
    mutex = threading.Lock()

    def turn(lock: TicketLock) -> None:
        nonlocal inside, most, entered
        for _ in range(3):
            with lock:
                with mutex:
                    inside, entered = inside + 1, entered + 1
                    most = max(most, inside)
                time.sleep(0.01)
                assert lock.release()
                with mutex:
                    inside -= 1

    threads = [threading.Thread(target=turn, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and entered == 12
    dead = TicketLock(study._storage, "s", hung=0.5, poll=0.05)
    dead.__enter__()  # never leaves
    with locks[0]:
        assert locks[0].release() and not dead.release()


@pytest.mark.postgres
def test_behind_the_grpc_proxy_the_lock_is_tickets(postgres: Postgres) -> None:  # noqa: F811
    pytest.importorskip("grpc")
    with grpc_proxy(postgres.fresh()) as url:
        storage = open_storage(url)
        study = optuna.create_study(study_name="s", storage=storage)
        assert isinstance(study_lock(study), TicketLock) and describe(storage) == url
        exclusive(study, optuna.load_study(study_name="s", storage=open_storage(url)))
        storage.close()  # type: ignore[attr-defined]


@pytest.mark.postgres
def test_the_lock_of_mysql_is_exclusive_and_freed_by_death(mysql: MariaDB) -> None:  # noqa: F811
    url = mysql.fresh()
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    exclusive(study, study)
    with holder(url) as process:
        process.send_signal(signal.SIGKILL)
        assert seconds_to_lock(study) < 20


# --- patience ----------------------------------------------------------------------------------


class Flaky:
    """A storage that is away for the first few calls."""

    def __init__(self, storage: Any, away: int) -> None:
        self.storage, self.away = storage, away

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.storage, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.away:
                self.away -= 1
                raise OSError(errno.ESTALE, "Stale file handle")
            return attribute(*args, **kwargs)

        return call if callable(attribute) else attribute


def test_a_patient_study_waits_for_its_storage_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study()
    study._storage = Flaky(study._storage, 2)  # type: ignore[assignment]
    waiting = patient(study)
    trial = waiting.ask()
    trial.suggest_float("x", 0, 1)
    study._storage.away = 1  # type: ignore[attr-defined]
    waiting.tell(trial, 1.0)
    assert study.best_value == 1.0
    assert "does not answer (" in caplog.text and "answers again" in caplog.text
    assert patient(waiting) is waiting and patient(waiting, never)._storage is not waiting._storage


def test_who_is_asked_to_stop_does_not_wait_for_a_storage_that_is_away() -> None:
    def away() -> None:
        raise OSError(errno.ESTALE, "stale")

    study = optuna.create_study()
    with pytest.raises(Interrupted), explained(study._storage):
        persist(away, lambda: True)


def test_what_waiting_cannot_mend_is_raised_at_once() -> None:
    def wrong() -> None:
        raise KeyError("no such study")

    with pytest.raises(KeyError):
        persist(wrong)
    assert not is_outage(ValueError()) and not is_outage(PermissionError(errno.EACCES, "no"))
