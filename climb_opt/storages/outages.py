"""A storage that is away comes back: wait for it, say so, and go on.

A database restart, a full disk under a journal or a proxy that is being moved must not cost a trial
that ran for hours. Inside a worker every storage call is repeated until it is answered.
"""

from __future__ import annotations

import copy
import errno
import functools
import logging
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from climb_opt.errors import Interrupted, UserError
from climb_opt.storages.database import StorageAway, explain, first_line
from climb_opt.storages.opening import describe, location

T = TypeVar("T")
log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0  # seconds between two attempts
# A full or failing disk under a journal, and a network file system that moved.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE}
# MySQL: no rights (1044, 1045, 1142, 1143, 1227), no database (1049), other tables (1054, 1146),
# too long (1153, 1406). Its other numbers pass: a record changed since it was read (1020), a lock
# waited for in vain (1205), a deadlock (1213), a connection lost (2006, 2013).
LASTING = {1044, 1045, 1049, 1054, 1142, 1143, 1146, 1153, 1227, 1406}
LASTING_WORDS = ("readonly database", "no such table", "no such column")  # SQLite
PROXY = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"}
# The proxy reports an outage of the database behind it as UNKNOWN, with the error's text.
BEHIND_PROXY = ("OperationalError", "InterfaceError", "raised during the commit", "QueuePool")


def is_outage(error: BaseException) -> bool:
    """Whether the same call may succeed later: no connection, no space, a server in between."""
    from sqlalchemy import exc

    gone = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, exc.PendingRollbackError)
    for cause in _chain(error):
        if isinstance(cause, StorageAway):
            return True
        if _is_lasting(cause):
            return False
        if isinstance(cause, gone) or getattr(cause, "connection_invalidated", False):
            return True
        if isinstance(cause, OSError) and cause.errno in DISK:
            return True
        if _is_proxy_outage(cause):
            return True
    return False


def persist(call: Callable[[], T], stop: Callable[[], bool] = lambda: False) -> T:
    """Call until the storage answers.

    Raises:
        Interrupted: `stop` became true while the storage was away.
    """
    pause, began = 0.25, None
    while True:
        try:
            answer = call()
        except Exception as error:
            if not is_outage(error):
                raise
            if began is None:
                began = time.monotonic()
                said = first_line(error).rstrip(".")
                log.warning("The storage does not answer (%s); waiting.", said)
            if stop():
                raise Interrupted("asked to stop while the storage was away") from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if began is not None:
                log.warning("The storage answers again after %.0f s.", time.monotonic() - began)
            return answer


@contextmanager
def explained(storage: BaseStorage | str | Path | None) -> Iterator[None]:
    """Turn what a storage or its driver raises inside into a `UserError` of one line."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (UserError, Interrupted):  # asked to stop while the storage was away is no error
        raise
    except Exception as error:
        ours = isinstance(error, (StorageInternalError, SQLAlchemyError, PermissionError))
        if not ours and not is_outage(error):
            raise
        if isinstance(storage, BaseStorage):
            where = describe(storage)
        else:
            where = location(None if storage is None else str(storage))
        raise UserError(explain(error, where)) from error


def patient(study: optuna.Study, stop: Callable[[], bool] = lambda: False) -> optuna.Study:
    """The same study, its storage calls repeated until they are answered.

    Trials made from it are patient too: a result that took hours is stored when the database is
    back, whoever stores it (the sampler, the objective, the pruner).
    """
    view = impatient(study)
    view._storage = _Patient(view._storage, stop)  # type: ignore[assignment]
    return view


def impatient(study: optuna.Study) -> optuna.Study:
    """The same study, with its own storage again: one attempt a call."""
    view = copy.copy(study)
    if isinstance(study._storage, _Patient):
        view._storage = study._storage.storage
    return view


@contextmanager
def reading_once(study: optuna.Study, trials: list[FrozenTrial]) -> Iterator[list[FrozenTrial]]:
    """Whoever reads the study's trials inside (the plan, the sampler) gets these, at no cost."""
    storage = study._storage
    if not isinstance(storage, _Patient):
        yield trials
        return
    storage.snapshot = trials
    try:
        yield trials
    finally:
        storage.snapshot = None


class _Patient:
    def __init__(self, storage: Any, stop: Callable[[], bool]) -> None:
        self.storage = storage
        self.snapshot: list[FrozenTrial] | None = None
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.storage, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def call(*args: Any, **kwargs: Any) -> Any:
            return persist(lambda: attribute(*args, **kwargs), self._stop)

        return call

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self.snapshot is None:
            trials: list[FrozenTrial] = persist(
                lambda: self.storage.get_all_trials(study_id, deepcopy, states), self._stop
            )
            return trials
        trials = [t for t in self.snapshot if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_lasting(error: BaseException) -> bool:
    """What drivers call operational, too, though no waiting mends it."""
    from sqlalchemy.exc import DBAPIError

    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    number = next(iter(error.orig.args), None)
    return number in LASTING or any(word in str(error.orig).lower() for word in LASTING_WORDS)


def _is_proxy_outage(error: BaseException) -> bool:
    code = getattr(error, "code", None)
    if type(error).__module__.partition(".")[0] != "grpc" or not callable(code):
        return False
    name, details = code().name, str(getattr(error, "details", lambda: "")())
    return name in PROXY or (name == "UNKNOWN" and any(word in details for word in BEHIND_PROXY))
