"""One worker of `--workers`: its process, what it prints, how it ended."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, TextIO

from climb_opt.cli.machine import CUDA, ON_CPU, VISIBLE
from climb_opt.cli.stopping import MEMBER

THREADS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")  # torch's, LightGBM's and BLAS's; tokenizers'
PROGRAM = ("-m", "climb_opt")

Inbox = queue.Queue["tuple[Worker, str, TextIO]"]  # who printed a line, on which stream


class Worker:
    """One worker: its process, and how often it had to be started again."""

    def __init__(
        self, number: int, words: Sequence[str], environment: dict[str, str], inbox: Inbox
    ) -> None:
        self.number, self._words, self._environment = number, words, environment
        self._inbox = inbox
        self.deaths = 0  # since its last finished trial
        self.mistake = ""  # the line it ended with, where what it was given is wrong
        self.start()

    def start(self) -> None:
        """Start its process; once more, where it died."""
        # As this process was started: the current folder is among the places of modules, or not.
        safe = [] if {"", os.getcwd()} & set(sys.path[:1]) else ["-P"]
        self.process = subprocess.Popen(
            [sys.executable, *safe, *PROGRAM, *self._words],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def ended(self) -> int | None:
        """Its exit status, once what it printed was read; None while it runs."""
        status = self.process.poll()
        if status is not None:
            for reader in self._readers:
                reader.join(timeout=1.0)  # a program that it started may hold its output open
            assert self.process.stdin is not None
            self.process.stdin.close()
        return status

    def send(self, signum: int) -> None:
        """Signal it, while it runs."""
        if self.process.poll() is None:
            self.process.send_signal(signum)

    def _read(self, stream: IO[str], file: TextIO) -> None:
        with stream:
            for line in stream:
                self._inbox.put((self, line.rstrip("\n"), file))


def environment_of(number: int, share: int, devices: Sequence[str]) -> dict[str, str]:
    """What the worker `number` is told: its threads, and its GPU, or that it has none.

    Without that, all would train on one device of a kind that is not dealt out, as Apple's.
    """
    own = {MEMBER: str(number), "PYTHONUNBUFFERED": "1"}
    own.update({name: str(share) for name in THREADS if name not in os.environ})
    if devices:
        given = devices[(number - 1) % len(devices)]
        own.update({name: given for name in VISIBLE if name == CUDA or name in os.environ})
    elif ON_CPU not in os.environ:
        own[ON_CPU] = "true"
    return {**os.environ, **own}


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
