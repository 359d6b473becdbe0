# Written by hub/build.py from climb_opt: change it there.
"""Ladders that cost nothing: what a mixture scores on every rung, and what that would have cost.

    LadderSource      a space, a ladder with FLOPs, the truth on every rung, noise of every rung
    SourceLadder      a source of its own for each rung, such as emulators of three model sizes
    LadderObjective   any of them as an Optuna objective, scored on the rung that a trial names
    simulated.py      a law as the target, cheaper rungs that deviate from it by a stated amount
    rows.py           a pool: the rows of a table of real runs, without an emulator between

Notation: R rungs, K domains, n mixtures, sigma the spread of the target's score over draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna

from .attributes import EXTRAPOLATED
from .emulator_objective import STREAM, Source, reference_draws
from .errors import UserError
from .ladder import Ladder
from .simplex import MixtureSpace
from .statistics import spearman


class LadderSource(ABC):
    """What mixtures score on the rungs of `ladder`; lower is better, the last rung is the target.

    A `Source` of its target, too, so that whoever knows one rung can search that.
    """

    space: MixtureSpace
    ladder: Ladder
    noise: float | tuple[float, ...]  # of one evaluation, in sigma; one number or one a rung
    names: tuple[str, ...] = ("score",)
    coefficients: np.ndarray = np.ones(1)

    @abstractmethod
    def truth(self, weights: np.ndarray, rung: int | None = None) -> np.ndarray:
        """The score (n,) of mixtures (n, K) without noise, of the target by default."""

    @abstractmethod
    def optimum(self) -> tuple[np.ndarray, float]:
        """The best mixture (K,) at the target, and its score there."""

    @abstractmethod
    def quality(self) -> str:
        """One line that goes with every result."""

    def score(
        self, weights: np.ndarray, rung: int | None = None, seed: int | Sequence[int] | None = None
    ) -> np.ndarray:
        """What a run on `rung` measures (n,): the truth and noise of `seed`; None adds none."""
        rung = self.ladder.target if rung is None else rung
        values = self.truth(weights, rung)
        if seed is None or not self.noises[rung]:
            return values
        # The same normal on every rung: arms that differ in their rungs only share their luck.
        rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), STREAM])
        noise = self.noises[rung] * self.sigma
        return np.asarray(values + noise * rng.standard_normal(len(values)))

    def components(self, weights: np.ndarray) -> np.ndarray:
        """The target's score as its only part, (n, 1)."""
        return self.truth(weights)[:, None]

    def extrapolates(self, weights: np.ndarray) -> np.ndarray:
        """Which mixtures (n,) lie beyond what the target knows."""
        return np.zeros(len(weights), dtype=bool)

    def reference(self) -> np.ndarray:
        """Typical random mixtures (m, K), over which spreads and correlations are taken."""
        return reference_draws(self.space)

    @cached_property
    def sigma(self) -> float:
        """The standard deviation of the target's score over `reference`."""
        return float(self.truth(self.reference()).std())

    @cached_property
    def correlations(self) -> tuple[float, ...]:
        """The rank correlation of each rung with the target over `reference`, (R,)."""
        draws = self.reference()
        truth = self.truth(draws)
        return tuple(spearman(self.truth(draws, r), truth) for r in range(len(self.ladder)))

    def described(self) -> str:
        """The rungs: shares of the target's cost and rank correlations with it."""
        rungs = zip(self.ladder.shares, self.correlations, strict=True)
        told = ", ".join(f"{share:.3g} ({rho:.2f})" for share, rho in rungs)
        return f"rungs at {told} of the target's cost (rank correlation)"

    @cached_property
    def noises(self) -> tuple[float, ...]:
        """Of one evaluation on each rung (R,), in sigma."""
        noises = self.noise if isinstance(self.noise, tuple) else (self.noise,) * len(self.ladder)
        if len(noises) != len(self.ladder) or not all(0 <= x < np.inf for x in noises):
            raise UserError(
                f"noise must be at least 0, one number or one for each of the {len(self.ladder)} "
                f"rungs, but is {self.noise}."
            )
        return noises


class TargetLadder(LadderSource):
    """A ladder whose last rung is a source by itself, `target`: its space and its best mixture."""

    target: Source

    @property
    def space(self) -> MixtureSpace:  # type: ignore[override]
        """The target's."""
        return self.target.space

    def extrapolates(self, weights: np.ndarray) -> np.ndarray:
        """As the target."""
        return self.target.extrapolates(weights)

    def optimum(self) -> tuple[np.ndarray, float]:
        """The target's."""
        return self.target.optimum()


@dataclass(frozen=True, eq=False)
class SourceLadder(TargetLadder):
    """A source of its own for each rung, all over the same domains; the last is the target.

    Args:
        sources: cheapest first, such as `Emulator`s of tables of several model sizes.
        ladder: as many rungs.
        noise: of one evaluation in sigma, one number or one for each rung.

    Raises:
        UserError: not one source for each rung, or sources of other domains.

    >>> from climb_opt.emulator import MixingLaw
    >>> small, large = MixingLaw(4, seed=0), MixingLaw(4, seed=1)
    >>> source = SourceLadder((small, large), Ladder.of((1e15, 1e17)))
    >>> bool((source.truth(small.space.prior[None], 0) == small.score(small.space.prior[None]))[0])
    True
    """

    sources: tuple[Source, ...]
    ladder: Ladder
    noise: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.ladder):
            raise UserError(
                f"A ladder of {len(self.ladder)} rungs needs a source for each, but got "
                f"{len(self.sources)}."
            )
        for source in self.sources:
            if source.space.domains != self.space.domains:
                odd = set(source.space.domains) ^ set(self.space.domains) or {"their order"}
                raise UserError(f"The rungs' sources differ in their domains: {sorted(odd)[0]!r}.")

    @property
    def target(self) -> Source:  # type: ignore[override]
        """The last rung's source."""
        return self.sources[-1]

    def truth(self, weights: np.ndarray, rung: int | None = None) -> np.ndarray:
        """See `LadderSource`."""
        return self.sources[self.ladder.target if rung is None else rung].score(weights)

    def quality(self) -> str:
        """The target's line and the rungs."""
        return f"{self.target.quality()}; {self.described()}"


class LadderObjective:
    """`study.optimize(LadderObjective(source), ...)`: scored on the trial's rung, `climb/rung`.

    A trial without one is scored at the target. The noise is a pure function of (seed, trial
    number), so arms of a comparison share it.

    >>> import climb_opt, optuna
    >>> from climb_opt.emulator import MixingLaw
    >>> source = SourceLadder((MixingLaw(4), MixingLaw(4, seed=1)), Ladder.of((1.0, 10.0)))
    >>> study = optuna.create_study(sampler=climb_opt.SimplexGPSampler(source.space, seed=0))
    >>> study.optimize(LadderObjective(source), n_trials=3)
    >>> source.ladder.spent(study.trials)
    30.0
    """

    components = False

    def __init__(self, source: LadderSource, *, seed: int = 0) -> None:
        self.source, self.seed = source, seed
        _ = source.noises  # what is wrong with them is said before the first trial

    def __call__(self, trial: optuna.Trial) -> float:
        """Suggest a mixture and return what its rung measures."""
        space, ladder = self.source.space, self.source.ladder
        weights = space.weights(space.suggest(trial))[None]
        if bool(self.source.extrapolates(weights)[0]):
            trial.set_user_attr(EXTRAPOLATED, True)
        rung = ladder.rung_of(trial)
        return float(self.source.score(weights, rung, [self.seed, trial.number])[0])
