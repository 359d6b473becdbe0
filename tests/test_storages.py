"""Storages: which one a URL means, what goes wrong with it in one line, its lock, its patience."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from climb_opt.errors import UserError
from climb_opt.storages import (
    describe,
    explained,
    location,
    open_storage,
    redact,
)
from climb_opt.storages.database import explain, first_line
from servers import MariaDB, Postgres, closed_engines, grpc_proxy, mysql, postgres  # noqa: F401

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


def test_a_refused_password_is_not_in_the_message(at_once: None) -> None:
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
        ("sqlite://", "all results would be lost"),
        ("sqlite:///:memory:", "all results would be lost"),
        ("sqlite:///file:x?mode=memory&uri=true", "all results would be lost"),
        ("mysql://me@127.0.0.1:1", "names no database"),
        ("mariadb://me@127.0.0.1:1/", "names no database"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line_with_a_remedy(
    at_once: None, where: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        open_storage(where)
    assert "\n" not in str(caught.value)


def test_a_missing_driver_names_the_extra() -> None:
    said = explain(ImportError("no psycopg"), "postgresql://me:secret@host/db")
    assert "climb-opt[postgres]" in said and "secret" not in said


def test_a_missing_driver_that_the_url_chose_is_named_with_ours() -> None:
    said = explain(ImportError("no MySQLdb"), "mysql+mysqldb://me@host/db")
    assert "'mysqldb' is not installed; install it, or write mysql:// and" in said
    said = explain(ImportError("no psycopg2"), "postgresql+psycopg2://me@host/db")
    assert "'psycopg2'" in said and "write postgresql:// and run pip install 'climb-opt[" in said
    assert "is not installed; run pip" in explain(ImportError(), "mysql+pymysql://me@host/db")


def test_a_silent_grpc_proxy_is_told(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("climb_opt.storages.opening.GRPC_WAIT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="no answer in 0 s"):
            open_storage(f"grpc://127.0.0.1:{silent.getsockname()[1]}")


def test_what_an_error_of_grpc_says_is_told() -> None:
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/a/b")(b"", timeout=5)
    assert "failed to connect to all addresses" in first_line(caught.value).lower()
    assert "Check the host and the port" in explain(caught.value, "grpc://127.0.0.1:1")


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


def test_a_truncated_database_is_called_damaged(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    open_storage(f"sqlite:///{database}")
    os.truncate(database, database.stat().st_size // 2)
    with pytest.raises(UserError, match=r"malformed\. The file is damaged: restore a copy"):
        open_storage(f"sqlite:///{database}").get_all_studies()


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
    for folder in (tmp_path, *tmp_path.parents):  # all of pytest's own: others may not pass 0700
        if "pytest-" in str(folder) or folder == tmp_path:
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


@pytest.mark.postgres
def test_mysql_says_what_is_missing(mysql: MariaDB) -> None:  # noqa: F811
    with pytest.raises(UserError, match="Create it first"):
        open_storage(mysql.url("nothing"))
    with pytest.raises(UserError, match="Check the user, the password") as caught:
        open_storage(mysql.url("mysql", "root:s3cret"))
    assert "s3cret" not in str(caught.value)
