"""A storage that is away comes back: wait for it, say so, and go on.

A database restart or a proxy that is being moved must not cost a trial that ran for hours, nor a
command that somebody typed. One rule for all that opens or uses a storage: who works (it gives a
`stop`) waits as long as it takes; who looks or steers waits `PATIENCE` seconds. What no waiting
mends (a wrong password, host, database, a full disk of this machine) is told at once.
"""

from __future__ import annotations

import copy
import functools
import logging
import random
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from climb_opt.errors import Interrupted, UserError
from climb_opt.files import is_full
from climb_opt.storages.database import SQLITE_FULL, StorageAway, causes_of, explain, first_line
from climb_opt.storages.journal import DISK
from climb_opt.storages.opening import describe, location, open_once
from climb_opt.text import duration

T = TypeVar("T")
log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a command waits which looks or steers
LONGEST_PAUSE = 5.0  # seconds between two attempts
REMINDER = 60.0  # seconds between two lines of who waits
# MySQL: no rights (1044, 1045, 1142, 1143, 1227), no database (1049), other tables (1054, 1146),
# too long (1153, 1406). Its other numbers pass: a record changed since it was read (1020), a lock
# waited for in vain (1205), a deadlock (1213), a connection lost (2006, 2013).
LASTING = {1044, 1045, 1049, 1054, 1142, 1143, 1146, 1153, 1227, 1406}
LASTING_WORDS = (SQLITE_FULL, "readonly database", "no such table", "no such column")  # SQLite
PROXY = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"}
# The proxy reports an outage of the database behind it as UNKNOWN, with the error's text.
BEHIND_PROXY = (
    *("OperationalError", "InterfaceError", "raised during the commit", "QueuePool"),
    "read-only transaction",
)


def is_outage(error: BaseException) -> bool:
    """Whether the same call may succeed later: no connection, a server in between."""
    gone = _of_databases(
        "OperationalError", "InterfaceError", "TimeoutError", "PendingRollbackError"
    )
    for cause in causes_of(error):
        if isinstance(cause, StorageAway):
            return True
        if _is_lasting(cause):
            return False
        cut = isinstance(cause, gone) or getattr(cause, "connection_invalidated", False)
        disk = isinstance(cause, OSError) and cause.errno in DISK
        if cut or disk or _is_proxy_outage(cause):
            return True
    return False


def never() -> bool:
    """The `stop` of who waits as long as it takes."""
    return False


def open_storage(
    where: str | Path | BaseStorage | None = None,
    *,
    write: bool = True,
    stop: Callable[[], bool] | None = None,
) -> BaseStorage:
    """The storage at a URL or path (see the package); an Optuna storage passes through.

    One that is away is waited for, now and at every later call.

    Args:
        where: None means `OPTUNA_STORAGE`, else `runs/climb.journal`.
        write: False for commands that only look: a missing journal is then not created, and one
            without the right to write can be read.
        stop: wait as long as it takes, until this says so; None: `PATIENCE` seconds.

    Raises:
        UserError: it cannot be reached or used; the message says why and what to do.
        Interrupted: `stop` said so while it was away.
    """
    if isinstance(where, BaseStorage):
        return where
    found = persist(partial(open_once, where, write=write), stop)
    return _Patient(found, stop)  # type: ignore[return-value]


def persist(call: Callable[[], T], stop: Callable[[], bool] | None = never) -> T:
    """Call until the storage answers, saying what is waited for and for how long.

    Args:
        stop: None: the error after `PATIENCE` seconds is the caller's.

    Raises:
        Interrupted: `stop` became true while the storage was away.
    """
    pause, began, said = 0.25, 0.0, 0.0
    while True:
        try:
            answer = call()
        except Exception as error:
            if not is_outage(error):
                raise
            now = time.monotonic()
            began = began or now
            if stop is None and now - began >= PATIENCE:
                raise
            if not said or now - said >= REMINDER:
                said = now
                log.warning("%s", _waiting(first_line(error), now - began, stop is None))
            if stop is not None and stop():
                raise Interrupted("asked to stop while the storage was away") from error
            # Apart, or those who hold what the other wants would meet again.
            rest(random.uniform(0.5, 1.0) * pause, stop or never)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if began:
                waited = duration(time.monotonic() - began)
                log.warning("The storage answers again after %s.", waited)
            return answer


def rest(seconds: float, stop: Callable[[], bool]) -> None:
    """Sleep, but no longer than until `stop` says so."""
    until = time.monotonic() + seconds
    while not stop() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))


@contextmanager
def explained(storage: BaseStorage | str | Path | None) -> Iterator[None]:
    """Turn what a storage or its driver raises inside into a `UserError` of one line."""
    try:
        yield
    except (UserError, Interrupted):  # asked to stop while the storage was away is no error
        raise
    except Exception as error:
        databases = _of_databases("SQLAlchemyError")
        ours = isinstance(error, (StorageInternalError, PermissionError, *databases))
        if not ours and not is_outage(error) and not is_full(error):
            raise
        if isinstance(storage, BaseStorage):
            where = describe(storage)
        else:
            where = location(None if storage is None else str(storage))
        raise UserError(explain(error, where)) from error


def patient(study: optuna.Study, stop: Callable[[], bool] | None = None) -> optuna.Study:
    """The same study, its storage calls repeated until they are answered.

    Trials made from it are patient too: a result that took hours is stored when the database is
    back, whoever stores it (the sampler, the objective, the pruner).

    Args:
        stop: as of `open_storage`; a study that is patient already stays as it is without it.
    """
    if stop is None and isinstance(study._storage, _Patient):
        return study
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
    """A storage whose calls wait. To `isinstance`, and in all else, it is the storage inside."""

    def __init__(self, storage: Any, stop: Callable[[], bool] | None) -> None:
        self.storage = storage
        self.snapshot: list[FrozenTrial] | None = None
        self._stop = stop

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.storage)

    def __reduce__(self) -> Any:
        return _Patient, (self.storage, None if self._stop is None else never)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.storage, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._ask(partial(attribute, *args, **kwargs))

        return call

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self.snapshot is None:
            return self._ask(partial(self.storage.get_all_trials, study_id, deepcopy, states))
        trials = [t for t in self.snapshot if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Once, also where the storage went away after it had stored the trial."""
        asked = False

        def create() -> int:
            nonlocal asked
            if asked and template_trial is not None and template_trial.user_attrs:
                for trial in self.storage.get_all_trials(study_id, deepcopy=False):
                    if _is_made_from(trial, template_trial):
                        return int(trial._trial_id)
            asked = True
            return int(self.storage.create_new_trial(study_id, template_trial))

        return self._ask(create)

    def _ask(self, call: Callable[[], T]) -> T:
        with explained(self.storage):
            return persist(call, self._stop)


def _is_made_from(trial: FrozenTrial, template: FrozenTrial) -> bool:
    """One in line may have been started, and told more, since; MySQL keeps whole seconds."""
    begun, now = trial.datetime_start, template.datetime_start
    return (
        template.state in (trial.state, TrialState.WAITING)
        and (now is None or (begun is not None and abs((now - begun).total_seconds()) < 1))
        and trial.params == template.params
        and template.user_attrs.items() <= trial.user_attrs.items()
    )


def _waiting(said: str, waited: float, briefly: bool) -> str:
    until = f"up to {PATIENCE:.0f} s" if briefly else "until it does"
    if waited < 1:
        return f"The storage does not answer ({said.rstrip('.')}); waiting {until}."
    return f"The storage has not answered for {duration(waited)} ({said.rstrip('.')}); waiting on."


def _is_lasting(error: BaseException) -> bool:
    """What drivers call operational, too, though no waiting mends it."""
    orig = getattr(error, "orig", None) if isinstance(error, _of_databases("DBAPIError")) else None
    if orig is None:
        return False
    number = next(iter(orig.args), None)
    return number in LASTING or any(word in str(orig).lower() for word in LASTING_WORDS)


def _of_databases(*names: str) -> tuple[type[BaseException], ...]:
    """SQLAlchemy's errors of these names; none where it is not loaded, so that it raised none: a
    journal needs no SQLAlchemy, which takes long to load."""
    loaded = sys.modules.get("sqlalchemy.exc")
    return () if loaded is None else tuple(getattr(loaded, name) for name in names)


def _is_proxy_outage(error: BaseException) -> bool:
    code = getattr(error, "code", None)
    if type(error).__module__.partition(".")[0] != "grpc" or not callable(code):
        return False
    name, details = code().name, str(getattr(error, "details", lambda: "")())
    return name in PROXY or (name == "UNKNOWN" and any(word in details for word in BEHIND_PROXY))
