"""What the training side is asked for, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from climb_opt.errors import UserError, check_numbers
from climb_opt.recipes import ProxyRecipe


@dataclass(frozen=True)
class Job:
    """One trial, as plain data that every rank gets."""

    name: str  # its folder, e.g. "slot-3": a retry of the slot finds the checkpoint there
    mixture: Mapping[str, float]
    seed: int


@dataclass
class Outcome:
    """A trained proxy and what is known about its training."""

    model: Any  # a `transformers` model; None where a command left none
    status: Literal["finished", "pruned"] = "finished"
    facts: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)  # a command's own
    losses: np.ndarray | None = None  # (steps,) nats a token, the mean over all ranks


def check_recipe(recipe: ProxyRecipe) -> None:
    """Find numbers that no training can use, before any.

    Raises:
        UserError: such a number, with its key.
    """
    inf = math.inf
    check_numbers(
        {
            "proxy.lr": (recipe.lr, 0, inf),
            "proxy.min_lr": (recipe.min_lr, 0, inf),
            "proxy.warmup": (recipe.warmup, 0, 1),
            "proxy.decay": (recipe.decay, 0, 1),
            "proxy.weight_decay": (recipe.weight_decay, 0, inf),
            "proxy.checkpoint_every": (recipe.checkpoint_every, 1, inf),
            "proxy.report_every": (recipe.report_every, 1, inf),
            "proxy.keep": (recipe.keep, 0, inf),
        }
    )
    for key in ("clip", "max_epochs", "timeout"):
        value = getattr(recipe, key)
        if value is not None and not value > 0:
            raise UserError(f"proxy.{key} must be positive, but is {value}.")
    if not all(0 <= beta < 1 for beta in recipe.betas):
        raise UserError(f"proxy.betas must be in [0, 1), but are {recipe.betas}.")


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
