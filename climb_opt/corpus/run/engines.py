"""What runs the units of a map: this process, its threads and processes, or a Ray cluster.

An engine only decides where a task runs. A task reads finished artefacts and writes its own, so
every engine gives the same bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, Generic, Protocol, TypeVar

from climb_opt.errors import Interrupted, UserError

ENGINES = {"local": "this process and its children", "ray": "the nodes of a Ray cluster"}

# Below this many bytes starting processes costs more than it saves: about 2 s each. This and what
# else is said of time here: docs/notes/corpus.md#time-and-memory.
BYTES_WORTH_PROCESSES = 64_000_000


class Unit(Protocol):
    """What a map runs over: a block of documents, an input."""

    @property
    def name(self) -> str:
        """File stem of the unit's artefacts."""
        ...

    @property
    def documents(self) -> int:
        """Its documents; 0 if not known yet."""
        ...

    @property
    def bytes(self) -> int:
        """Its size."""
        ...


U = TypeVar("U", bound=Unit)
Advance = Callable[[int], None]  # told how much more of a unit is done


class Job(Generic[U]):
    """A unit to be done; called, it moves the bar by what is done of it, `finish` by the rest."""

    def __init__(self, unit: U, bar: Any, size: int) -> None:
        self.unit = unit
        self._bar = bar
        self._left = size
        self._stopped = False

    def __call__(self, amount: int) -> None:
        if self._stopped:
            raise Interrupted("another unit failed, or the build was told to stop")
        amount = min(amount, self._left)
        self._left -= amount
        self._bar.update(amount)

    def stop(self) -> None:
        """End the task where it next says how it advances."""
        self._stopped = True

    def finish(self) -> None:
        """Move the bar by what is left of the unit."""
        self(self._left)


class Engine(Protocol):
    """Where tasks run."""

    @property
    def workers(self) -> int:
        """Threads that a step of this process may use."""
        ...

    @property
    def remote(self) -> bool:
        """Whether tasks run in other processes always, which then load their own models."""
        ...

    def run(
        self,
        task: Callable[[U, Advance], Any],
        jobs: Sequence[Job[U]],
        *,
        processes: bool,
        threads: int,
        gpu: bool,
    ) -> None:
        """Do all jobs; the first error ends it, and is raised when no task runs any more."""
        ...


@dataclass(frozen=True)
class Local:
    """This machine: `workers` processes for what is bound by Python, else threads or neither."""

    workers: int = 1
    remote: bool = False

    def run(
        self,
        task: Callable[[U, Advance], Any],
        jobs: Sequence[Job[U]],
        *,
        processes: bool,
        threads: int,
        gpu: bool,
    ) -> None:
        """See `Engine`."""
        workers = min(self.workers, len(jobs))
        heavy = sum(job.unit.bytes for job in jobs) >= BYTES_WORTH_PROCESSES
        if processes and workers > 1 and heavy:
            _run_in(_processes(workers), task, jobs, elsewhere=True)
        elif threads:
            # Even one: its memory is apart from the main thread's, whose heap, once it is full of
            # holes, makes tokenising take a fifth longer.
            _run_in(ThreadPoolExecutor(threads), task, jobs, elsewhere=False)
        else:
            for job in jobs:
                task(job.unit, job)
                job.finish()


@contextmanager
def open_engine(name: str, workers: int | None, paths: Sequence[str]) -> Iterator[Engine]:
    """The engine of that name, closed at the end.

    Args:
        workers: processes or tasks at once; None: as many as there are cores.
        paths: files and folders that every machine must see.

    Raises:
        UserError: no such engine; no cluster; a machine that does not see the paths.
    """
    if name == "local":
        yield Local(workers or os.cpu_count() or 1)
    elif name == "ray":
        from climb_opt.corpus.run.ray_engine import Ray

        with Ray(workers, paths) as engine:
            yield engine
    else:
        raise UserError(f"Unknown engine {name!r}. Known: {', '.join(ENGINES)}.")


def _run_in(
    pool: Executor, task: Callable[[U, Advance], Any], jobs: Sequence[Job[U]], elsewhere: bool
) -> None:
    children = set(multiprocessing.active_children())
    try:
        # Another process cannot move this one's bar.
        futures = {pool.submit(task, j.unit, silent if elsewhere else j): j for j in jobs}
        for future in as_completed(futures):
            future.result()
            futures[future].finish()
    except BaseException:
        for job in jobs:
            job.stop()
        if elsewhere:  # what a killed task leaves unfinished is deleted by the next build
            for child in set(multiprocessing.active_children()) - children:
                child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


_serial_users = 0
_serial_before: str | None = None
_serial_lock = threading.Lock()


@contextmanager
def serial_tokenizers() -> Iterator[None]:
    """Within it, a call of `tokenizers` encodes in the thread that makes it.

    Threads of our own that need not meet after every batch keep two cores busier than those of the
    library do (1.4 times as fast), and take 5 % less CPU time.
    """
    global _serial_users, _serial_before
    name = "TOKENIZERS_PARALLELISM"  # the library reads it at each call; it has no other switch
    with _serial_lock:
        if not _serial_users:
            _serial_before = os.environ.get(name)
            os.environ[name] = "false"
        _serial_users += 1
    try:
        yield
    finally:
        with _serial_lock:
            _serial_users -= 1
            if not _serial_users and _serial_before is None:
                del os.environ[name]
            elif not _serial_users:
                os.environ[name] = str(_serial_before)


def silent(amount: int) -> None:
    """Progress that nobody sees."""


def _processes(workers: int) -> ProcessPoolExecutor:
    """Worker processes that ignore Ctrl-C (the parent decides) and die with their parent."""
    return ProcessPoolExecutor(workers, mp_context=_context(), initializer=_start_worker)


def _context() -> BaseContext:
    # Not fork: the libraries of the parent have threads. A fork server imports ours once.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)  # the parent was killed: nobody reads our results

    threading.Thread(target=watch, daemon=True).start()
