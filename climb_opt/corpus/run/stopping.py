"""How a signal stops a build: at once, for what is finished is on the disk."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from climb_opt.errors import Interrupted
from climb_opt.signals import handling


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM stops what runs inside as Ctrl-C does, whatever the process does with them else:
    partial files are removed, finished ones kept."""
    with handling({signal.SIGTERM: _stop, signal.SIGINT: signal.default_int_handler}):
        yield


def _stop(signum: int, frame: Any) -> None:
    raise Interrupted(f"signal {signum}")
