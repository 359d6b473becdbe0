"""A simulated or emulated score as an Optuna objective, with settable noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import optuna

from climb_opt.attributes import EXTRAPOLATED
from climb_opt.draws import SPARSE_STRENGTHS, SPARSE_TEMPERATURE
from climb_opt.errors import UserError
from climb_opt.history import report_components
from climb_opt.simplex import MixtureSpace

STREAM = 0x6E6F697365  # "noise"


class Source(Protocol):
    """Where scores come from: an `Emulator` or a `MixingLaw`. Lower is better."""

    space: MixtureSpace
    names: tuple[str, ...]
    coefficients: np.ndarray

    def __hash__(self) -> int:
        """What is measured of a source is remembered."""

    def components(self, weights: np.ndarray) -> np.ndarray:
        """The parts (n, C) of mixtures (n, K); score = parts @ coefficients."""

    def score(self, weights: np.ndarray) -> np.ndarray:
        """The score (n,) of mixtures (n, K)."""

    def extrapolates(self, weights: np.ndarray) -> np.ndarray:
        """Which mixtures (n,) lie beyond what the source knows."""

    def quality(self) -> str:
        """One line that goes with every result."""

    def optimum(self) -> tuple[np.ndarray, float]:
        """The best mixture (K,) and its score."""


class NoisyObjective:
    """`study.optimize(NoisyObjective(source), n_trials=112)`: score + noise x sigma x normal.

    sigma is the standard deviation of the score over draws of the sparse prior, the spread of a
    random search. The noise is a pure function of (seed, trial number), so arms of a comparison
    share it. What lies beyond the source's knowledge is marked in the trial, never hidden.

    Args:
        noise: in units of sigma, on the score.
        components: also store the parts; each gets noise of its own that adds up to `noise`.

    Raises:
        UserError: a negative noise.
    """

    def __init__(
        self, source: Source, *, noise: float = 0.0, seed: int = 0, components: bool = False
    ) -> None:
        if not noise >= 0 or not np.isfinite(noise):
            raise UserError(f"noise must be at least 0, but is {noise}.")
        self.source, self.seed, self.components = source, seed, components
        self.sigma = noise * spread(source) if noise else 0.0

    def __call__(self, trial: optuna.Trial) -> float:
        """Suggest a mixture and return its noisy score."""
        weights = self.source.space.weights(self.source.space.suggest(trial))[None]
        # A stream of its own: samplers draw from (seed, slot) too.
        rng = np.random.default_rng([self.seed, trial.number, STREAM])
        if bool(self.source.extrapolates(weights)[0]):
            trial.set_user_attr(EXTRAPOLATED, True)
        if not self.components:
            return float(self.source.score(weights)[0] + self.sigma * rng.standard_normal())
        coefficients = self.source.coefficients
        each = self.sigma / float(np.linalg.norm(coefficients))
        parts = self.source.components(weights)[0]
        parts = parts + each * rng.standard_normal(len(parts))
        report_components(trial, dict(zip(self.source.names, parts.tolist(), strict=True)))
        return float(parts @ coefficients)


@lru_cache(maxsize=64)  # thousands of evaluations
def spread(source: Source) -> float:
    """The standard deviation of the score over 4000 draws of the sparse prior."""
    return float(source.score(reference_draws(source.space)).std())


def reference_draws(
    space: MixtureSpace, n: int = 4000, rng: np.random.Generator | None = None
) -> np.ndarray:
    """n draws (n, K) of RegMix's sparse prior: what a typical random mixture is.

    Args:
        rng: by default one of a fixed seed, so that they are the same every time.
    """
    rng = np.random.default_rng(20_250_601) if rng is None else rng
    strength = rng.choice(SPARSE_STRENGTHS, size=n)
    return space.sample(rng, n, temperature=SPARSE_TEMPERATURE, strength=strength)
