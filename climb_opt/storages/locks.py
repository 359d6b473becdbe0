"""Who may claim a slot now: one lock a study, on every storage.

The lock is held only while a worker looks for a slot and starts a trial. Two things make it safe
whoever dies: it frees itself when its holder dies, and `release()`, called after the trial was
started, says whether it was lost in between (the server restarted, the holder hung); the trial is
then given back.

    journal, SQLite   flock on a file beside it: the kernel frees it
    PostgreSQL        an advisory lock of a session of its own: the server frees it
    MySQL             GET_LOCK, likewise
    anything else     tickets in a study of their own: by Optuna's gRPC proxy, behind PgBouncer
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from climb_opt.errors import UserError
from climb_opt.files import short_key, take_flock
from climb_opt.storages.outages import impatient, persist
from climb_opt.storages.salvage import in_use

# Seconds after which a holder that hangs loses the lock. A claim takes well under a second, with a
# predictor to fit a few.
HUNG = 120
TICKETS = "climb-lock/"  # begins the name of the study that holds tickets


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
        return FileLock(backend._file_path, study.study_name)
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
    """`flock` on a file beside a journal; one machine (NFS passes it on only where it is set up
    to)."""

    def __init__(self, journal: str, study: str) -> None:
        self._journal = journal
        self._file = Path(f"{journal}.{short_key(study):016x}.flock")
        self._descriptor = -1

    def __enter__(self) -> FileLock:
        with in_use(self._journal):
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


class TicketLock(StudyLock):
    """A lock out of nothing but an Optuna storage: tickets, as at a bakery.

    Who wants the lock takes a ticket: a RUNNING trial in a study kept for it. Numbers are given
    once and in order, and nobody sees a number before all smaller ones, on every Optuna storage; so
    whoever has the smallest live ticket holds the lock. Leaving finishes the ticket. The head of
    the queue that shows no change for `hung` seconds of a waiter's own clock is taken for dead and
    its ticket is finished by the waiter; it notices by `release()`. Waiting costs one small read
    per poll. (L. Lamport, A new solution of Dijkstra's concurrent programming problem, 1974.)
    """

    def __init__(self, storage: BaseStorage, study: str, *, hung: float, poll: float = 0.5) -> None:
        self._storage = storage
        self._name = f"{TICKETS}{study}"
        self._hung = hung
        self._poll = poll
        self._ticket = -1

    def __enter__(self) -> TicketLock:
        self._draw()
        try:
            self._wait()
        except BaseException:
            self._finish(self._ticket)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        persist(lambda: self._finish(self._ticket))

    def release(self) -> bool:
        """Whether nobody took this holder for dead; its ticket is finished as the lock is left."""
        return persist(lambda: self._storage.get_trial(self._ticket)).state == TrialState.RUNNING

    def _draw(self) -> None:
        ticket = create_trial(state=TrialState.RUNNING)
        self._ticket = self._storage.create_new_trial(self._queue, template_trial=ticket)

    def _wait(self) -> None:
        pause, head, since = 0.02, -1, time.monotonic()
        while True:
            live = self._live()
            if self._ticket not in live:  # taken for dead while this process slept
                self._draw()
                continue
            if live[0] == self._ticket:
                return
            if live[0] != head:
                head, since = live[0], time.monotonic()
            elif time.monotonic() - since > self._hung:
                self._finish(head)
            time.sleep(pause)
            pause = min(2 * pause, self._poll)

    def _live(self) -> list[int]:
        trials = self._storage.get_all_trials(
            self._queue, deepcopy=False, states=(TrialState.RUNNING,)
        )
        return [t._trial_id for t in sorted(trials, key=lambda t: t.number)]

    def _finish(self, ticket: int) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):  # somebody else did
            self._storage.set_trial_state_values(ticket, state=TrialState.FAIL)

    @functools.cached_property
    def _queue(self) -> int:
        """The number of the study with the tickets."""
        try:
            return self._storage.create_new_study([StudyDirection.MINIMIZE], self._name)
        except DuplicatedStudyError:
            return self._storage.get_study_id_from_name(self._name)
