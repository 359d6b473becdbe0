"""What the training side is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from climb_opt.schedules import Schedule, constant


@dataclass(frozen=True)
class Job:
    """One trial, as plain data that every rank gets."""

    name: str  # its folder, e.g. "slot-3": a retry of the slot finds the checkpoint there
    mixture: Mapping[str, float]  # of the whole run: the mean where it has a schedule
    seed: int
    rung: int | None = None  # of a ladder, cheapest first; None: the target
    schedule: Schedule | None = None  # None: the one mixture throughout
    part: str | None = None  # "trunk" or a branch's name: trained to be gone on from, not scored
    method: str | None = None  # the baseline of which a method sets the weights while it trains

    @property
    def phases(self) -> Schedule:
        """The phases that it trains in: one where it has no schedule."""
        return constant(self.mixture) if self.schedule is None else self.schedule


@dataclass
class Outcome:
    """A trained proxy and what is known about its training."""

    model: Any  # a `transformers` model; None where a command left none
    status: Literal["finished", "pruned"] = "finished"
    facts: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)  # a command's own
    losses: np.ndarray | None = None  # (steps,) nats a token, the mean over all ranks
    scored: bool = False  # `scores` are all there are: no evaluator is asked


TRACK = "CLIMB_OPT_TRACK"  # in the environment: the tracker that a worker's curves go to
REFERENCE = "-reference"  # after a trial's name: a proxy that is trained for it before


class Watch(Protocol):
    """Who looks at a trial while it trains."""

    def stop(self) -> bool:
        """Rank 0: whether the worker was asked to stop."""

    def report(self, model: Any, step: int) -> bool:
        """Every rank, every `report_every` steps: whether to give the trial up as hopeless."""


class ProxyTrainer(Protocol):
    """Our trainer, or somebody else's behind a command."""

    def train(self, job: Job, watch: Watch) -> Outcome:
        """Train one proxy; raises `TrialFailed` or `Interrupted`."""
