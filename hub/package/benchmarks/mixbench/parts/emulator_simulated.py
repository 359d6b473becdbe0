# Written by hub/build.py from climb_opt: change it there.
"""Simulated ladders: a law at the target, and cheaper rungs that rank mixtures as well as stated.

Notation: n mixtures, K domains; f is the target's score, sigma its spread over random mixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from .emulator_ladders import TargetLadder
from .emulator_laws import MixingLaw
from .emulator_objective import Source
from .errors import UserError
from .ladder import Ladder
from .statistics import spearman

USUAL = Ladder.of((1.0, 4.0, 16.0))
FAR = 1e4  # a deviation, in sigma, that leaves nothing of the target
CLOSE = 2e-4  # how near a calibrated rank correlation comes to the stated one
OTHER = 10_000  # added to a law's seed: the laws of deviations are none that anyone searches
WIDTHS = np.geomspace(0.02, 2.0, 80)  # of the misleading places, in Hellinger distance
LURE = 1.0  # by how many sigma the wrong place looks better than the target's optimum
POOR = 0.9  # the quantile of random mixtures that the target's optimum looks like
Deviation = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (weights (n, K), f (n,)) -> (n,)


@dataclass(frozen=True, eq=False)
class SimulatedLadder(TargetLadder):
    """Rungs that deviate from `target` so far that they rank mixtures as stated.

    The deviation of a rung is that of the rung above it and one step more, each step along a law
    that has nothing to do with the target nor with the other steps. A small model's score is also
    higher and spread wider: rung r scores scale^s (f + deviation) + shift s sigma, s steps below.

    Args:
        target: what the last rung scores.
        ladder: costs; by default 1 : 4 : 16.
        correlation: rank correlation with the target over random mixtures, of each rung below it,
            or of the cheapest: then every step adds as much variance.
        misleads: the rungs below, all alike, deviate near the target's optimum only, which looks
            bad to them, and at a place far from it, which looks best. Few random mixtures are near
            either, so `correlation` must be high.
        noise: of one evaluation in sigma, one number or one for each rung.
        scale, shift: of one step down.
        seed: of the deviations.

    Raises:
        UserError: a correlation outside (0, 1], one that falls towards the target, or that no
            deviation of this kind has; a noise below 0.

    >>> from climb_opt.emulator import MixingLaw
    >>> source = SimulatedLadder(MixingLaw(8), correlation=0.8, noise=0.1)
    >>> [round(rho, 2) for rho in source.correlations], source.ladder.shares.tolist()
    ([0.8, 0.88, 1.0], [0.0625, 0.25, 1.0])
    >>> best, value = source.optimum()
    >>> bool(source.truth(best[None])[0] == value), source.score(best[None], 0, seed=1).shape
    (True, (1,))
    """

    target: Source
    ladder: Ladder = USUAL
    correlation: float | tuple[float, ...] = 0.8
    misleads: bool = False
    noise: float | tuple[float, ...] = 0.0
    scale: float = 1.25
    shift: float = 0.5
    seed: int = 0

    def truth(self, weights: np.ndarray, rung: int | None = None) -> np.ndarray:
        """See `LadderSource`."""
        values = self.target.score(weights)
        if rung is None or rung == self.ladder.target:
            return values
        steps = self.ladder.target - rung
        deviation = self._deviations[rung](weights, values)
        stretched = self.scale**steps * (values + self.sigma * deviation)
        return np.asarray(stretched + self.shift * steps * self.sigma)

    def quality(self) -> str:
        """The target's line, the rungs, and whether they mislead."""
        kind = "misleading " if self.misleads else ""
        return f"{self.target.quality()}; {kind}{self.described()}"

    # --- private ---------------------------------------------------------------------------

    @cached_property
    def _draws(self) -> tuple[np.ndarray, np.ndarray]:
        draws = self.reference()
        return draws, self.target.score(draws)

    @cached_property
    def _stated(self) -> tuple[float, ...]:
        """The rank correlation of each rung below the target."""
        below, given = self.ladder.target, self.correlation
        if not isinstance(given, tuple):
            given = (given,) * below if self.misleads else spaced(given, below)
        if len(given) != below or not all(0 < rho <= 1 for rho in given):
            raise UserError(
                f"correlation must lie above 0 and at most at 1, one number or one for each of the "
                f"{below} rungs below the target, but is {self.correlation}."
            )
        if list(given) != sorted(given):
            raise UserError(
                f"correlation must not fall from a rung to the next dearer one, but is {given}."
            )
        return given

    @cached_property
    def _deviations(self) -> list[Deviation]:
        """Of each rung below: (weights (n, K), f (n,)) -> deviation (n,) in sigma."""
        return [self._misled(rho) for rho in self._stated] if self.misleads else self._drifted()

    def _drifted(self) -> list[Deviation]:
        draws, f = self._draws
        laws = [
            MixingLaw(len(self.space), seed=self.seed + OTHER + step, space=self.space)
            for step in range(self.ladder.target)
        ]
        # Row j: what is left of law j without what the target and the laws before it explain.
        raw = np.stack([np.ones(len(f)), f, *(law.score(draws) for law in laws)], axis=1)
        rows = [_residual(raw, 2 + j) for j in range(len(laws))]
        directions, sizes = raw @ np.array(rows).T, np.zeros(len(laws))
        for step, rho in enumerate(reversed(self._stated)):  # from the target down
            so_far = f / self.sigma + directions @ sizes
            own = directions[:, step]
            sizes[step] = _smallest(lambda a: spearman(so_far + a * own, f), rho)  # noqa: B023

        def deviation(count: int, weights: np.ndarray, f: np.ndarray) -> np.ndarray:
            parts = [np.ones(len(f)), f, *(law.score(weights) for law in laws)]
            return np.asarray(np.stack(parts, axis=1) @ (sizes[:count] @ np.array(rows)[:count]))

        below = range(self.ladder.target)
        return [partial(deviation, self.ladder.target - rung) for rung in below]

    def _misled(self, rho: float) -> Deviation:
        draws, f = self._draws
        best, lowest = self.target.optimum()
        good = draws[f <= np.median(f)]
        wrong = good[int(np.argmin(np.sqrt(good) @ np.sqrt(best)))]  # the farthest of the good half
        hill = (float(np.quantile(f, POOR)) - lowest) / self.sigma
        pit = (float(self.target.score(wrong[None])[0]) - lowest) / self.sigma + LURE

        def deviation(width: float, weights: np.ndarray) -> np.ndarray:
            near = [np.maximum(2 - 2 * np.sqrt(weights) @ np.sqrt(c), 0.0) for c in (best, wrong)]
            at_best, at_wrong = (np.exp(-squared / (2 * width**2)) for squared in near)
            return np.asarray(hill * at_best - pit * at_wrong)

        def found(width: float) -> float:
            return spearman(f / self.sigma + deviation(width, draws), f)

        reached = [i for i, width in enumerate(WIDTHS) if found(width) <= rho]
        if not reached or not reached[0]:
            raise UserError(
                f"No misleading ladder of this target has a rank correlation of {rho}: give one "
                f"between {min(map(found, WIDTHS)):.2f} and 1."
            )
        low, high = WIDTHS[reached[0] - 1], WIDTHS[reached[0]]
        width = _bisect(found, rho, float(low), float(high))
        return lambda weights, f: deviation(width, weights)


def spaced(cheapest: float, below: int) -> tuple[float, ...]:
    """The cheapest rung's correlation as one of each of the `below` rungs: every step between them
    adds as much variance.

    >>> [round(rho, 2) for rho in spaced(0.8, 3)]
    [0.8, 0.85, 0.92]
    """
    if not 0 < cheapest <= 1:
        return (cheapest,) * below
    steps = np.arange(below, 0, -1) / max(below, 1)
    return tuple(float(x) for x in (1.0 + (cheapest**-2 - 1.0) * steps) ** -0.5)


# --- private -------------------------------------------------------------------------------------


def _residual(columns: np.ndarray, which: int) -> np.ndarray:
    """Coefficients (C,) of column `which` of (n, C) less what the ones before it explain, of
    standard deviation 1."""
    fitted, *_ = np.linalg.lstsq(columns[:, :which], columns[:, which], rcond=None)
    row = np.zeros(columns.shape[1])
    row[:which], row[which] = -fitted, 1.0
    return np.asarray(row / (columns @ row).std())


def _smallest(rank: Callable[[float], float], rho: float) -> float:
    """The size at which a correlation that falls with it is `rho`."""
    if rank(0.0) <= rho + 2 * CLOSE:
        return 0.0
    high = 0.5
    while rank(high) > rho:
        if high > FAR:
            raise UserError(
                f"No deviation of this kind leaves a rank correlation of {rho:g}; the least is "
                f"about {rank(high):.2f}."
            )
        high *= 2.0
    return _bisect(rank, rho, 0.0, high)


def _bisect(rank: Callable[[float], float], rho: float, low: float, high: float) -> float:
    for _ in range(40):
        middle = (low + high) / 2
        found = rank(middle)
        if abs(found - rho) < CLOSE:
            return middle
        low, high = (middle, high) if found > rho else (low, middle)
    return (low + high) / 2
