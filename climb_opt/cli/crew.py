"""`--workers N`: that many worker processes on this machine, started and stopped by one command.

Each is the same command line again, told by `MEMBER` to join what this process created, to work,
and to leave the talking to it. They run in process groups of their own: Ctrl-C reaches this process
alone, which passes it on; and when it is gone, however it went, their standard input ends and they
stop gently by themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from climb_opt.cli.machine import cores, gpus
from climb_opt.cli.member import Inbox, Worker, ending, environment_of
from climb_opt.cli.stopping import SECOND_SIGNAL, member
from climb_opt.errors import Interrupted, UserError
from climb_opt.text import counted

log = logging.getLogger(__name__)

AUTO = "auto"
RESTARTS = 3  # of a worker that dies, without a trial finished in between
LOOK = 0.2  # seconds between two looks at the workers
SETTLE = 20.0  # seconds in which workers that share a mistake have all found it
LAST_WORD = 10.0  # seconds that a worker has to leave at once before it is killed
# Begin the line of a trial, and of a run of an ablation, that ended.
ENDED = TRIAL, RUN = "trial ", "run "
OURS = "climb-opt: "  # begins the line of a `UserError`


class Follower(Protocol):
    """Who is told what the workers print and finish."""

    def say(self, text: str, file: TextIO) -> None:
        """A worker printed a line, on standard output or error."""

    def move(self, line: str) -> None:
        """The line was of a trial or run that ended."""


def add_argument(command: argparse.ArgumentParser) -> None:
    """The option `--workers`."""
    command.add_argument(
        "--workers",
        metavar=f"N|{AUTO}",
        help=f"worker processes to start on this machine (default: 1, this process); {AUTO}: one a "
        "GPU, without GPUs one a core",
    )


def wanted(args: argparse.Namespace, storage: str) -> int:
    """How many workers a command is to start; 1: it works itself.

    Args:
        storage: where its study is: a URL or a path.

    Raises:
        UserError: no number; a launch of several processes, or a storage for one, with several.
    """
    if member() or args.workers in (None, "1"):
        return 1
    _check_launch()
    count = (len(gpus()) or cores()) if args.workers == AUTO else _number(args.workers)
    if count > 1 and storage.startswith("sqlite"):
        raise UserError(
            f"--workers {args.workers}: SQLite is for one process. Leave --storage out (a journal "
            "serves any number of processes of one machine), or give a database server."
        )
    return count


def _number(given: str) -> int:
    count = int(given) if given.isdecimal() else 0
    if count < 1:
        raise UserError(f"--workers must be a number from 1 on, or {AUTO}, but is {given!r}.")
    return count


def _check_launch() -> None:
    for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        if variable in os.environ:
            raise UserError(
                "--workers starts processes by itself, which does not go together with `accelerate "
                "launch` and `torchrun` (they make one worker of several devices). Start `climb-opt"
                f" ... --workers` plainly, or leave --workers out ({variable} is set here)."
            )


@dataclass(frozen=True)
class Crew:
    """The workers that a command is to start.

    Args:
        args: its words are theirs.
        count: of `wanted`.
        most: things to do at once at most; `auto` starts no more workers than that.
    """

    args: argparse.Namespace
    count: int
    most: int


def lead(crew: Crew, *, stop: Callable[[], bool], follow: Follower) -> int:
    """Start the workers and stay until all have ended. Returns an exit status: 0 is done.

    Args:
        stop: whether this process was asked to stop.
        follow: prints what they print, and shows how far all are.

    Raises:
        Interrupted: `stop` said so; the workers gave their trials back.
        UserError: the workers found something wrong with what they were given, and none is left.
    """
    count = crew.count
    if crew.args.workers == AUTO:
        count = max(1, min(count, crew.most))
    share, devices = max(1, cores() // count), gpus()
    log.info("%s", _crew_text(count, share, devices))
    inbox: Inbox = queue.Queue()
    workers: list[Worker] = []
    try:
        for number in range(1, count + 1):
            environment = environment_of(number, share, devices)
            workers.append(Worker(number, crew.args.words, environment, inbox))
        return _Watchman([*workers], inbox, stop, follow).stay()
    finally:
        _end(workers)


def _crew_text(count: int, share: int, devices: Sequence[str]) -> str:
    threads = f"{counted(share, 'thread')} each"
    if not devices:
        return f"{counted(count, 'worker')}, {threads}."
    where = f"{min(count, len(devices))} of {counted(len(devices), 'GPU')}"
    return f"{counted(count, 'worker')} on {where}, {threads}."


class _Watchman:
    """Passes on what the workers print, starts again those that died, until all have ended."""

    def __init__(
        self, crew: list[Worker], inbox: Inbox, stop: Callable[[], bool], follow: Follower
    ) -> None:
        self._working, self._inbox, self._stop, self._follow = crew, inbox, stop, follow
        self._mistakes: dict[str, float] = {}  # line -> when it was first heard
        self._status = 0  # of the last worker that died for good

    def stay(self) -> int:
        told = done = False
        while self._working:
            self._hear()
            if self._stop() and not told:
                told = True
                for worker in self._working:
                    worker.send(signal.SIGTERM)
            for worker in list(self._working):
                status = worker.ended()
                if status is not None:
                    self._hear(wait=False)
                    done = done or status == 0
                    self._buried(worker, status)
            self._say_mistakes(SETTLE if self._working else 0.0 if done else math.inf)
        if self._stop():
            raise Interrupted("stopped")
        if done:
            return 0
        if self._mistakes:
            raise UserError("; ".join(self._mistakes))
        return self._status

    def _hear(self, wait: bool = True) -> None:
        try:
            while True:
                worker, line, file = self._inbox.get(wait, LOOK)
                wait = False
                if file is sys.stderr and line.startswith(OURS):
                    worker.mistake = line.removeprefix(OURS)
                    continue
                self._follow.say(line, file)
                if line.startswith(ENDED):
                    worker.deaths = 0
                    self._follow.move(line)
        except queue.Empty:
            pass

    def _buried(self, worker: Worker, status: int) -> None:
        self._working.remove(worker)
        if status == 0 or self._stop():
            return
        if status == 2 and worker.mistake:
            self._mistakes.setdefault(worker.mistake, time.monotonic())
            return
        if status == 130:
            log.warning("Worker %d was told to stop; the others go on.", worker.number)
            self._status = status
            return
        worker.deaths += 1
        how = f"Worker {worker.number} (process {worker.process.pid}) {ending(status)}"
        if worker.deaths > RESTARTS:
            self._status = status if status > 0 else 128 - status
            log.error("%s again; it is not started another time.", how)
            return
        log.warning("%s; it is started again.", how)
        worker.start()
        self._working.append(worker)

    def _say_mistakes(self, after: float) -> None:
        """Those of workers that ended while others go on: alone at fault, so a line each."""
        for line, heard in list(self._mistakes.items()):
            if time.monotonic() - heard >= after:
                del self._mistakes[line]
                log.error("A worker stopped: %s", line)


def _end(crew: Sequence[Worker]) -> None:
    """Let nothing run on: workers that are still there leave at once, or are killed."""
    # A worker takes the second of two signals for one when they come within SECOND_SIGNAL.
    for signum, patience in (
        (signal.SIGTERM, SECOND_SIGNAL + 0.2),
        (signal.SIGTERM, LAST_WORD),
        (signal.SIGKILL, LAST_WORD),
    ):
        left = [worker for worker in crew if worker.process.poll() is None]
        until = time.monotonic() + patience
        for worker in left:
            worker.send(signum)
        for worker in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, until - time.monotonic()))
    for worker in crew:
        worker.ended()  # lets go of its pipes
