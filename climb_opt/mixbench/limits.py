"""How long somebody else's code may think."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 10.0  # times the limit that may pass by the clock: other programs run, too


class TooLong(Exception):
    """A method thought longer than it may."""


def within(seconds: float, think: Callable[[], T]) -> T:
    """What `think` returns, if it takes at most so many CPU seconds of this process.

    By the clock it may take `PATIENCE` times as long, so that a busy machine changes no result. On
    the main thread of a process on Unix it is interrupted, at the next line of Python that it runs;
    elsewhere it is told when it is back.

    Raises:
        TooLong: it took longer.
    """
    if not math.isfinite(seconds):
        return think()
    started = time.process_time()
    told = f"it thought longer than {seconds:g} seconds"

    def ring(number: int, frame: Any) -> None:
        raise TooLong(told)

    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "setitimer")):
        found = think()
        if time.process_time() - started > seconds:
            raise TooLong(told)
        return found
    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE * seconds),
    )
    before = [signal.signal(number, ring) for number, _, _ in timers]
    try:
        for _, timer, after in timers:
            signal.setitimer(timer, after, 1.0)  # again and again: code may catch what is raised
        return think()
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0.0)
            signal.signal(number, handler)
