"""A URL, a path or nothing -> a storage."""

from __future__ import annotations

import os
import socket
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy, InMemoryStorage

from climb_opt.commands import command
from climb_opt.errors import UserError
from climb_opt.storages.database import StorageAway, open_database
from climb_opt.storages.journal import open_journal
from climb_opt.text import redact

DEFAULT = "runs/climb.journal"
VARIABLE = "OPTUNA_STORAGE"  # Optuna's own command line reads it too
GRPC_WAIT = 10.0  # seconds for the proxy to answer


def location(given: str | None = None) -> str:
    """Where studies are: what was given, else OPTUNA_STORAGE, else the journal in `runs`."""
    return given or os.environ.get(VARIABLE) or DEFAULT


def open_once(where: str | Path | None = None, *, write: bool = True) -> BaseStorage:
    """One attempt at what `open_storage` opens.

    Raises:
        StorageAway: it does not answer now.
        UserError: it cannot be reached or used; the message says why and what to do.
    """
    text = location(None if where is None else str(where))
    if text.startswith("grpc://"):
        return _open_grpc(text)
    if "://" in text:
        return open_database(text, write=write)
    return open_journal(text, write=write)


def let_go(storage: BaseStorage) -> None:
    """Give back the database's sessions that are not in use; it makes others when it needs them.

    Without it they last as long as Python has not collected the storage: a server whose places are
    all taken by those who wait for one would never have one again.
    """
    engine = getattr(getattr(storage, "_backend", storage), "engine", None)
    if engine is not None:
        engine.dispose()


def describe(storage: BaseStorage) -> str:
    """A name for messages: the URL without its password, or the path."""
    backend = getattr(storage, "_backend", storage)
    engine = getattr(backend, "engine", None)
    if engine is not None:
        return str(engine.url.render_as_string(hide_password=True))
    if isinstance(storage, GrpcStorageProxy):
        return f"grpc://{storage._host}:{storage._port}"
    return str(getattr(backend, "_file_path", storage.__class__.__name__))


def command_on(study: optuna.Study, verb: str, *words: str) -> str:
    """`climb-opt VERB STUDY WORDS`, to be copied; of a study in memory, which no other process
    sees, the function of that name."""
    if isinstance(study._storage, InMemoryStorage):
        return f"climb_opt.{verb}(study{', ...' if words else ''})"
    return command(verb, study.study_name, *words)


def _open_grpc(url: str) -> BaseStorage:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 13000
    except ValueError:
        host, port = None, 0
    if not host:
        raise UserError(f"Storage {redact(url)!r}: give grpc://host:port.")
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError):  # no waiting gives a host its name
        raise UserError(f"Storage {redact(url)}: no host {host!r}. Check its name.") from None
    try:
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            storage = GrpcStorageProxy(host=host, port=port)
        storage.wait_server_ready(timeout=GRPC_WAIT)
    except ImportError:
        raise UserError(f"Storage {redact(url)}: run pip install 'climb-opt[grpc]'.") from None
    except ConnectionError:
        raise StorageAway(
            f"Storage {redact(url)}: no answer in {GRPC_WAIT:.0f} s. Check the host and the port, "
            "and that Optuna's gRPC proxy runs there (optuna.storages.run_grpc_proxy_server)."
        ) from None
    return storage
