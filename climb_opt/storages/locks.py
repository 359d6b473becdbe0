"""Who may claim a slot now: one lock a study, on every storage.

The lock is held only while a worker looks for a slot and starts a trial. Two things make it safe
whoever dies: it frees itself when its holder dies, and `release()`, called after the trial was
started, says whether it was lost in between (the server restarted, the holder hung); the trial is
then given back.

    journal, SQLite   flock on a file beside it: the kernel frees it
    PostgreSQL        an advisory lock of a session of its own: the server frees it
    MySQL             GET_LOCK, likewise
    anything else     tickets in a study of their own (Lamport's bakery): by gRPC, behind PgBouncer
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

import optuna
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage

from climb_opt.errors import UserError
from climb_opt.files import short_key, take_flock
from climb_opt.storages.outages import impatient
from climb_opt.storages.tickets import TicketLock

# Seconds after which a holder that hangs loses the lock. A claim takes well under a second, with a
# predictor to fit a few.
HUNG = 120


class StudyLock(Protocol):
    """Entered around a claim; `release` says whether the claim counts."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...

    def release(self) -> bool:
        """Let go as soon as can be; whether it was ours, without a break, until then. Leaving comes
        after it."""


def study_lock(study: optuna.Study) -> StudyLock:
    """The lock of a study, by the kind of its storage."""
    storage: Any = impatient(study)._storage  # whoever takes a lock waits by itself
    backend = getattr(storage, "_backend", storage)
    if isinstance(storage, InMemoryStorage):
        return ThreadLock(f"{id(storage)}/{study.study_name}")
    if isinstance(storage, JournalStorage) and hasattr(backend, "_file_path"):
        return FileLock(Path(f"{backend._file_path}.{short_key(study.study_name):016x}.flock"))
    if isinstance(backend, RDBStorage):
        return _database_lock(backend, study.study_name)
    return TicketLock(storage, study.study_name, hung=HUNG)


def _database_lock(backend: RDBStorage, name: str) -> StudyLock:
    from climb_opt.storages.sessions import SESSIONS  # SQLAlchemy loads only where it is used

    url, dialect = backend.engine.url, backend.engine.dialect.name
    if getattr(backend, "pooled", False):
        return TicketLock(backend, name, hung=HUNG)
    if dialect != "sqlite":
        return SESSIONS[dialect](backend, name, hung=HUNG)
    if url.database in (None, "", ":memory:"):
        return ThreadLock(f"{id(backend)}/{name}")
    return SoleUse(Path(url.database))


class ThreadLock(StudyLock):
    """For a storage that lives in this process only."""

    _locks: ClassVar[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)

    def __init__(self, name: str) -> None:
        self._lock = self._locks[name]

    def __enter__(self) -> ThreadLock:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def release(self) -> bool:
        return True


class FileLock(StudyLock):
    """`flock` on a file; one machine (NFS passes it on only where it is set up to)."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = -1

    def __enter__(self) -> FileLock:
        self._descriptor = take_flock(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def release(self) -> bool:
        # Someone who deletes the file lets others lock a new one of the same name.
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._file))
        except FileNotFoundError:
            return False


class SoleUse(StudyLock):
    """SQLite: the first worker keeps it for its lifetime, any other is refused.

    In several processes SQLite gives the same waiting trial to more than one
    (docs/notes/running.md#optuna).
    """

    _kept: ClassVar[dict[Path, int]] = {}  # until this process ends

    def __init__(self, database: Path) -> None:
        self._database = database.resolve()

    def __enter__(self) -> SoleUse:
        if self._database not in self._kept:
            try:
                self._kept[self._database] = take_flock(
                    Path(f"{self._database}.worker"), wait=False
                )
            except BlockingIOError:
                raise UserError(
                    f"SQLite storage {str(self._database)!r} serves one worker, and one runs. For "
                    "several on this machine use a journal (--storage runs/climb.journal), on "
                    "several machines PostgreSQL."
                ) from None
        return self

    def __exit__(self, *_: object) -> None:
        """Kept."""

    def release(self) -> bool:
        return True
