"""A long call of a library that answers no signal: left to a process that can be killed.

Some libraries hold the interpreter's lock, or do not look at signals, for as long as one call
takes: minutes, where there is much to do. Meanwhile nobody could stop the command, nor would a line
say for how long it has run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from climb_opt.errors import UserError

TICK = 0.2  # seconds between two looks at whether it has ended


@dataclass(frozen=True)
class Aside:
    """A script that does one such call.

    Args:
        script: a module that works where it is `__main__`. It imports nothing of climb_opt, so that
            it starts at once, and leaves Ctrl-C to this process.
        title: what it does, in an error.
        remedy: what helps where it fails.
    """

    script: ModuleType
    title: str
    remedy: str

    def run(
        self,
        arguments: Iterable[Any],
        given: Iterable[bytes | memoryview],
        tick: Callable[[], Any] = lambda: None,
    ) -> bytes:
        """What it prints.

        Args:
            given: to its standard input, piece after piece.
            tick: called now and then until it is done; what it raises ends the script.

        Raises:
            UserError: it failed, or was killed, most often for want of memory.
        """
        # -P: the folder of the script is no place to import from.
        command = [sys.executable, "-P", str(self.script.__file__), *map(str, arguments)]
        with tempfile.TemporaryFile() as made, tempfile.TemporaryFile() as said:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=made, stderr=said)
            try:
                assert child.stdin is not None  # it was asked for
                with suppress(BrokenPipeError):  # it has ended: the status tells
                    for piece in given:
                        child.stdin.write(piece)
                    child.stdin.close()
                while child.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(TICK)
                    tick()
            finally:
                child.kill()
                child.wait()
                with suppress(BrokenPipeError):
                    child.stdin.close()  # type: ignore[union-attr]
            made.seek(0)
            said.seek(0)
            if child.returncode:
                reason = said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
                raise UserError(
                    f"{self.title} failed with status {child.returncode}: "
                    f"{''.join(reason) or 'killed, perhaps for want of memory'}. {self.remedy}"
                )
            return made.read()
