"""The contract of an evaluator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from climb_opt.corpus_recipe import CorpusRecipe


class Evaluator(Protocol):
    """Scores a trained proxy. Built as `Evaluator(corpus, **options)`, before any training.

    The constructor raises `UserError` for everything that can be wrong with its options, the
    corpus or its files, so that a search never trains a proxy that it cannot score.

    >>> class Length:
    ...     def __init__(self, corpus, *, scale=1.0):
    ...         self.scale = scale
    ...
    ...     def components(self):
    ...         return ["parameters/millions"]
    ...
    ...     def evaluate(self, model, accelerator):
    ...         return {"parameters/millions": self.scale * model.num_parameters() / 1e6}
    >>> Length(corpus=None).components()
    ['parameters/millions']
    """

    def components(self) -> list[str]:
        """The names `evaluate` returns, without standard errors: "arc_easy/acc", "prose/bpb"."""

    def evaluate(self, model: Any, accelerator: Any) -> dict[str, float]:
        """Component -> value, and `<component>_stderr` -> standard error where there is one.

        Called on every rank with the unwrapped model in eval mode; every rank gets the result.
        """


@runtime_checkable
class Reporting(Protocol):
    """What an evaluator may also say of components that nothing may be searched on."""

    def reported(self) -> list[str]:
        """Components measured on a test set: to report, not to search on."""


@runtime_checkable
class Stating(Protocol):
    """What an evaluator may also say about where its scores come from."""

    def facts(self) -> dict[str, Any]:
        """What was scored on what; stored with every trial, so keep it small."""


class Foretelling(Protocol):
    """What an evaluator's class may also say of a corpus that a recipe is still to build."""

    def foretold(self, recipe: CorpusRecipe, **options: Any) -> list[str] | None:
        """The components that the evaluator will have; None: only the corpus tells.

        Called on the class, before hours of building.

        Raises:
            UserError: what the options name will not be in the corpus.
        """


@runtime_checkable
class ByToken(Protocol):
    """What an evaluator may also offer whose components are sums over tokens: then an ensemble of
    models can be scored from what each of them says once (`branches: {read: [ensemble]}`)."""

    def token_shares(self) -> dict[str, np.ndarray]:
        """Component -> (n,): how much of a token's nats it adds up; of the components that are such
        sums. The n tokens are the same, in the same order, for every model."""

    def token_nats(self, model: Any, accelerator: Any) -> np.ndarray:
        """(n,) -log probability of each token. Called as `evaluate` is; every rank gets all."""


@runtime_checkable
class Differentiable(Protocol):
    """What an evaluator may also offer: components as sums that have a gradient.

    The influence of domains (`climb_opt.influence`) is measured on such components alone.
    """

    def smooth(self) -> list[str]:
        """Components that have a gradient."""

    def terms(self, component: str, model: Any, accelerator: Any) -> Iterator[Any]:
        """Scalar tensors with a graph, whose sum over all ranks is the component's value.

        One at a time, so that each can be differentiated, and its graph freed, before the next.
        """

    def tokens_read(self, component: str) -> int:
        """Tokens that a model reads for `terms`, over all ranks."""
