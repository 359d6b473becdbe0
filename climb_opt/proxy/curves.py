"""What a trial does while it trains, told to a tracker: loss, learning rate, scores.

Which tracker is a matter of the machine that trains, not of the study: `--track`, or the
environment, so that every process of a worker knows. A tracker that fails costs a trial nothing
but its curve.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from climb_opt.errors import brief
from climb_opt.extras import need
from climb_opt.lookup import KINDS, find
from climb_opt.proxy.job import TRACK, Job

log = logging.getLogger(__name__)


class Training(Protocol):
    """What of a run a curve is made of; `losses` (steps,) in nats a token, of this rank's share."""

    trainer: Any  # its `directory` is of the study's runs, and named like the study
    job: Job
    step: int
    losses: torch.Tensor


class Curves:
    """The curves of a worker's trials, one after the other; none where no tracker is named.

    Raises:
        UserError: there is no such tracker, or it cannot be imported.

    >>> curves = Curves(None)  # tells nobody
    >>> curves.scores({"prose/bpb": 2.1}, sum, step=10)
    """

    def __init__(self, name: str | None) -> None:
        self._name, self._next = name, 0  # the first step that was not told
        self._make = find("tracker", name) if name else None
        if name in KINDS["tracker"]:
            need(name, f"--track {name}", name)  # its package, which Accelerate imports later
        self._tracker: Any = None

    @contextmanager
    def of(self, run: Training) -> Iterator[Callable[[], None]]:
        """Follow a run: what is given tells the steps since the last call, as leaving does."""
        self.end()
        self._next = run.step
        if self._make is not None:
            self._told(partial(self._begin, self._make, run.trainer.directory, run.job))
        try:
            yield lambda: self._look(run)
        finally:
            self._look(run)  # a loss that is not finite, too

    def scores(
        self, components: dict[str, float], score: Callable[[Any], float], step: int | None
    ) -> None:
        """What the proxy scores after `step`; `score` adds the components up."""
        if self._tracker is not None and components:
            tracker, values = self._tracker, {**components, "score": score(components)}
            self._told(lambda: tracker.log({n: float(v) for n, v in values.items()}, step=step))

    def end(self) -> None:
        """The trial is over, whatever became of it."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            self._told(tracker.finish)

    def _begin(self, make: Callable[..., Any], folder: Path, job: Job) -> None:
        self._tracker = make(folder.name, job.name, folder)
        self._tracker.start()
        rung = {} if job.rung is None else {"rung": job.rung}
        weights = {f"w/{domain}": float(share) for domain, share in job.mixture.items()}
        self._tracker.store_init_configuration({"seed": job.seed, **rung, **weights})

    def _look(self, run: Training) -> None:
        if self._tracker is None:
            return
        tracker, new = self._tracker, range(self._next, run.step)
        self._next = run.step

        def told() -> None:
            for step, loss in zip(new, run.losses[new.start : new.stop].tolist(), strict=True):
                values = {"loss": loss, "learning_rate": run.trainer.rate(step)}
                tracker.log(values, step=step + 1)

        self._told(told)

    def _told(self, tell: Callable[[], Any]) -> None:
        try:
            tell()
        except Exception as error:  # a tracker's own: its server, its login, a name it refuses
            tracker, self._tracker = self._tracker, None
            log.warning(
                "--track %s: %s. The trial goes on without its curve.", self._name, brief(error)
            )
            if tracker is not None:
                with suppress(Exception):  # said already; a run left open stops the next one's
                    tracker.finish()


def curves_here(*, is_main: bool) -> Curves:
    """As the environment says; ranks above 0 know that there is such a tracker, and tell nobody."""
    curves = Curves(os.environ.get(TRACK))
    return curves if is_main else Curves(None)
