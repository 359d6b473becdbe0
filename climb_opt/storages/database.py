"""PostgreSQL, MySQL and SQLite through Optuna's `RDBStorage`, with errors a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage

from climb_opt import errors
from climb_opt.errors import UserError
from climb_opt.files import is_full, no_space
from climb_opt.storages.bulk import Database
from climb_opt.storages.mysql import fit_tables
from climb_opt.text import redact

if TYPE_CHECKING:
    from sqlalchemy import URL

# What is said where a host's name has no address.
NO_HOST = ("resolve host", "name or service not known", "translate host name", "name resolution")
# What the driver says -> what to do. The first pattern found in the message counts.
REMEDIES = (
    ("password authentication failed", "Check the user and the password in the URL."),
    ("access denied for user", "Check the user, the password and the rights on the database."),
    ("no password supplied", "Give the password in the URL or in PGPASSWORD."),
    ("no pg_hba.conf entry", "Let the server accept this host and user (pg_hba.conf)."),
    ("permission denied for schema", "Ask its owner: GRANT CREATE ON SCHEMA public TO the user."),
    ("permission denied", "Ask the owner of the tables to grant this user rights on them."),
    ("command denied", "Ask for rights on this database: GRANT ALL ON database.* TO the user."),
    ("read-only", "This server or session takes no writes; give the primary server."),
    ("unknown database", "Create it first: CREATE DATABASE ..."),
    *(
        (said, "Another worker is making its tables.")
        for said in ("duplicate key", "already exists")
    ),
    ("does not exist", "Create the database and the user first, or correct the URL."),
    *((said, "Check the host's name in the URL.") for said in NO_HOST),
    ("connection refused", "Check the host and the port, and that the server runs."),
    ("can't connect", "Check the host and the port, and that the server runs."),
    ("no such file or directory", "Check that the server runs and where its socket lies."),
    (
        "query_wait_timeout",
        "PgBouncer had no session left: raise its default_pool_size "
        "(two for each worker that starts at once).",
    ),
    ("timeout", "Check the host and the port, and the firewall between here and there."),
    ("timed out", "Check the host and the port, and the firewall between here and there."),
    ("malformed", "The file is damaged: restore a copy, or save what `sqlite3 FILE .recover` can."),
    ("too many clients", "Raise max_connections, or put Optuna's gRPC proxy in front of it."),
    ("connection slots", "Raise max_connections, or put Optuna's gRPC proxy in front of it."),
    ("too many connections", "Raise max_connections, or put Optuna's gRPC proxy in front of it."),
    ("unable to open database file", "Check the path and the rights of its folder."),
    ("not a database", "That file is no SQLite database; give another path."),
)
# What is said of a server that is down, starts or stops, or has no place left, and of workers that
# race to create or change the same tables; a wrong name or password is not.
AWAY = (
    "starting up",
    "shutting down",
    "shutdown",
    "not yet accepting",
    "recovery mode",
    "connection refused",
    "can't connect",
    "no such file or directory",
    "timeout",  # of PgBouncer too: openers that hold one session each and want a second
    "timed out",
    "too many",
    "max_user_connections",
    "connection slots",
    "no more connections",
    "connect failed",
    "terminating connection",
    "closed the connection",
    "closed unexpectedly",
    "gone away",
    "lost connection",
    "broken pipe",
    "reset by peer",
    "unreachable",
    "no route to host",
    "host is down",
    "deadlock",
    "could not serialize",
    "record has changed",
    "database is locked",
)
# Some of it is said of what no waiting mends, too: a host without an address, a missing file.
NEVER = (*NO_HOST, "no address", "getaddrinfo", "nodename nor servname", "certificate")
SQLITE_FULL = "disk is full"
TOO_LONG = ("data too long", "value too long", "max_allowed_packet")


class StorageAway(UserError):
    """No answer, for a reason that may pass: the server is down, starting, or full of others."""


def open_database(url: str, *, write: bool = True) -> BaseStorage:
    """The storage of a database URL; its tables are created when they are missing.

    Raises:
        StorageAway: no connection; the same call may succeed later.
        UserError: a malformed URL, a missing driver, no rights, another schema.
    """
    address = _parse(url)
    _check_name(address, url)
    # Optuna fills `{SCHEMA_VERSION}` into the URL, so a brace in a password must be doubled.
    text = address.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    _check_socket(address, url)
    try:
        pooled = is_pooled(address)
        database = Database(text, _engine_options(address, pooled))
        database.pooled = pooled
        if write and database.engine.dialect.name in ("mysql", "mariadb"):
            fit_tables(database.engine)
        return optuna.storages.get_storage(database)
    except Exception as error:
        kind = StorageAway if _is_away(error) else UserError
        raise kind(explain(error, url)) from None


def explain(error: BaseException, url: str) -> str:
    """One line: which storage, what its driver said, what to do next."""
    where = redact(url)
    if isinstance(error, ImportError):
        return f"Storage {where}: {_no_driver(url.partition('://')[0])}"
    said = first_line(error)
    if is_full(error) or SQLITE_FULL in said:
        return f"Storage {where}: {no_space(url.rpartition(':///')[2])}"
    if "optuna storage upgrade" in said:
        return (
            f"Storage {where}: its tables were made by an older Optuna. Back it up, then run "
            "`optuna storage upgrade --storage URL` once, with this version."
        )
    if any(pattern in said.lower() for pattern in TOO_LONG):
        return f"Storage {where}: {_too_long(error, said)}"
    if "column" in said or isinstance(error, RuntimeError):
        return (
            f"Storage {where}: its tables are not this Optuna's ({said.rstrip('.')}). Give "
            "climb_opt a database of its own, or update Optuna if they are a newer one's."
        )
    remedy = next((r for pattern, r in REMEDIES if pattern in said.lower()), "Check the URL.")
    return f"Storage {where}: {redact(said).rstrip('.')}. {remedy}"


def first_line(error: BaseException) -> str:
    """What the driver itself said, in one line."""
    cause = error
    while isinstance(inner := getattr(cause, "orig", None) or cause.__cause__, BaseException):
        cause = inner
    said: object = cause
    if type(cause).__module__.partition(".")[0] == "grpc" and hasattr(cause, "details"):
        said = cause.details()  # as text such an error begins with a line that says nothing
    return redact(errors.first_line(said).strip())


def _no_driver(scheme: str) -> str:
    backend, _, driver = scheme.partition("+")
    ours, extra = "pymysql", "pip install pymysql"
    if backend.startswith("postgres"):
        ours, extra = "psycopg", "pip install 'climb-opt[postgres]'"
    if driver in ("", ours):
        return f"its driver is not installed; run {extra}."
    instead = f"write {backend}:// and run {extra}"
    return f"its driver {driver!r} is not installed; install it, or {instead}."


def _too_long(error: BaseException, said: str) -> str:
    sizes = [len(v) for v in _parameters(error) if isinstance(v, (str, bytes))]
    size = f" ({max(sizes):,} characters)" if sizes else ""
    return (
        f"it cannot hold something this long{size}: {said.rstrip('.')}. Names have at most 512 "
        "characters everywhere; attributes 65,535 bytes in MySQL, unless climb_opt may ALTER its "
        "tables there, and a statement max_allowed_packet. Use shorter or fewer names, or "
        "PostgreSQL."
    )


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _parameters(error: BaseException) -> list[Any]:
    """What the statement that failed was to store."""
    given = next((p for e in causes_of(error) if (p := getattr(e, "params", None)) is not None), ())
    rows = given if isinstance(given, (list, tuple)) else [given]
    return [value for row in rows for value in (row.values() if isinstance(row, dict) else [row])]


def _is_away(error: BaseException) -> bool:
    """Whether the server may answer later, or let workers create its tables one after another."""
    from sqlalchemy import exc

    causes = list(causes_of(error))  # Optuna's own error of a commit says nothing itself
    said = " ".join(map(str, causes)).lower()
    race = "already exists" in said
    gone = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
    for cause in causes:
        if isinstance(cause, exc.IntegrityError) or (race and isinstance(cause, exc.DBAPIError)):
            return True
        if isinstance(cause, gone):
            return any(word in said for word in AWAY) and not any(word in said for word in NEVER)
    return False


def _check_name(address: URL, url: str) -> None:
    """What the URL must name for results to be kept, and for Optuna to find its tables."""
    kind, name = address.get_backend_name(), address.database
    if kind == "sqlite" and (name in (None, "", ":memory:") or "memory" in address.query.values()):
        raise UserError(
            f"Storage {redact(url)}: names no file, so all results would be lost when the command "
            "ends. Give sqlite:///file.db or the path of a journal file."
        )
    if kind == "mysql" and not name:
        raise UserError(
            f"Storage {redact(url)}: names no database; give mysql://user@host/database."
        )


def _check_socket(address: URL, url: str) -> None:
    """A server makes its socket when it starts, but not the folder."""
    given = address.query.get("unix_socket", address.query.get("host", ""))
    socket = Path(given if isinstance(given, str) else given[0])
    folder = socket.parent if "unix_socket" in address.query else socket
    if socket.is_absolute() and not folder.is_dir():
        raise UserError(
            f"Storage {redact(url)}: no folder {str(folder)!r}, where the server's socket "
            "is to lie. Check the URL."
        )


def _parse(url: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(
            f"Storage {redact(url)!r} is not a URL; give postgresql://user@host/database, "
            "mysql://..., grpc://host:port, sqlite:///file.db or the path of a journal file."
        ) from None
    if address.drivername in ("postgres", "postgresql"):
        return address.set(drivername="postgresql+psycopg")
    if address.drivername in ("mysql", "mariadb"):
        return address.set(drivername="mysql+pymysql")
    if address.get_backend_name() not in ("postgresql", "mysql", "sqlite"):
        raise UserError(
            f"Storage {redact(url)!r}: {address.drivername!r} is not supported; use postgresql, "
            "mysql, grpc, sqlite or the path of a journal file."
        )
    return address


def is_pooled(address: URL) -> bool:
    """Whether a pooler such as PgBouncer hands out the sessions of this PostgreSQL.

    It gives each client a number of its own, not that of the process that serves it.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    if address.get_backend_name() != "postgresql":
        return False
    given = _engine_options(address, pooled=True)["connect_args"]
    engine = create_engine(address, poolclass=NullPool, connect_args=given)
    with engine.connect() as connection:
        serving = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        driver: Any = connection.connection.driver_connection
        return bool(getattr(getattr(driver, "info", None), "backend_pid", serving) != serving)


def _engine_options(address: URL, pooled: bool) -> dict[str, Any]:
    """A silent network must not hang a worker: time limits, and a look before each use."""
    if address.get_backend_name() == "sqlite":
        return {}
    limits: dict[str, Any] = {}
    if address.get_driver_name() in ("psycopg", "psycopg2"):
        limits = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10}
    elif address.get_driver_name() == "pymysql":
        limits = {"connect_timeout": 10}
    if pooled and address.get_driver_name() == "psycopg":
        limits["prepare_threshold"] = None  # what one session prepared, the next has not
    given = {name: value for name, value in limits.items() if name not in address.query}
    return {"pool_pre_ping": True, "pool_size": 2, "connect_args": given}
