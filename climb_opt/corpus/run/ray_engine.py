"""A build's maps on a Ray cluster: one task per file, on every node. The one file that imports ray.

A stage is a map over files that already knows what is done, so plain tasks are all it needs of
Ray: no data passes through its object store but the task itself. The nodes share a disk, which
holds the inputs and the output; a task that dies with its node is tried again elsewhere.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import climb_opt
from climb_opt.corpus.run.jobs import How, Job, Task, U, silent
from climb_opt.errors import UserError, first_line
from climb_opt.extras import need

logger = logging.getLogger(__name__)

TASKS_A_CPU = 2  # handed to Ray at once: one runs, one waits its turn
TRIES = 3  # of a task whose worker or node dies, after the first
ANSWER_SECONDS = 10  # for a cluster's address to answer
STOP_SECONDS = 30  # for tasks to stop when one failed


class Ray:
    """A connection to a cluster: RAY_ADDRESS, the one running on this machine, or a new local one.

    A context: it disconnects at the end, unless it was connected before.

    Args:
        workers: tasks at once, at most; None: as many as the cluster has CPUs.
        paths: files and folders that every node must see.
    """

    remote = True

    def __init__(self, workers: int | None, paths: Sequence[str]) -> None:
        self._ray = need("ray", "--engine ray", "climb-opt[ray]")
        self._most = workers
        self._paths = list(paths)
        self._own = False

    @property
    def workers(self) -> int:
        """Threads of this machine, for the steps that are not maps."""
        return os.cpu_count() or 1

    def __enter__(self) -> Ray:
        self._own = not self._ray.is_initialized()
        if self._own:
            self._connect()
        try:
            self._check_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._ray.shutdown()

    def _connect(self) -> None:
        stop = signal.getsignal(signal.SIGTERM)
        try:
            _check_address(os.environ.get("RAY_ADDRESS", ""))
            self._ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except (OSError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            where = os.environ.get("RAY_ADDRESS", "this machine")
            raise UserError(
                f"No Ray cluster at {where} ({reason}). Start one with `ray start`, name it with "
                "RAY_ADDRESS, or leave out --engine."
            ) from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, stop)  # ray puts its own in its place

    def _check_nodes(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        if not nodes:
            raise UserError("The Ray cluster has no node with a CPU; give one with --num-cpus.")
        probe = self._ray.remote(num_cpus=0, max_retries=0)(_probe)
        answers = {}
        for node in nodes:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked = probe.options(scheduling_strategy=here)
            answers[node["NodeManagerAddress"]] = asked.remote((os.getcwd(), sys.path), self._paths)
        for address, answer in answers.items():
            missing, version = self._result(answer, f"node {address}")
            if missing:
                raise UserError(
                    f"Ray node {address} does not see {missing[0]!r}; inputs and --output must be "
                    "on a disk that all nodes share."
                )
            if version != climb_opt.__version__:
                raise UserError(
                    f"Ray node {address} has climb_opt {version}, but this is "
                    f"{climb_opt.__version__}; install the same on all nodes."
                )
        logger.info("Ray: %d nodes, %d CPUs, %d GPUs.", len(nodes), self._count("CPU"),
                    self._count("GPU"))  # fmt: skip

    def _count(self, resource: str) -> int:
        return int(self._ray.cluster_resources().get(resource, 0))

    def run(self, task: Task[U], jobs: Sequence[Job[U]], how: How) -> None:
        """See `Engine`."""
        gpus = 1 if how.gpu and self._count("GPU") else 0
        # max_calls: a worker keeps its model for the next task (with a GPU it would not).
        work = self._ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES, max_calls=0)(_work)
        shared = self._ray.put(task)
        place = (os.getcwd(), sys.path)
        most = self._most or TASKS_A_CPU * max(1, self._count("CPU"))
        waiting: dict[Any, Job[U]] = {}
        left: Iterator[Job[U]] = iter(jobs)
        try:
            while True:
                for job in islice(left, most - len(waiting)):
                    waiting[work.remote(shared, job.unit, place)] = job
                if not waiting:
                    return
                for done in self._ray.wait(list(waiting))[0]:
                    job = waiting.pop(done)
                    self._result(done, job.unit.name)
                    job.finish()
        except BaseException:
            self._stop(list(waiting))
            raise

    def _stop(self, tasks: list[Any]) -> None:
        for task in tasks:
            self._ray.cancel(task)
        if tasks:
            self._ray.wait(tasks, num_returns=len(tasks), timeout=STOP_SECONDS)

    def _result(self, answer: Any, what: str) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except errors.RayTaskError as error:
            if isinstance(error.cause, ModuleNotFoundError):
                raise UserError(
                    f"A Ray worker cannot import {error.cause.name}; install it on all nodes."
                ) from None
            raise error.cause from None  # what the task raised, as if it had run here
        except errors.RayError as error:
            reason = first_line(error)
            raise UserError(
                f"Ray lost the worker of {what} {TRIES + 1} times: {reason} Give tasks more memory "
                "(fewer CPUs a node), then run the same command again: finished files are kept."
            ) from None


def _check_address(address: str) -> None:
    """Ray itself waits minutes for an address where nobody listens."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()


Place = tuple[str, list[str]]  # the folder that the command runs in, where Python finds modules


def _work(task: Task[U], unit: U, place: Place) -> None:
    _enter(place)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one CPU
    task(unit, silent)


def _probe(place: Place, paths: Sequence[str]) -> tuple[list[str], str]:
    _enter(place)
    return [p for p in paths if not os.path.exists(p)], climb_opt.__version__


def _enter(place: Place) -> None:
    """Let relative paths and the user's modules (scorers) mean what they mean to the command."""
    folder, modules = place
    if os.path.isdir(folder):
        os.chdir(folder)
    sys.path += [p for p in modules if p and p not in sys.path and os.path.isdir(p)]
