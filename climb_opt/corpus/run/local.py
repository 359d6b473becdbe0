"""The engines by name, and that of one machine: this process, its threads and processes.

An engine only decides where a task runs. A task reads finished artefacts and writes its own, so
every engine gives the same bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

from climb_opt import lookup
from climb_opt.corpus.run.jobs import Engine, How, Job, Task, U, silent

ENGINES = {"local": "this process and its children", "ray": "the nodes of a Ray cluster"}

# Below this many bytes starting processes costs more than it saves: about 2 s each. This and what
# else is said of time here: docs/notes/corpus.md#time-and-memory.
BYTES_WORTH_PROCESSES = 64_000_000


@dataclass(frozen=True)
class Local:
    """This machine: `workers` processes for what is bound by Python, else threads or neither."""

    workers: int = 1
    remote: bool = False

    def run(self, task: Task[U], jobs: Sequence[Job[U]], how: How) -> None:
        """See `Engine`."""
        workers = min(self.workers, len(jobs))
        heavy = sum(job.unit.bytes for job in jobs) >= BYTES_WORTH_PROCESSES
        if how.processes and workers > 1 and heavy:
            _run_in(_processes(workers), task, jobs, elsewhere=True)
        elif how.threads:
            # Even one: its memory is apart from the main thread's, whose heap, once it is full of
            # holes, makes tokenising take a fifth longer.
            _run_in(ThreadPoolExecutor(how.threads), task, jobs, elsewhere=False)
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
        raise lookup.unknown("engine", name, ENGINES)


def _run_in(pool: Executor, task: Task[U], jobs: Sequence[Job[U]], elsewhere: bool) -> None:
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


def _processes(workers: int) -> ProcessPoolExecutor:
    """Worker processes that ignore Ctrl-C (the parent decides) and die with their parent."""
    # Not fork: the libraries of the parent have threads. A fork server imports ours once.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


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
