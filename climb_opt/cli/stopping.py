"""The processes of one command: which of a launch this is, and how a signal stops it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from climb_opt.signals import handling

JOIN_WAIT = 120.0  # seconds that ranks above 0 wait for rank 0 to create the study
SECOND_SIGNAL = 1.0  # seconds; a launcher repeats a signal at once, a person does not
MEMBER = "CLIMB_OPT_MEMBER"  # set for the processes that `--workers` starts
_SAID = "\nStopping: what is in training is saved and given back. Once more: leave at once.\n"


def rank() -> int:
    """This process's place in its launch; known before any process group is."""
    return int(os.environ.get("RANK", "0"))


def member() -> bool:
    """Whether this process is a worker of `--workers`: it joins, works, and leaves talk to it."""
    return MEMBER in os.environ


def speaks() -> bool:
    """Whether this process logs what all workers of `--workers` would: the first one does."""
    return os.environ.get(MEMBER, "1") == "1"


def leads() -> bool:
    """Whether this process creates studies, shows progress and says how it ended."""
    return rank() == 0 and not member()


class Stop:
    """Becomes true with the first signal; a later one ends the process where it stands."""

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self) -> bool:
        return self._first is not None

    def signalled(self, signum: int, frame: Any) -> None:
        """The handler of SIGINT and SIGTERM."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            if leads():
                os.write(2, _SAID.encode())
        elif now - self._first > SECOND_SIGNAL:
            raise KeyboardInterrupt


@contextmanager
def stop_flag() -> Iterator[Stop]:
    """A `Stop` that hears this process's signals while it is entered."""
    stop = Stop()
    with handling(dict.fromkeys((signal.SIGINT, signal.SIGTERM), stop.signalled)):
        if member():
            threading.Thread(target=_stop_with_leader, daemon=True).start()
        yield stop


def _stop_with_leader() -> None:
    # By the descriptor: a buffered reader that blocks in a thread cannot be closed at exit.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
