"""A lock out of nothing but an Optuna storage: tickets, as at a bakery.

Who wants the lock takes a ticket: a RUNNING trial in a study kept for it. Numbers are given once
and in order, and nobody sees a number before all smaller ones, on every Optuna storage; so whoever
has the smallest live ticket holds the lock. Leaving finishes the ticket. The head of the queue that
shows no change for `hung` seconds of a waiter's own clock is taken for dead and its ticket is
finished by the waiter; it notices by `release()`.

It is for storages without a lock of their own: Optuna's gRPC proxy above all. (L. Lamport, A new
solution of Dijkstra's concurrent programming problem, 1974.)
"""

from __future__ import annotations

import contextlib
import functools
import time

from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from climb_opt.storages.outages import persist

PREFIX = "climb-lock/"  # of the study that holds the tickets


class TicketLock:
    """The lock of a study on any storage. Waiting costs one small read per poll."""

    def __init__(self, storage: BaseStorage, study: str, *, hung: float, poll: float = 0.5) -> None:
        self._storage = storage
        self._name = f"{PREFIX}{study}"
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
        ticket = persist(lambda: self._storage.get_trial(self._ticket))
        return ticket.state == TrialState.RUNNING

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
