"""Storages: which one a URL means, what goes wrong with it in one line, its lock, its patience."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
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
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from servers import Postgres, closed_engines, grpc_proxy, mysql, postgres  # noqa: F401

from climb_opt.errors import Interrupted, UserError
from climb_opt.rounds import BEAT
from climb_opt.slots import SLOT
from climb_opt.storages import (
    describe,
    explained,
    is_outage,
    location,
    open_storage,
    patient,
    persist,
    redact,
    study_lock,
)
from climb_opt.storages.database import explain
from climb_opt.storages.journal import mend
from climb_opt.storages.locks import FileLock, SoleUse, ThreadLock
from climb_opt.storages.tickets import TicketLock

optuna.logging.set_verbosity(optuna.logging.ERROR)


def journal_study(path: Path, name: str = "s") -> optuna.Study:
    return optuna.create_study(study_name=name, storage=open_storage(path), load_if_exists=True)


# --- which storage -----------------------------------------------------------------------------


def test_the_storage_is_the_one_given_then_the_environment_then_a_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///a.db")
    assert location("b.journal") == "b.journal" and location() == "sqlite:///a.db"
    monkeypatch.delenv("OPTUNA_STORAGE")
    assert location() == "runs/climb.journal"


def test_a_journal_is_created_with_its_folder_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "x.journal"
    journal_study(path).add_trial(create_trial(value=1.0))
    again = optuna.load_study(study_name="s", storage=open_storage(str(path)))
    assert again.best_value == 1.0 and describe(again._storage) == str(path)


def test_an_optuna_storage_passes_through() -> None:
    storage = optuna.storages.InMemoryStorage()
    assert open_storage(storage) is storage and describe(storage) == "InMemoryStorage"


# --- passwords ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:secret@host/db",
        "could not connect to 'mysql+pymysql://me:secret@host:3306/db'",
        "postgresql://me:p@ss/secret@host/db",
        "postgresql://host/db?user=me&password=secret&sslmode=require",
        "host=h dbname=d password=secret",
    ],
)
def test_no_password_survives_redaction(text: str) -> None:
    hidden = redact(text)
    assert "secret" not in hidden and "p@ss" not in hidden and "***" in hidden
    assert "me" in hidden or "host" in hidden


def test_text_without_a_password_is_left_alone() -> None:
    text = "grpc://host:13000 and runs/x.journal; see https://optuna.org/a:b"
    assert redact(text) == text


def test_a_refused_password_is_not_in_the_message() -> None:
    with pytest.raises(UserError) as caught:
        open_storage("postgresql://me:hunter2{x}@127.0.0.1:1/db")
    assert "hunter2" not in str(caught.value) and "me:***@" in str(caught.value)


# --- what goes wrong, in one line --------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("postgresql://me@no-such-host.invalid/db", "Check the host's name"),
        ("postgresql://me@127.0.0.1:1/db", "Check the host and the port"),
        ("oracle://me@host/db", "'oracle' is not supported"),
        ("postgresql://host:port/db", "is not a URL"),
        ("grpc://:13000", "give grpc://host:port"),
        ("sqlite:////no/such/folder/x.db", "Check the path"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line_with_a_remedy(where: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        open_storage(where)
    assert "\n" not in str(caught.value)


def test_a_missing_driver_names_the_extra() -> None:
    said = explain(ImportError("no psycopg"), "postgresql://me:secret@host/db")
    assert "climb-opt[postgres]" in said and "secret" not in said


def test_a_silent_grpc_proxy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("climb_opt.storages.opening.GRPC_WAIT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="no answer in 0 s"):
            open_storage(f"grpc://127.0.0.1:{silent.getsockname()[1]}")


def test_files_that_are_no_journal_are_told_apart(tmp_path: Path) -> None:
    database, text = tmp_path / "x.db", tmp_path / "x.txt"
    open_storage(f"sqlite:///{database}")
    text.write_text("hello")
    for path, said in ((database, "sqlite:///"), (text, "not a journal"), (tmp_path, "folder")):
        with pytest.raises(UserError, match=said):
            open_storage(path)
    with pytest.raises(UserError, match="No journal"):
        open_storage(tmp_path / "missing", write=False)
    assert not (tmp_path / "missing").exists()


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_journal_can_be_read_but_not_worked_on(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = tmp_path / "x.journal"
    journal_study(path)
    tmp_path.chmod(0o555)
    path.chmod(0o444)
    Path(f"{path}.flock").chmod(0o444)
    try:
        with nobody():
            assert optuna.get_all_study_names(open_storage(path, write=False)) == ["s"]
            with pytest.raises(UserError, match=r"cannot be written: Permission denied\. Check"):
                open_storage(path)
            study = optuna.load_study(study_name="s", storage=open_storage(path, write=False))
            with pytest.raises(UserError, match="Permission denied"), explained(study._storage):
                study.set_user_attr("a", 1)
    finally:
        tmp_path.chmod(0o755)


def test_a_damaged_journal_names_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal_study(path)
    path.write_bytes(path.read_bytes() + b'{"op_code": \n' + path.read_bytes())
    with pytest.raises(UserError, match="is damaged"):
        open_storage(path)


def test_the_schema_of_an_older_optuna_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    open_storage(url)
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v2.6.0.a'"))
    with pytest.raises(UserError, match="optuna storage upgrade"):
        open_storage(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of another program'"))
    engine.dispose()
    with pytest.raises(UserError, match="a database of its own"):
        open_storage(url)


def test_tables_of_another_program_are_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE studies (patient INTEGER)"))
    engine.dispose()
    storage = open_storage(url)
    with pytest.raises(UserError, match="are not this Optuna's"), explained(storage):
        optuna.get_all_study_names(storage)


@pytest.mark.postgres
def test_postgres_says_what_is_missing(postgres: Postgres) -> None:  # noqa: F811
    postgres.sql("CREATE ROLE guest LOGIN")
    url = postgres.fresh()
    guest = url.replace("postgres@", "guest@")
    with pytest.raises(UserError, match=r"GRANT CREATE ON SCHEMA"):
        open_storage(guest)
    with pytest.raises(UserError, match="Create the database and the user first"):
        open_storage(postgres.url("nothing_here"))
    study = optuna.create_study(storage=open_storage(url))
    with pytest.raises(UserError, match="grant this user rights"):
        open_storage(guest)
    database = url.partition("@/")[2].partition("?")[0]
    postgres.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", database)
    reader = optuna.load_study(study_name=study.study_name, storage=open_storage(guest))
    with pytest.raises(UserError, match="grant this user rights"), explained(reader._storage):
        reader.set_user_attr("a", 1)


@pytest.mark.postgres
def test_a_wrong_password_is_told_without_it(postgres: Postgres) -> None:  # noqa: F811
    postgres.sql("CREATE ROLE locked LOGIN PASSWORD 'right'")
    file = Path(postgres.sql("SHOW hba_file")[0][0])
    before = file.read_text()
    file.write_text(f"local all locked scram-sha-256\n{before}")
    postgres.sql("SELECT pg_reload_conf()")
    time.sleep(0.5)
    try:
        with pytest.raises(UserError, match="Check the user and the password") as caught:
            open_storage(postgres.url("postgres", "locked", "wr0ng"))
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(UserError, match="PGPASSWORD"):
            open_storage(postgres.url("postgres", "locked"))
    finally:
        file.write_text(before)
        postgres.sql("SELECT pg_reload_conf()")


@pytest.mark.postgres
def test_workers_that_start_together_make_the_tables_once(postgres: Postgres) -> None:  # noqa: F811
    url = postgres.fresh()
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            open_storage(url)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# --- the journal -------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"torn', b"x" * 200_000])
def test_a_torn_last_line_is_cut_off_before_the_next_write(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    study.set_user_attr("after", 1)
    again = optuna.load_study(study_name="s", storage=open_storage(path))
    assert again.user_attrs == {"after": 1}
    assert path.read_bytes().startswith(whole) and torn not in path.read_bytes()


def test_mending_a_whole_or_empty_journal_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    for content, cut in ((b"", 0), (b"{}\n", 0), (b"{}\n{", 1), (b"{", 1)):
        path.write_bytes(content)
        assert mend(path) == cut
        assert path.read_bytes() == content[: len(content) - cut]


FULL_DISK = """
import resource, signal, sys
import optuna
from climb_opt.storages import open_storage, is_outage
optuna.logging.set_verbosity(optuna.logging.ERROR)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
study = optuna.load_study(study_name="s", storage=open_storage(sys.argv[1]))
import os
size = os.path.getsize(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, resource.RLIM_INFINITY))
try:
    study.set_user_attr("big", "x" * 1000)
except OSError as error:
    print("outage" if is_outage(error) else error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
study.set_user_attr("big", "y")
"""


def test_a_full_disk_under_the_journal_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal_study(path).set_user_attr("before", 1)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["outage"]
    again = optuna.load_study(study_name="s", storage=open_storage(path))
    assert again.user_attrs == {"before": 1, "big": "y"}
    assert all(json.loads(line) for line in path.read_text().splitlines())


# --- in bulk -----------------------------------------------------------------------------------


def trials_of_every_kind(study: optuna.Study) -> None:
    weights = {f"w/{k}": k / 10 for k in range(5)}
    kinds: dict[str, Any] = {n: optuna.distributions.FloatDistribution(0, 1) for n in weights}
    mixed = {**weights, "n": 3, "c": "b"}
    mixed_kinds = {
        **kinds,
        "n": optuna.distributions.IntDistribution(1, 9),
        "c": optuna.distributions.CategoricalDistribution(["a", "b"]),
    }
    attrs = {SLOT: 4, BEAT: {"count": 0, "at": 1.5}, "text": "ünïcode"}
    for state, value in ((TrialState.COMPLETE, 0.25), (TrialState.RUNNING, None)):
        study.add_trial(
            create_trial(
                state=state,
                value=value,
                params=mixed,
                distributions=mixed_kinds,
                user_attrs=attrs,
                system_attrs={"fixed_params": weights},
                intermediate_values={1: 2.0, 2: float("inf"), 7: float("nan")},
            )
        )
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=float("-inf"), params={}))
    study.add_trial(create_trial(state=TrialState.WAITING, params=weights, distributions=kinds))
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.tell(study.ask(kinds), 3.0)  # the waiting one
    study.add_trial(create_trial(state=TrialState.WAITING, params=weights, distributions=kinds))


def check_bulk(url: str) -> None:
    ours = optuna.create_study(storage=open_storage(url), study_name="ours")
    trials_of_every_kind(ours)
    stock = optuna.load_study(study_name="ours", storage=url)
    mine = optuna.load_study(study_name="ours", storage=open_storage(url))
    read, expected = mine.get_trials(), stock.get_trials()
    assert len(read) == 6
    for ours_read, theirs in zip(read, expected, strict=True):
        # NaN is not equal to itself, so the intermediate values are compared as text.
        assert repr(ours_read.intermediate_values) == repr(theirs.intermediate_values)
        ours_read.intermediate_values = theirs.intermediate_values = {}
        assert ours_read == theirs and ours_read._trial_id == theirs._trial_id
        assert list(ours_read.params) == list(theirs.params)
    # A running trial that ends is seen to have ended; new ones are seen.
    stock.tell(1, 5.0)
    stock.tell(stock.ask(), 6.0)
    assert [t.value for t in mine.get_trials(deepcopy=False)][1] == 5.0
    assert len(mine.get_trials(deepcopy=False)) == 6  # ask took the waiting one
    with pytest.raises(KeyError):
        mine._storage.get_all_trials(10_000)


def test_what_is_written_and_read_in_bulk_is_what_optuna_writes_and_reads(tmp_path: Path) -> None:
    check_bulk(f"sqlite:///{tmp_path / 'x.db'}")


@pytest.mark.postgres
def test_bulk_on_postgres(postgres: Postgres) -> None:  # noqa: F811
    check_bulk(postgres.fresh())


def test_optuna_still_has_the_methods_that_are_replaced() -> None:
    assert callable(RDBStorage._get_prepared_new_trial) and callable(RDBStorage._get_trials)


# --- locks -------------------------------------------------------------------------------------


def exclusive(study: optuna.Study, other: optuna.Study) -> None:
    """Two holders never at once; the second gets it when the first leaves."""
    first, second = study_lock(study), study_lock(other)
    order: list[str] = []

    def wait() -> None:
        with second:
            assert second.held()
            order.append("second")

    with first:
        assert first.held()
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        order.append("first")
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
        assert not lock.held()


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
            assert lock.held()


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
        assert lock.held()
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert not lock.held()


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
        assert not hung.held()


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
                assert lock.held()
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
        assert locks[0].held() and not dead.held()


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
def test_mysql_is_read_in_bulk_and_its_lock_is_freed_by_death(mysql: str) -> None:  # noqa: F811
    check_bulk(mysql)
    study = optuna.create_study(study_name="s", storage=open_storage(mysql))
    exclusive(study, study)
    with holder(mysql) as process:
        process.send_signal(signal.SIGKILL)
        assert seconds_to_lock(study) < 20
    with pytest.raises(UserError, match="Create it first"):
        open_storage(mysql.replace("/climb?", "/nothing?"))
    with pytest.raises(UserError, match="Check the user, the password") as caught:
        open_storage(mysql.replace("root@", "root:s3cret@"))
    assert "s3cret" not in str(caught.value)


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
                raise OSError(errno.ENOSPC, "No space left on device")
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
    assert patient(waiting) is not waiting and patient(waiting)._storage is not waiting._storage


def test_who_is_asked_to_stop_does_not_wait_for_a_storage_that_is_away() -> None:
    def away() -> None:
        raise OSError(errno.ESTALE, "stale")

    with pytest.raises(Interrupted):
        persist(away, lambda: True)


def test_what_waiting_cannot_mend_is_raised_at_once() -> None:
    def wrong() -> None:
        raise KeyError("no such study")

    with pytest.raises(KeyError):
        persist(wrong)
    assert not is_outage(ValueError()) and not is_outage(PermissionError(errno.EACCES, "no"))
