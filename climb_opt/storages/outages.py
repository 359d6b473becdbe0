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
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import optuna

from climb_opt.errors import Interrupted
from climb_opt.storages.database import first_line

T = TypeVar("T")
log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0  # seconds between two attempts
# A full or failing disk under a journal, and a network file system that moved.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE}
PROXY = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"}
# The proxy reports an outage of the database behind it as UNKNOWN, with the error's text.
BEHIND_PROXY = ("OperationalError", "InterfaceError", "raised during the commit", "QueuePool")


def is_outage(error: BaseException) -> bool:
    """Whether the same call may succeed later: no connection, no space, a server in between."""
    from sqlalchemy import exc

    gone = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, exc.PendingRollbackError)
    for cause in _chain(error):
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
                log.warning("The storage does not answer (%s); waiting.", first_line(error))
            if stop():
                raise Interrupted("asked to stop while the storage was away") from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if began is not None:
                log.warning("The storage answers again after %.0f s.", time.monotonic() - began)
            return answer


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


class _Patient:
    def __init__(self, storage: Any, stop: Callable[[], bool]) -> None:
        self.storage = storage
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.storage, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def call(*args: Any, **kwargs: Any) -> Any:
            return persist(lambda: attribute(*args, **kwargs), self._stop)

        return call


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_proxy_outage(error: BaseException) -> bool:
    code = getattr(error, "code", None)
    if type(error).__module__.partition(".")[0] != "grpc" or not callable(code):
        return False
    name, details = code().name, str(getattr(error, "details", lambda: "")())
    return name in PROXY or (name == "UNKNOWN" and any(word in details for word in BEHIND_PROXY))
