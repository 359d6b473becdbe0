"""What an engine runs: a task on the units of a map; and what an engine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from climb_opt.errors import Interrupted


class Unit(Protocol):
    """What a map runs over: a block of documents, an input."""

    @property
    def name(self) -> str:
        """File stem of the unit's artefacts."""

    @property
    def documents(self) -> int:
        """Its documents; 0 if not known yet."""

    @property
    def bytes(self) -> int:
        """Its size."""


U = TypeVar("U", bound=Unit)
Advance = Callable[[int], None]  # told how much more of a unit is done
Task = Callable[[U, Advance], Any]


@dataclass(frozen=True)
class How:
    """How a map is best done.

    Attributes:
        processes: worth processes of its own on one machine: bound by Python.
        threads: run so many units at once in threads, where processes are not used; 0: in the
            calling thread.
        gpu: on a cluster, where there are GPUs: takes one.
        by_bytes: its time goes by the text's length, and so does the bar, whatever the documents'.
    """

    processes: bool = False
    threads: int = 0
    gpu: bool = False
    by_bytes: bool = False


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

    @property
    def remote(self) -> bool:
        """Whether tasks run in other processes always, which then load their own models."""

    def run(self, task: Task[U], jobs: Sequence[Job[U]], how: How) -> None:
        """Do all jobs; the first error ends it, and is raised when no task runs any more."""


def silent(amount: int) -> None:
    """Progress that nobody sees."""
