"""How long somebody else's code may think."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class TooLong(Exception):
    """A method thought longer than it may."""


def within(seconds: float, think: Callable[[], T]) -> T:
    """What `think` returns.

    On the main thread of a process on Unix it is interrupted, at the next line of Python that it
    runs; elsewhere it is told when it is back.

    Raises:
        TooLong: it took longer.
    """
    if not math.isfinite(seconds):
        return think()
    started = time.monotonic()
    told = f"it thought longer than {seconds:g} seconds"

    def ring(number: int, frame: Any) -> None:
        raise TooLong(told)

    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "setitimer")):
        found = think()
        if time.monotonic() - started > seconds:
            raise TooLong(told)
        return found
    before = signal.signal(signal.SIGALRM, ring)
    # Again and again, for code that catches whatever is raised.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        return think()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
