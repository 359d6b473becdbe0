"""Real MariaDB, PgBouncer and PostgreSQL: long attributes, like names, passing errors, sessions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import optuna
import psycopg
import pymysql
import pytest
from optuna.storages import RDBStorage
from optuna.trial import create_trial
from sqlalchemy import Engine, event, exc
from sqlalchemy.pool import Pool

import fleet
from climb_opt import MixtureSpace
from climb_opt.attributes import SPACE as SPACE_KEY
from climb_opt.errors import UserError
from climb_opt.plan import Plan
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.storages import (
    explained,
    is_outage,
    let_go,
    never,
    open_storage,
    patient,
    study_lock,
)
from climb_opt.storages.locks import TicketLock
from climb_opt.study import open_study
from servers import MariaDB, Postgres, closed_engines, mysql, pgbouncer, postgres  # noqa: F401

pytestmark = pytest.mark.postgres
optuna.logging.set_verbosity(optuna.logging.ERROR)


def alike() -> list[str]:
    return ["C", "c", "resume", "résumé", "a", "a ", "ß", "ss"]


# --- MariaDB -----------------------------------------------------------------------------------


@pytest.mark.parametrize("made_by_optuna", [False, True])
def test_mysql_holds_attributes_of_any_length_and_names_that_are_alike(
    mysql: MariaDB,  # noqa: F811
    made_by_optuna: bool,
) -> None:
    url = mysql.fresh()
    if made_by_optuna:  # with its own columns, before climb_opt came
        RDBStorage(url).engine.dispose()
    storage = open_storage(url)
    space = MixtureSpace({name: 1.0 for name in alike()})
    long = {f"component-{i:05d}": float(i) for i in range(6_000)}
    assert len(json.dumps(long)) > 100_000
    for name in ("Runs", "runs", "runs "):
        study = optuna.create_study(study_name=name, storage=storage)
        study.set_user_attr(SPACE_KEY, {"of": name, **long})
        study.add_trial(
            create_trial(
                value=1.0,
                params=space.params(space.prior),
                distributions=space.distributions(),
                user_attrs={"components": long, "Components": 1},
            )
        )
    again = open_storage(url)
    for name in ("Runs", "runs", "runs "):
        study = optuna.load_study(study_name=name, storage=again)
        assert study.user_attrs[SPACE_KEY] == {"of": name, **long}
        (trial,) = study.trials
        assert trial.params == space.params(space.prior)
        assert trial.user_attrs == {"components": long, "Components": 1}


def test_mysql_without_the_right_to_alter_refuses_what_is_too_long_before_any_training(
    mysql: MariaDB,  # noqa: F811
    tiny_corpus: Corpus,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = mysql.fresh()
    database = url.partition("localhost/")[2].partition("?")[0]
    RDBStorage(url).engine.dispose()
    mysql.sql(
        "CREATE OR REPLACE USER guest@localhost",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO guest@localhost",
    )
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(model=ModelRecipe(), tokens=4096),
        evaluators=(Choice("heldout"),),
        score={f"a-component-with-a-long-name-{i:05d}": 1.0 for i in range(2_000)},
    )
    storage, _ = (open_storage(mysql.url(database, "guest")) for _ in range(2))
    assert caplog.text.count("GRANT ALTER") == 1, "it is said once"
    with pytest.raises(UserError, match=r"86,000 characters.*65,535 bytes.*PostgreSQL"):
        open_study(recipe, storage=storage, study_name="wide")
    assert optuna.get_all_study_names(storage) == []


@pytest.mark.parametrize(
    ("number", "passes"),
    [
        (1020, True),
        (1205, True),
        (1213, True),
        (2006, True),
        (2013, True),
        (1044, False),
        (1045, False),
        (1049, False),
        (1142, False),
        (1146, False),
    ],
)
def test_errors_of_mysql_that_pass_are_waited_for_and_others_are_not(
    number: int, passes: bool
) -> None:
    error = exc.OperationalError("UPDATE", {}, pymysql.err.OperationalError(number, "..."))
    assert is_outage(error) == passes


def test_workers_on_mysql_whose_records_change_under_them_finish_every_slot(
    mysql: MariaDB,  # noqa: F811
) -> None:
    try:  # error 1020 instead of a silent second read, where the server knows it
        mysql.sql("SET GLOBAL innodb_snapshot_isolation = ON")
    except pymysql.err.OperationalError:
        pytest.skip("this MariaDB has no innodb_snapshot_isolation")
    finish_with_workers(mysql.fresh())


# --- PgBouncer ---------------------------------------------------------------------------------


def test_behind_pgbouncer_the_lock_is_tickets_and_workers_finish_every_slot(
    postgres: Postgres,  # noqa: F811
) -> None:
    # Two sessions for each that opens at once: Optuna holds one while it takes another.
    with pgbouncer(postgres, default_pool_size=8, query_wait_timeout=30) as url:
        study = optuna.create_study(study_name="s", storage=open_storage(url))
        assert isinstance(study_lock(study), TicketLock)
        finish_with_workers(url)


def test_a_session_of_ones_own_is_not_taken_for_a_pooled_one(
    postgres: Postgres,  # noqa: F811
) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(postgres.fresh()))
    assert not isinstance(study_lock(study), TicketLock)


def finish_with_workers(url: str) -> None:
    plan = Plan((6, 3), named=("baseline/prior",))
    study = fleet.create(url, "fleet")
    jobs = [fleet.Job(url, "fleet", plan, seed=3) for _ in range(3)]
    jobs[0] = fleet.Job(url, "fleet", plan, seed=3, dies="objective", after=1)
    codes = fleet.finish(fleet.start(jobs), 120)
    assert codes[1:] == [0, 0]
    assert fleet.audit(study, plan).sound


def test_a_name_longer_than_a_column_is_told(postgres: Postgres) -> None:  # noqa: F811
    storage = open_storage(postgres.fresh())
    with pytest.raises(UserError, match="at most 512 characters"), explained(storage):
        optuna.create_study(study_name="x" * 600, storage=storage)


# --- Few sessions ------------------------------------------------------------------------------


class Server:
    """One with a place for every session but those whose numbers are in `full`."""

    def __init__(self) -> None:
        self.full: set[int] = set()
        self.number = itertools.count()
        self.sessions: list[Any] = []

    def admit(self, *_: Any) -> None:
        if next(self.number) in self.full:
            raise psycopg.OperationalError("FATAL:  sorry, too many clients already")

    def open_sessions(self) -> int:
        return sum(not session.closed for session in self.sessions)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()

    def connected(session: Any, record: Any) -> None:
        server.sessions.append(session)

    event.listen(Engine, "do_connect", server.admit)
    event.listen(Pool, "connect", connected)
    yield server
    event.remove(Engine, "do_connect", server.admit)
    event.remove(Pool, "connect", connected)


@pytest.mark.parametrize("number", range(3))
def test_an_opening_for_which_there_is_no_session_waits_and_keeps_none(
    number: int,
    postgres: Postgres,  # noqa: F811
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[int] = []

    def rest(*_: Any) -> None:
        kept.append(server.open_sessions())

    monkeypatch.setattr("climb_opt.storages.outages.rest", rest)
    server.full = {number}
    open_storage(postgres.fresh(), stop=never)
    assert kept == [0]


def test_who_gets_no_session_for_a_lock_keeps_none(
    postgres: Postgres,  # noqa: F811
    server: Server,
) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(postgres.fresh()))
    assert server.open_sessions() > 0
    server.full = {next(server.number) + 1}
    with pytest.raises(exc.OperationalError, match="too many clients"), study_lock(study):
        raise AssertionError("it has the lock")
    assert server.open_sessions() == 0


def test_no_session_stays_open_while_a_corpus_is_built(
    postgres: Postgres,  # noqa: F811
    server: Server,
    tiny_corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[int] = []

    def build(recipe: StudyRecipe) -> Corpus:
        kept.append(server.open_sessions())
        return tiny_corpus

    monkeypatch.setattr("climb_opt.study.opening.corpus_for", build)
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(model=ModelRecipe(), tokens=4096),
        evaluators=(Choice("heldout"),),
        score={"web/bpb": 1.0},
    )
    open_study(recipe, storage=postgres.fresh(), study_name="s")
    assert kept == [0]


def test_a_server_that_takes_no_writes_for_a_while_is_waited_for_and_left(
    postgres: Postgres,  # noqa: F811
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgres.fresh()
    kept: list[int] = []
    database = url.partition("@/")[2].partition("?")[0]
    study = patient(optuna.create_study(study_name="s", storage=open_storage(url)), never)

    def primary(*_: Any) -> None:
        postgres.sql(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        kept.append(server.open_sessions())

    monkeypatch.setattr("climb_opt.storages.outages.rest", primary)
    postgres.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    let_go(study._storage)
    study.set_user_attr("hours", 7)
    assert study.user_attrs == {"hours": 7}
    assert kept == [0], "it would ask the standby again"
