# Written by hub/build.py from climb_opt: change it there.
"""A law of tokens that run out: what a domain gives falls off as it is repeated, then it harms.

    E_j = w_j D / N_j                                    epochs: D tokens of a trial, N_j there are
    u_j = min(E_j, 1) + r_j (1 - exp(-max(E_j - 1, 0) / r_j))   epochs' worth of fresh text
    loss_t = floor_t + height_t (sum_j a_tj u_j N_j / D_0)^-slope_t + sum_j h_tj max(E_j - e_j, 0)^p

Repeated tokens lose their value as in "Scaling Data-Constrained Language Models" (arXiv 2305.16264)
with a worth r_j of each domain's own; p = 1.3, D_0 the target's tokens. The form is none that a
predictor here fits. It has rungs: a trial of fewer tokens repeats less, so that a short run cannot
see which domains run out, unless its inventories are cut as its tokens are (`matched`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .emulator_ladders import TargetLadder
from .emulator_shapes import Law, numbered
from .errors import UserError
from .ladder import Ladder, Rung
from .simplex import MixtureSpace

HARM = 1.3  # the power p


class Repetition(Law):
    """C losses of K domains of which there are only so many tokens; see `Law`.

    Without a `space` the domains hold, together, as many tokens as 1.5 target trials read.
    """

    @staticmethod
    def usual_space(domains: int) -> MixtureSpace:
        """See `Law`."""
        return scarce(domains)

    def draw(self, rng: np.random.Generator, tasks: int, domains: int) -> None:
        """See `Law`."""
        # What a domain teaches a task: a few of them nearly all.
        teaches = rng.gamma(0.35, 1.0, (tasks, domains)) + 0.02
        self._teaches = teaches / (teaches @ self.space.prior)[:, None]
        self._floor = rng.uniform(1.5, 2.5, tasks)
        self._height = rng.uniform(0.8, 1.4, tasks)
        self._slope = rng.uniform(0.25, 0.6, tasks)
        self._worth = rng.uniform(2.0, 12.0, domains)
        self._bearable = rng.uniform(2.0, 12.0, domains)
        self._harm = rng.gamma(0.5, 0.02, (tasks, domains))

    def components(self, weights: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return self.losses(weights, 1.0, matched=False)

    def losses(self, weights: np.ndarray, share: float, *, matched: bool) -> np.ndarray:
        """The losses (n, C) after a `share` of the target's tokens.

        Args:
            matched: the inventories are cut by the same share, so that epochs are the target's.
        """
        left = share if matched else 1.0  # of the inventories
        epochs = weights * self.space.epochs * share / left
        again = 1.0 - np.exp(-np.maximum(epochs - 1.0, 0.0) / self._worth)
        fresh = np.minimum(epochs, 1.0) + self._worth * again
        stock = np.where(self.space.epochs > 0, 1.0 / np.maximum(self.space.epochs, 1e-12), 0.0)
        learnt = (fresh * stock * left) @ self._teaches.T + 1e-3
        spoilt = np.maximum(epochs - self._bearable, 0.0) ** HARM @ self._harm.T
        return np.asarray(self._floor + self._height * learnt**-self._slope + spoilt)


@dataclass(frozen=True, eq=False)
class RepetitionLadder(TargetLadder):
    """Rungs of a `Repetition`: trials of fewer tokens of the same text.

    Args:
        law: the target.
        shares: of the target's tokens and FLOPs, cheapest first; the last is 1.
        matched: cut the inventories of a rung as its tokens are cut. Otherwise the cheap rungs
            mislead: they favour text that runs out at the target.
        noise: of one evaluation in sigma, one number or one for each rung.

    Raises:
        UserError: shares that do not rise to 1.

    >>> source = RepetitionLadder(Repetition(6), shares=(0.1, 1.0), matched=True)
    >>> source.correlations[0] > RepetitionLadder(Repetition(6), shares=(0.1, 1.0)).correlations[0]
    True
    """

    law: Repetition
    shares: tuple[float, ...] = (1 / 16, 1 / 4, 1.0)
    matched: bool = False
    noise: float | tuple[float, ...] = 0.0
    flops: float = 1.0

    def __post_init__(self) -> None:
        if not self.shares or self.shares[-1] != 1.0 or self.shares[0] <= 0:
            raise UserError(f"shares must rise from above 0 to 1, but are {self.shares}.")

    @cached_property
    def ladder(self) -> Ladder:  # type: ignore[override]
        """Rungs that cost what their tokens do."""
        return Ladder(tuple(Rung(f"{s:.3g} of the tokens", s * self.flops) for s in self.shares))

    @property
    def target(self) -> Law:  # type: ignore[override]
        """The law."""
        return self.law

    def truth(self, weights: np.ndarray, rung: int | None = None) -> np.ndarray:
        """See `LadderSource`."""
        share = self.shares[self.ladder.target if rung is None else rung]
        return np.asarray(self.law.losses(weights, share, matched=self.matched).mean(axis=1))

    def quality(self) -> str:
        """The law's line, and the rungs."""
        kind = "epochs matched" if self.matched else "epochs not matched"
        return f"{self.law.quality()}; {kind}, {self.described()}"


def scarce(domains: int, supply: float = 1.5, **bounds: float) -> MixtureSpace:
    """A space of domains that together hold `supply` trials' tokens, falling off as 1 / rank."""
    amounts = 1.0 / np.arange(1, domains + 1)
    tokens = (supply * amounts / amounts.sum()).tolist()
    return MixtureSpace(zip(numbered(domains), tokens, strict=True), trial_tokens=1.0, **bounds)
