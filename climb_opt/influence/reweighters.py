"""TiKMiX while a proxy trains: once, by a proxy trained before, or at the ends of stages.

At the end of a stage the run's own model is measured on the mixture of that stage, which is also
the mixture that no task may be served worse than; the rest of the run reads what the program finds.
The learning rate is not what it is at a run's end, and nothing is done about that, as in the paper.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.gains.program import solve
from climb_opt.gains.table import Gains
from climb_opt.influence.measure import Place, measure, targets_of
from climb_opt.influence.options import InfluenceOptions
from climb_opt.proxy.reweight.base import Extra, Judge, Sizes, Training, Weights
from climb_opt.strict import build, check_ranges


class _ByInfluence:
    """What both share: options, a measurement, and its mixture."""

    rereads = True

    def __init__(self, **options: Any) -> None:
        given = build(InfluenceOptions, options, "proxy.reweight")
        self.options = check_ranges(given, "proxy.reweight")
        if self.options.mixtures:
            raise UserError("proxy.reweight: mixtures are of `climb-opt influence`; leave it out.")
        if self.options.hessian == "ekfac":
            from climb_opt.influence import ekfac  # needs a library of its own

            ekfac.check()

    def check(self, judge: Judge | None) -> None:
        """Raise a `UserError` where the score of the study has no gradient."""
        targets_of(_known(judge).evaluators, _known(judge).score)

    def tokens(self, sizes: Sizes) -> float:
        """Of one measurement; each target is taken to hold as many tokens as a domain's sample."""
        given = self.options.for_proxy(sizes.tokens, sizes.domains)
        return given.gradient_tokens([given.tokens or 0], sizes.domains)

    def weights(self, training: Training, network: Any, mixture: np.ndarray) -> np.ndarray:
        """The program's mixture (K,), measured at the end of `network`, trained on `mixture`."""
        setup, judge = training.setup, _known(training.setup.judge)
        before = dict(zip(training.domains, mixture.tolist(), strict=True))
        place = Place(network, setup.group, setup.sequences, before, training.seed)
        targets = targets_of(judge.evaluators, judge.score)
        options = self.options.for_proxy(setup.tokens, len(training.domains))
        mode = network.training
        found = measure(place, targets, options)
        network.train(mode)
        rows = zip(targets, found.lowers.tolist(), strict=True)
        lowers = {name: dict(zip(training.domains, row, strict=True)) for name, row in rows}
        score = {name: judge.score[name] for name in targets}
        gains, shares = Gains(lowers, score, judge.direction).tasks(judge.space.domains)
        prior = judge.space.weights(before, normalise=True)
        solved = solve(judge.space, gains, shares=shares, prior=prior, program=self.options.program)
        of = judge.space.mixture(solved.weights)
        return np.array([of[domain] for domain in training.domains])


def _known(judge: Judge | None) -> Judge:
    if judge is None:
        raise UserError(
            "proxy.reweight: tikmix needs a study's score, of which it takes gradients; train "
            "through a study's objective."
        )
    return judge


class TiKMiX(_ByInfluence):
    """Reads TiKMiX's mixture, measured once on a proxy of the trial's mixture (arXiv 2508.17677).

    Args:
        options: of the measurement, as of `climb-opt influence`: hessian, tokens, damping ...

    Raises:
        UserError: an unknown option, or one out of range.
    """

    def reference(self, mixture: Mapping[str, float]) -> Mapping[str, float]:
        """The proxy that is measured is trained on the trial's own mixture."""
        return mixture

    def extra(self, sizes: Sizes) -> Extra:
        """The measurement's gradients."""
        return Extra(trained=self.tokens(sizes))

    def when(self, steps: int) -> Container[int]:
        """Never: what is read is known before the first step."""
        return ()

    def start(self, training: Training) -> Weights:
        """Measure."""
        return Weights(reading=self.weights(training, training.reference, training.mixture))

    def weigh(self, training: Training) -> Weights:
        """Never asked."""
        return Weights()

    def state(self) -> dict[str, Any]:
        """Nothing: a run that goes on measures again, and finds the same."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing."""


class TiKMiXStages(_ByInfluence):
    """Changes to TiKMiX's mixture at the ends of stages, measured on the run itself.

    Args:
        at: shares of the run, above 0, at which stages end. 1 is the end of the run, which reads
            nothing of what is found there: the rule `path-end` keeps it.
        options: of a measurement, as of `climb-opt influence`: hessian, tokens, damping ...

    Raises:
        UserError: a share that is none, an unknown option, or one out of range.
    """

    def __init__(self, at: list[float] | float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.at = sorted({float(share) for share in (at if isinstance(at, list) else [at])})
        if not self.at or not all(0 < share <= 1 for share in self.at):
            raise UserError(f"proxy.reweight: at must hold shares above 0, to 1, but is {at}.")

    def extra(self, sizes: Sizes) -> Extra:
        """A measurement for each stage that ends."""
        return Extra(trained=len(self.when(sizes.steps)) * self.tokens(sizes))

    def when(self, steps: int) -> set[int]:
        """Before the first step of each later stage, and after the last where `at` holds 1."""
        borders = {share: round(share * steps) for share in self.at}
        return {step for share, step in borders.items() if 0 < step < steps or share == 1}

    def start(self, training: Training) -> Weights:
        """The trial's mixture."""
        self.mixture = training.mixture
        return Weights(reading=self.mixture)

    def weigh(self, training: Training) -> Weights:
        """Measure; what a stage read is what the next may not fall behind."""
        self.mixture = self.weights(training, training.model, self.mixture)
        return Weights(reading=self.mixture)

    def state(self) -> dict[str, Any]:
        """The mixture of the present stage."""
        return {"mixture": self.mixture}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if np.shape(state["mixture"]) != self.mixture.shape:
            raise ValueError(f"a mixture of shape {np.shape(state['mixture'])}")
        self.mixture = state["mixture"]
