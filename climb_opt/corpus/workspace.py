"""Stages: named folders of finished artefacts, so that a build stopped anywhere resumes.

A stage's folder is named after a digest of everything its content depends on (its options and the
stages before it). So a changed option redoes exactly the stages behind it, and what is there is
right or absent: files appear under their final name only when complete.

    stage.over(units, task, marker=".npy")   a map: one marker file per unit, in any order, by any
                                             process, of any machine (`part`)
    stage.once("model.json", make)           a step that needs everything before it
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from climb_opt.corpus.files import atomic, load_json, save_json
from climb_opt.errors import UserError

POLL_SECONDS = 0.5
# Below this many bytes starting processes costs more than it saves (about 2 s each, measured).
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


@dataclass(frozen=True)
class Workspace:
    """Where the stages of one corpus live, and which share of the work is this process's.

    Args:
        root: the folder of the stages.
        part: (i, n): this process does every n-th unit, starting with the i-th (from 1), and waits
            for the others; part 1 does the steps that are not maps.
        workers: processes for maps that are bound by Python; threads of the libraries are theirs.
        progress: None shows bars on a terminal only.
    """

    root: Path
    part: tuple[int, int] = (1, 1)
    workers: int = 1
    progress: bool | None = None
    started: float = field(default_factory=time.time)

    def stage(self, name: str, *facts: Any) -> Stage:
        """The stage `name` whose content is determined by `facts` (plain data, other stages)."""
        plain = [f.digest if isinstance(f, Stage) else f for f in facts]
        text = json.dumps([name, plain], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        path = self.root / f"{name}-{digest}"
        path.mkdir(parents=True, exist_ok=True)
        return Stage(self, name, digest, path)

    def fail(self, reason: str) -> None:
        """Tell the other parts that this one cannot go on; they must not wait for it."""
        index, parts = self.part
        if parts > 1:
            save_json(self.root / f"failed-{index}-of-{parts}.json", reason)

    def check_others(self) -> None:
        """Raise if another part has failed since this one started.

        Raises:
            UserError: with that part's reason.
        """
        index, parts = self.part
        for file in self.root.glob(f"failed-*-of-{parts}.json"):
            other = int(file.name.split("-")[1])
            if other != index and file.stat().st_mtime > self.started:
                raise UserError(f"Part {other} of {parts} stopped: {load_json(file)}")

    def bar(self, title: str, total: int | None, unit: str = "doc") -> Any:
        """A progress bar with rate and time left."""
        off = None if self.progress is None else not self.progress
        return tqdm(total=total, desc=f"{title:<12}", unit=unit, unit_scale=True, disable=off)


@dataclass(frozen=True)
class Stage:
    """One stage's folder. See the module."""

    workspace: Workspace
    name: str
    digest: str
    path: Path

    def file(self, name: str) -> Path:
        """An artefact's path."""
        return self.path / name

    def over(
        self,
        units: Sequence[U],
        task: Callable[[U, Advance], Any],
        *,
        marker: str,
        processes: bool = False,
        threads: int = 1,
    ) -> None:
        """Run `task` on every unit whose marker file is missing, and wait for other parts' units.

        Args:
            task: writes the unit's artefacts, `<name><marker>` last; may say how it advances, in
                documents (bytes for inputs).
            processes: may run in worker processes (the task must then be picklable).
            threads: run so many units at once in threads, where processes are not used.
        """
        index, parts = self.workspace.part
        todo = [u for u in units[index - 1 :: parts] if not self._done(u, marker)]
        if todo:
            self._run(todo, task, processes, threads)
        self._wait([self.file(f"{u.name}{marker}") for u in units])

    def once(self, name: str, make: Callable[[Path], Any]) -> Path:
        """The artefact `name`, made by `make(partial_path)` if it is missing (by part 1)."""
        path = self.file(name)
        if not path.exists():
            if self.workspace.part[0] == 1:
                with atomic(path) as partial:
                    make(partial)
            else:
                self._wait([path])
        return path

    def _done(self, unit: Unit, marker: str) -> bool:
        return self.file(f"{unit.name}{marker}").exists()

    def _run(
        self, todo: Sequence[U], task: Callable[[U, Advance], Any], processes: bool, threads: int
    ) -> None:
        known = all(u.documents for u in todo)
        sizes = [u.documents if known else u.bytes for u in todo]
        workers = min(self.workspace.workers, len(todo))
        heavy = sum(u.bytes for u in todo) >= BYTES_WORTH_PROCESSES
        pool: Executor | None = None
        if processes and workers > 1 and heavy:
            pool = process_pool(workers)
        elif threads > 1 and len(todo) > 1:
            pool = ThreadPoolExecutor(threads)
        with self.workspace.bar(self.name, sum(sizes), "doc" if known else "B") as bar:
            jobs = [(u, _Ticker(bar, size)) for u, size in zip(todo, sizes, strict=True)]
            if pool is None:
                for unit, ticker in jobs:
                    task(unit, ticker)
                    ticker.finish()
            else:
                _run_in(pool, task, jobs, isinstance(pool, ProcessPoolExecutor))

    def _wait(self, markers: Iterable[Path]) -> None:
        missing = [m for m in markers if not m.exists()]
        if not missing:
            return
        total = len(missing)
        with self.workspace.bar(f"{self.name}, others", total, "file") as bar:
            while missing:
                time.sleep(POLL_SECONDS)
                self.workspace.check_others()
                missing = [m for m in missing if not m.exists()]
                bar.update(total - len(missing) - bar.n)


class _Ticker:
    """Moves a bar by what one unit reports, and by the rest when the unit is done."""

    def __init__(self, bar: Any, size: int) -> None:
        self._bar = bar
        self._left = size

    def __call__(self, amount: int) -> None:
        amount = min(amount, self._left)
        self._left -= amount
        self._bar.update(amount)

    def finish(self) -> None:
        self(self._left)


def _run_in(
    pool: Executor,
    task: Callable[[U, Advance], Any],
    jobs: Sequence[tuple[U, _Ticker]],
    elsewhere: bool,
) -> None:
    try:
        # Another process cannot move this one's bar.
        futures = {pool.submit(task, u, _silent if elsewhere else t): t for u, t in jobs}
        for future in as_completed(futures):
            future.result()
            futures[future].finish()
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _silent(amount: int) -> None:
    """Progress that nobody sees."""


# --- processes --------------------------------------------------------------------------------


def process_pool(workers: int) -> ProcessPoolExecutor:
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
