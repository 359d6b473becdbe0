"""One rule for storages that are away: commands and Python wait for them, alike."""

from __future__ import annotations

import argparse
import errno
import pickle
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

import climb_opt
from climb_opt import MixtureSpace
from climb_opt.attributes import SPACE
from climb_opt.cli import main
from climb_opt.cli.arguments import existing
from climb_opt.errors import Interrupted, UserError
from climb_opt.shards import Corpus
from climb_opt.storages import describe, never, open_storage, patient, persist, study_lock
from climb_opt.storages.locks import FileLock
from climb_opt.study import open_study
from searching import arrange
from servers import MariaDB, Postgres, closed_engines, grpc_proxy, mysql, postgres  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)
MINE = {"web": 0.5, "code": 0.25, "math": 0.25}


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def rest(seconds: float, stop: Any) -> None:
        raise AssertionError("it waits for what cannot come")

    monkeypatch.setattr("climb_opt.storages.outages.rest", rest)


class Flaky:
    """A storage that is away for some calls, before or after it has done what was asked."""

    def __init__(self, storage: Any) -> None:
        self.storage, self.before, self.after = storage, 0, 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.storage, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.before:
                self.before -= 1
                raise OSError(errno.ESTALE, "Stale file handle")
            answer = attribute(*args, **kwargs)
            if self.after and name == "create_new_trial":
                self.after -= 1
                raise OSError(errno.EIO, "Input/output error")
            return answer

        return call if callable(attribute) else attribute


def flaky_study() -> tuple[optuna.Study, Flaky]:
    study = optuna.create_study()
    study.set_user_attr(SPACE, MixtureSpace(MINE).to_json())
    flaky = Flaky(study._storage)
    study._storage = flaky  # type: ignore[assignment]
    return study, flaky


# --- every command -----------------------------------------------------------------------------


@pytest.mark.postgres
def test_every_command_waits_for_a_database_that_starts_late(
    tmp_path: Path,
    tiny_corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    arrange(tiny_corpus, tmp_path, monkeypatch)
    Path("m.yaml").write_text("{web: 0.5, code: 0.25, math: 0.25}")
    server = Postgres(tmp_path / "pg")
    try:
        url = server.fresh()
        assert main(["search", "mine.yaml", "--storage", url]) == 0
        server.stop()
        words = [
            ["status", "mine"],
            ["best", "mine"],
            ["report", "mine", "--output", "report.html"],
            ["export", "mine", "--format", "yaml", "--output", "out.yaml"],
            ["enqueue", "mine", "m.yaml"],
            ["retry", "mine"],
            ["pause", "mine"],
            ["resume", "mine"],
        ]
        args = argparse.Namespace(storage=url, name="mine", study_name=None)
        doors: list[Callable[[], Any]] = [
            *(lambda w=w: main([*w, "--storage", url]) for w in words),
            lambda: existing(args, works=True).study_name,
            lambda: open_study(study_name="mine", storage=url, create=False).study_name,
            lambda: open_study("mine.yaml", storage=url, stop=never).study_name,
        ]
        with ThreadPoolExecutor(len(doors)) as pool:
            found = [pool.submit(door) for door in doors]
            until(lambda: caplog.text.count("does not answer") == len(doors))
            server.start()
            answers = [f.result(60) for f in found]
        assert answers == [0] * len(words) + ["mine"] * 3
        assert caplog.text.count("; waiting up to 60 s.") == len(words) + 1
        assert caplog.text.count("; waiting until it does.") == 2
        assert caplog.text.count("The storage answers again after") == len(doors)
        assert "me:" not in caplog.text and "Check that the server runs" in caplog.text

        study = open_study(study_name="mine", storage=url, create=False)
        enqueued = [t for t in study.trials if "enqueued/m" in t.user_attrs.values()]
        assert len(enqueued) == 1

        # Doors of a study that is open already.
        server.stop()
        with ThreadPoolExecutor(3) as pool:
            found = [
                pool.submit(climb_opt.status, study),
                pool.submit(climb_opt.enqueue, study, "late", MINE),
                pool.submit(climb_opt.confirm, study, seeds=2, objective=lambda trial: 1.0),
            ]
            until(lambda: caplog.text.count("does not answer") > len(doors))
            server.start()
            assert found[0].result(60).finished == 6
            assert found[1].result(60) == "enqueued/late"
            assert found[2].result(60).failed == 0
    finally:
        server.close()


def test_a_command_whose_storage_stays_away_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("climb_opt.storages.outages.PATIENCE", 0.3)
    assert main(["status", "s", "--storage", "postgresql://me:pw@127.0.0.1:1/db"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("climb-opt: Storage postgresql://me:***@127.0.0.1:1/db: ")
    assert "Check the host and the port" in line
    assert "waiting up to 0 s" in caplog.text and "pw" not in caplog.text


@pytest.mark.parametrize("command", ["status", "search", "pause"])
@pytest.mark.parametrize(
    "where",
    [
        "postgresql://me@no-such-host.invalid/db",
        "mysql://me@no-such-host.invalid/db",
        "grpc://no-such-host.invalid:13000",
        "postgresql://me@/db?host=/no/such/folder",
        "mysql://me@localhost/db?unix_socket=/no/such/folder/sock",
        "postgresql://me@127.0.0.1:1/db?connect_timeout=soon",
        "mysql://me@127.0.0.1:1/db?timeout=5",
        "mysql://me@127.0.0.1:1/db?ssl_ca=/no/such/file.pem",
        "postgresql+pg8000://me@127.0.0.1:1/db",
        "sqlite:////no/such/folder/x.db",
        "/proc/no/such/folder/x.journal",
    ],
)
def test_an_address_that_can_never_work_is_told_at_once(
    no_waiting: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_corpus: Corpus,
    capsys: pytest.CaptureFixture[str],
    command: str,
    where: str,
) -> None:
    arrange(tiny_corpus, tmp_path, monkeypatch)
    assert main([command, "mine.yaml", "--storage", where]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("climb-opt: ") and where.partition("?")[0][:12] in line


@pytest.mark.postgres
def test_a_database_or_user_that_is_not_there_is_told_at_once(
    no_waiting: None,
    postgres: Postgres,  # noqa: F811
    mysql: MariaDB,  # noqa: F811
) -> None:
    for url in (
        postgres.url("nothing_here"),
        postgres.url("postgres", "nobody_here"),
        mysql.url("nothing_here"),
        mysql.url("mysql", "root:wr0ng"),
    ):
        with pytest.raises(UserError):
            open_storage(url, stop=never)


# --- what passes while it is written -----------------------------------------------------------


@pytest.mark.postgres
def test_steering_waits_for_a_lock_of_another_session(
    mysql: MariaDB,  # noqa: F811
    tiny_corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import pymysql

    arrange(tiny_corpus, tmp_path, monkeypatch)
    mysql.sql("SET GLOBAL innodb_lock_wait_timeout = 1")
    url = mysql.fresh()
    try:
        study = open_study("mine.yaml", storage=url)
        before = len(study.trials)
        name = url.partition("localhost/")[2].partition("?")[0]
        other = pymysql.connect(
            unix_socket=url.partition("unix_socket=")[2], user="root", database=name
        )
        with other, other.cursor() as cursor, ThreadPoolExecutor(2) as pool:
            cursor.execute("SELECT * FROM studies FOR UPDATE")
            found = [
                pool.submit(climb_opt.enqueue, study, "mine", MINE),
                pool.submit(climb_opt.pause, study),
            ]
            until(lambda: "Lock wait timeout exceeded" in caplog.text)
            other.rollback()
            assert found[0].result(30) == "enqueued/mine" and found[1].result(30) is None
        assert len(study.trials) == before + 1 and study.user_attrs["climb/paused"] is True
    finally:
        mysql.sql("SET GLOBAL innodb_lock_wait_timeout = 50")


def test_what_was_stored_before_the_answer_was_lost_is_not_stored_twice() -> None:
    study, flaky = flaky_study()
    flaky.after = 1
    assert climb_opt.enqueue(study, "mine", MINE) == "enqueued/mine"
    flaky.before = 2
    assert climb_opt.enqueue(study, "mine", MINE) == "enqueued/mine-2"
    assert [t.user_attrs for t in study.get_trials()] == [
        {"climb/slot": "enqueued/mine"},
        {"climb/slot": "enqueued/mine-2"},
    ]


def test_two_marks_that_are_alike_are_two() -> None:
    study, flaky = flaky_study()
    mark = optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL, user_attrs={"climb/slot": 3}
    )
    assert mark.datetime_start is not None
    study.add_trial(mark)
    flaky.before = 1
    mark.datetime_start = mark.datetime_start.replace(year=2000)
    patient(study).add_trial(mark)
    assert len(study.trials) == 2


# --- the other storages ------------------------------------------------------------------------


def test_a_database_file_that_another_program_holds_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}?timeout=0.05"
    optuna.create_study(study_name="s", storage=open_storage(url))
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(1) as pool:
        names = pool.submit(lambda: optuna.get_all_study_names(open_storage(url, write=False)))
        until(lambda: "database is locked" in caplog.text)
        holder.close()
        assert names.result(30) == ["s"]


def test_a_journal_whose_file_system_moved_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from climb_opt.storages import journal

    study = optuna.create_study(study_name="s", storage=open_storage(tmp_path / "x.journal"))
    take, times = journal.take_flock, iter(range(9))

    def stale(file: Path) -> int:
        if next(times) < 2:
            raise OSError(errno.ESTALE, "Stale file handle")
        return take(file)

    monkeypatch.setattr(journal, "take_flock", stale)
    study.set_user_attr("a", 1)
    assert study.user_attrs == {"a": 1}
    assert "Stale file handle" in caplog.text and "answers again" in caplog.text


@pytest.mark.postgres
def test_a_proxy_that_starts_late_is_waited_for(
    postgres: Postgres,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("grpc")
    monkeypatch.setattr("climb_opt.storages.opening.GRPC_WAIT", 0.2)
    with grpc_proxy(postgres.fresh()) as url:
        pass  # a port that was free a moment ago
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(open_storage, url, stop=never)
        until(lambda: "no answer" in caplog.text)
        with grpc_proxy(postgres.fresh(), int(url.rpartition(":")[2])):
            storage = found.result(60)
            assert describe(storage) == url and optuna.get_all_study_names(storage) == []
            storage.close()  # type: ignore[attr-defined]


# --- the storage that waits --------------------------------------------------------------------


def test_a_storage_that_waits_is_the_storage_to_all_who_ask(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "x.journal")
    assert isinstance(storage, optuna.storages.JournalStorage)
    assert open_storage(storage) is storage
    study = optuna.create_study(study_name="s", storage=storage)
    assert isinstance(study_lock(study), FileLock)
    again = pickle.loads(pickle.dumps(study))
    again.set_user_attr("a", 1)
    assert study.user_attrs == {"a": 1}
    assert describe(again._storage) == str(tmp_path / "x.journal")
    assert patient(study) is study and patient(study, never) is not study


def test_who_waits_long_says_so_again_and_stops_when_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(100, 2000, 40))
    monkeypatch.setattr("climb_opt.storages.outages.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("climb_opt.storages.outages.rest", lambda seconds, stop: None)
    told = threading.Event()

    def away() -> None:
        raise OSError(errno.EIO, "Input/output error")

    def stop() -> bool:
        if len(caplog.messages) == 3:
            told.set()
        return told.is_set()

    with pytest.raises(Interrupted):
        persist(away, stop)
    assert [m.partition(" (")[0] for m in caplog.messages] == [
        "The storage does not answer",
        "The storage has not answered for 1 min 20 s",
        "The storage has not answered for 2 min 40 s",
    ]


@pytest.mark.parametrize("stop", [None, never])
def test_a_full_disk_is_told_at_once_with_its_place_and_its_room(tmp_path: Path, stop: Any) -> None:
    path = tmp_path / "x.journal"
    study = optuna.create_study(study_name="s", storage=open_storage(path))

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    inside: Any = study._storage
    inside.storage._backend.append_logs = full
    with pytest.raises(UserError, match=r"no space left on the disk of .*x\.journal.* MB free\)"):
        patient(study, stop).set_user_attr("a", 1)


def test_a_full_sqlite_file_is_told_at_once_and_loses_nothing(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(f"sqlite:///{tmp_path}/x.db"))
    study.set_user_attr("before", 1)
    inside: Any = study._storage
    engine = inside.storage._backend.engine

    @sqlalchemy.event.listens_for(engine, "connect")
    def small(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    engine.dispose()
    with pytest.raises(UserError, match=r"no space left on the disk of .*x\.db' \(.* MB free"):
        patient(study, never).set_user_attr("big", "x" * 2**20)
    assert study.user_attrs == {"before": 1}
    engine.dispose()
