"""What a method that sets weights while a proxy trains is asked for, and what it may look at.

One object serves one run of one trial, on every rank; all ranks see the same numbers, so that all
give the same weights. Notation: K domains in the corpus's order.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from climb_opt import lookup
from climb_opt.choices import Choice
from climb_opt.errors import UserError, running
from climb_opt.simplex import MixtureSpace

PAGE = "docs/phases.md#your-own-method"


class Weights(NamedTuple):
    """What holds from a step on; None: as before.

    Args:
        reading: (K,) what is read; in the beginning it is the trial's mixture.
        losses: (K,) of each domain's mean loss over its tokens in a step; in the beginning all
            tokens of a step weigh the same.
    """

    reading: np.ndarray | None = None
    losses: np.ndarray | None = None


@dataclass(frozen=True)
class Sizes:
    """What a run's cost depends on, beside the model: known before any training."""

    domains: int
    steps: int
    batch_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens that the run itself trains on."""
        return self.steps * self.batch_tokens


class Extra(NamedTuple):
    """Tokens that a method uses beside the run's own."""

    trained: float = 0.0  # forward and backward: a reference model, gradients
    passed: float = 0.0  # forward only


@dataclass(frozen=True)
class Judge:
    """Who scores what a trial trains: a study's evaluators, and its score by component."""

    evaluators: Sequence[Any]
    score: Mapping[str, float]
    direction: Literal["minimize", "maximize"]
    space: MixtureSpace


class Training(Protocol):
    """The run, as a method sees it before a step.

    Attributes:
        domains: K names.
        mixture: (K,) the trial's mixture.
        step, steps, seed: the coming step, from 0, of how many; the trial's seed.
        model: what is trained, as it is now; its mode and gradients are to be left as they were.
        reference: a proxy trained on `Reweighter.reference`; None without one.
        losses: (K,) mean nats a token of each domain since the last call; NaN where none was read.
        read: (K,) tokens read of each domain so far.
        setup: corpus, sequences and group of the run; `setup.judge`, where a study scores it.
    """

    domains: tuple[str, ...]
    mixture: np.ndarray
    step: int
    steps: int
    seed: int
    model: Any
    reference: Any
    setup: Any

    @property
    def losses(self) -> np.ndarray: ...
    @property
    def read(self) -> np.ndarray: ...

    def coming(self) -> Iterator[tuple[Any, np.ndarray]]:
        """This rank's part of the coming step: tokens (n, T + 1) on the device, domains (n,)."""

    def of_domain(self, domain: str, sequences: int) -> Iterator[Any]:
        """This rank's part of a domain's first sequences, in the seed's order: (n, T + 1)."""

    def token_losses(self, network: Any, tokens: Any) -> Any:
        """Nats (n, T) of every token of `tokens` (n, T + 1) but the first, without gradients."""

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of an array over all ranks."""


class Reweighter(Protocol):
    """A method: its options are the arguments that it is made with.

    Attributes:
        rereads: whether `weigh` may change what is read; without it only `start` says.
    """

    rereads: bool

    def when(self, steps: int) -> Container[int]:
        """Before which steps, from 0, of so many `weigh` is called."""

    def start(self, training: Training) -> Weights:
        """What holds from the first step on."""

    def weigh(self, training: Training) -> Weights:
        """What holds from the coming step on."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it: arrays, numbers, text, lists and mappings of them."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, after `start`; a `ValueError` starts the run afresh."""

    # A method may also have these.
    #
    # def reference(self, mixture: Mapping[str, float]) -> Mapping[str, float]:
    #     The mixture of a proxy that is trained before, by the same recipe: `Training.reference`.
    # def extra(self, sizes: Sizes) -> Extra:
    #     The tokens that it uses beside the run's own; the reference model is counted already.
    # def check(self, judge: Judge | None) -> None:
    #     Raises a `UserError`, before anything is trained, where the score does not suit it.


def made(choice: Choice) -> Reweighter:
    """The method that a recipe names, with its options.

    Raises:
        UserError: no such method, or an option that it does not take.
    """
    options = lookup.check_options("reweighter", choice.name, choice.options, set())
    with running("proxy.reweight:", choice.name):
        try:
            method: Reweighter = lookup.find("reweighter", choice.name)(**options)
        except TypeError as error:
            raise UserError(f"proxy.reweight: {choice.name!r} with its options: {error}.") from None
    for asked in ("when", "start", "weigh", "state", "load"):
        if not callable(getattr(method, asked, None)):
            raise UserError(f"proxy.reweight: {choice.name!r} has no method {asked}; see {PAGE}.")
    if not hasattr(method, "rereads"):
        raise UserError(
            f"proxy.reweight: {choice.name!r} does not say `rereads`: True where what is read "
            f"changes while it trains, else False; see {PAGE}."
        )
    return method


def check(choice: Choice | None, judge: Judge) -> None:
    """Raise a `UserError` where a study's score does not suit the method that a recipe names."""
    if choice is not None:
        method = made(choice)
        with running("proxy.reweight:", choice.name):
            getattr(method, "check", lambda judge: None)(judge)


def wants_reference(choice: Choice | None) -> bool:
    """Whether a proxy is trained before, and given to the method that a recipe names."""
    return choice is not None and hasattr(lookup.find("reweighter", choice.name), "reference")


def extra_of(choice: Choice, sizes: Sizes) -> Extra:
    """Tokens that a trial uses beside its own, by the method that a recipe names.

    Raises:
        UserError: as of `made`; a method that states no tokens.
    """
    method = made(choice)
    with running("proxy.reweight:", choice.name):
        stated = Extra(*getattr(method, "extra", lambda sizes: Extra())(sizes))
    if not all(np.isfinite(count) and count >= 0 for count in stated):
        raise UserError(
            f"proxy.reweight: {choice.name!r} uses {tuple(stated)} tokens beside the run's own; "
            "both must be numbers, at least 0."
        )
    trained = sizes.tokens if wants_reference(choice) else 0
    return Extra(stated.trained + trained, stated.passed)
