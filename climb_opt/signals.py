"""What signals do while a block of code runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def handling(handlers: Mapping[int, Any]) -> Iterator[None]:
    """Within it signals go to these handlers, afterwards to those they went to before.

    A thread other than the main one may set none: there it changes nothing.

    Args:
        handlers: signal number -> what `signal.signal` takes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
