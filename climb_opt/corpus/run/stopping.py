"""How a signal stops a build: at once, for what is finished is on the disk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from climb_opt.errors import Interrupted


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM stops what runs inside as Ctrl-C does, whatever the process does with them else:
    partial files are removed, finished ones kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGTERM: _stop, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(signum: int, frame: Any) -> None:
    raise Interrupted(f"signal {signum}")
