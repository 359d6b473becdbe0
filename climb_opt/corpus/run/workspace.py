"""Stages: named folders of finished artefacts, so that a build stopped anywhere resumes.

A stage's folder is named after a digest of everything its content depends on (its options and the
stages before it). So a changed option redoes exactly the stages behind it, and what is there is
right or absent: files appear under their final name only when complete.

    stage.over(units, task, marker=".npy")   a map: an artefact of each unit, in any order, by any
                                             process, of any machine (`part`)
    @once("model.json")                      a step that needs everything before it
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from climb_opt.corpus.files import FORMS, load_json, save_json
from climb_opt.corpus.run.jobs import Advance, Engine, How, Job, Task, U
from climb_opt.corpus.run.local import Local
from climb_opt.errors import UserError
from climb_opt.files import atomic
from climb_opt.progress import doing, progress

POLL_SECONDS = 0.5

P = ParamSpec("P")
ALONE = How()


@dataclass(frozen=True)
class Workspace:
    """Where the stages of one corpus live, and which share of the work is this process's.

    Args:
        root: the folder of the stages.
        part: (i, n): this process does every n-th unit, starting with the i-th (from 1), and waits
            for the others; part 1 does the steps that are not maps.
        engine: what runs the units of a map: this process and its children, or a cluster.
        progress: False shows none; see `climb_opt.progress`.
    """

    root: Path
    part: tuple[int, int] = (1, 1)
    engine: Engine = field(default_factory=Local)
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
        """How far a stage is, with rate and time left."""
        return progress(total, f"{title:<12}", unit, large=True, show=self.progress)

    def each(self, title: str, units: Sequence[U]) -> Iterator[U]:
        """The units one after the other; a bar shows how far they are."""
        with self.bar(title, sum(unit.documents for unit in units)) as bar:
            for unit in units:
                yield unit
                bar.update(unit.documents)


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

    def holding(self, *facts: Any) -> Stage:
        """The stage as what follows depends on it, if its facts alone do not decide its content."""
        text = json.dumps([self.digest, facts], sort_keys=True, default=str)
        return replace(self, digest=hashlib.sha256(text.encode()).hexdigest()[:12])

    def over(self, units: Sequence[U], task: Task[U], *, marker: str, how: How = ALONE) -> None:
        """Run `task` on every unit whose marker file is missing, and wait for other parts' units.

        Args:
            task: picklable; returns the unit's artefact `<name><marker>`, which is written last, in
                the form that its ending says; may say how it advances, in documents (bytes for
                inputs, and where `how` says so).
        """
        index, parts = self.workspace.part
        mine = units[index - 1 :: parts]
        if todo := [u for u in mine if not self.file(f"{u.name}{marker}").exists()]:
            by_bytes = how.by_bytes or not all(u.documents for u in todo)
            sizes = [u.bytes if by_bytes else u.documents for u in todo]
            with self.workspace.bar(self.name, sum(sizes), "byte" if by_bytes else "doc") as bar:
                jobs = [Job(u, bar, size) for u, size in zip(todo, sizes, strict=True)]
                kept = functools.partial(_kept, self.path, marker, task)
                self.workspace.engine.run(kept, jobs, how)
        self._wait([self.file(f"{u.name}{marker}") for u in units])

    def once(self, name: str, make: Callable[[Path], Any]) -> Path:
        """The artefact `name`, made by `make(partial_path)` if it is missing (by part 1)."""
        path = self.file(name)
        if not path.exists():
            if self.workspace.part[0] == 1:
                with atomic(path) as partial, doing(self.name, show=self.workspace.progress):
                    make(partial)
            else:
                self._wait([path])
        return path

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


def _kept(folder: Path, marker: str, task: Task[U], unit: U, advance: Advance) -> None:
    file = folder / f"{unit.name}{marker}"
    FORMS[file.suffix][0](file, task(unit, advance))


def once(
    name: str,
) -> Callable[[Callable[Concatenate[Stage, P], Any]], Callable[Concatenate[Stage, P], Any]]:
    """A step that needs everything before it, and is done once, by part 1.

    What the function returns is kept as the stage's artefact `name`, in the form that its
    ending says, and read from there.
    """

    def keep(make: Callable[Concatenate[Stage, P], Any]) -> Callable[Concatenate[Stage, P], Any]:
        @functools.wraps(make)
        def kept(stage: Stage, /, *args: P.args, **kwargs: P.kwargs) -> Any:
            save, load = FORMS[Path(name).suffix]
            return load(stage.once(name, lambda file: save(file, make(stage, *args, **kwargs))))

        return kept

    return keep
