"""A study's lock as a lock of a database session: it ends with the session, whoever ends that."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from climb_opt.files import short_key
from climb_opt.storages.opening import let_go

log = logging.getLogger(__name__)


class SessionLock(ABC):
    """Held by a connection opened for it alone and closed after it.

    A holder that hangs is cut off by the server after `hung` idle seconds; it has lost the lock.
    """

    limit: str  # makes the server end an idle session
    take: str  # true when taken
    drop: str  # gives it up; true if this very session held it

    def __init__(self, backend: RDBStorage, study: str, *, hung: int) -> None:
        url = backend.engine.url
        given = backend.engine_kwargs.get("connect_args", {})
        self._engine = create_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=given
        )
        self._backend = backend
        self._values = self.values(short_key(f"{url.database}/{study}"), hung)
        self._connection: Connection | None = None

    @abstractmethod
    def values(self, key: int, hung: int) -> dict[str, Any]:
        """What the statements take."""

    def __enter__(self) -> SessionLock:
        try:
            self._connection = self._engine.connect()
        except SQLAlchemyError:
            let_go(self._backend)  # where every worker keeps one, none would be left for a lock
            raise
        try:
            self._limit()
            while not self._ask(self.take):
                log.debug("The study's lock is busy.")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def release(self) -> bool:
        """Give the lock up, and say whether this session had it until now: one statement, so that
        the next worker waits neither for a second one nor for the connection to close.

        Always false behind a pooler that shares sessions between transactions.
        """
        try:
            return bool(self._ask(self.drop))
        except SQLAlchemyError:
            return False

    def _limit(self) -> None:
        try:
            self._ask(self.limit)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            log.debug("This server cannot end idle sessions: %s", error)

    def _ask(self, statement: str) -> Any:
        assert self._connection is not None
        wanted = {name: v for name, v in self._values.items() if f":{name}" in statement}
        answer = self._connection.execute(text(statement), wanted)
        return answer.scalar() if answer.returns_rows else None

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # no farewell to a server that may be gone
            connection.close()


class PostgresLock(SessionLock):
    """`pg_advisory_lock`: waits in the server, first come first served."""

    limit = (
        "SELECT set_config('tcp_keepalives_idle', '30', false),"
        " set_config('idle_session_timeout', :hung, false)"
    )
    take = "SELECT true FROM (SELECT pg_advisory_lock(:key)) AS taken"
    drop = "SELECT pg_advisory_unlock(:key)"

    def values(self, key: int, hung: int) -> dict[str, Any]:
        """Milliseconds, as text; a bigint."""
        return {"hung": str(1000 * hung), "key": key}


class MySQLLock(SessionLock):
    """`GET_LOCK`: of the whole server, hence the database's name in the key."""

    limit = "SET SESSION wait_timeout = :hung"
    take = "SELECT GET_LOCK(:key, 5)"
    drop = "SELECT RELEASE_LOCK(:key)"

    def values(self, key: int, hung: int) -> dict[str, Any]:
        """A name of at most 64 characters."""
        return {"hung": hung, "key": f"climb_opt/{key:016x}"}


SESSIONS: dict[str, type[SessionLock]] = {
    "postgresql": PostgresLock,
    "mysql": MySQLLock,
    "mariadb": MySQLLock,
}
