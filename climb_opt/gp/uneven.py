"""Noise that differs between mixtures, as runs of the same mixtures show it.

    log variance of the noise at w = growth * d(w) + constant    d: share of tokens that differ
                                                                    from the prior's

Far from the prior the seeds of a proxy may differ 25 times as much as at it, or half as much. The
trials of a search hardly tell; runs of the prior and of a corner (`climb-opt noise`) do. What is
promised by a process that knows is nearer the truth, with narrower intervals where little is left
to chance (docs/notes/searching.md#noise-that-differs-between-mixtures).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

BELIEVED = 2.0  # standard deviation of the log ratio of two variances, before any run
RATIOS = np.linspace(-10, 10, 2001)  # among which its expected value is summed up


@dataclass(frozen=True)
class Uneven:
    """How the noise of a process is spread over mixtures.

    Args:
        prior: (K,) the proportional mixture; what schedules differ by is what they read in all.
        growth: of its log variance, from the prior to where all tokens differ.
        level: mean of exp(growth * d) over the trials seen, so that noise is still their average.
    """

    prior: np.ndarray
    growth: float
    level: float = 1.0

    def factors(self, roots: np.ndarray) -> np.ndarray:
        """What the noise variance is multiplied by (m,) at `roots` (m, K), or of schedules."""
        weights = (roots**2).reshape(len(roots), -1, len(self.prior)).sum(axis=1)
        differs = np.abs(weights - self.prior).sum(axis=1) / 2
        return np.asarray(np.exp(self.growth * differs) / self.level)


@dataclass(frozen=True)
class OtherSeeds:
    """How far the scores of other seeds lie from those of the one that all trials share.

    Args:
        std: standard deviation, of the prior's score.
        uneven: how much more or less of another mixture's.
    """

    std: float
    uneven: Uneven

    def at(self, roots: np.ndarray) -> np.ndarray:
        """Standard deviation (m,) at `roots` (m, K)."""
        return self.std * np.sqrt(self.uneven.factors(roots))


def factors(uneven: Uneven | None, roots: np.ndarray) -> np.ndarray:
    """Those of `uneven` (m,) at `roots` (m, K); 1 without."""
    return np.ones(len(roots)) if uneven is None else uneven.factors(roots)


def uneven_over(roots: np.ndarray, prior: np.ndarray, growth: float) -> Uneven | None:
    """The `Uneven` of trials at `roots` (n, K), n >= 1; None where nothing grows."""
    if not growth:
        return None
    return Uneven(prior, growth, float(Uneven(prior, growth).factors(roots).mean()))


def growth_of(runs: Mapping[str, tuple[float, int]], near: str, far: str, apart: float) -> float:
    """By how much log variance grows where all tokens differ, as runs of two mixtures expect it.

    Few runs say little: the log ratio of their variances is drawn to 0 by what is believed without
    any. Of six runs at the prior and two elsewhere half of a large one is left in the mean, of six
    and six four fifths.

    Args:
        runs: mixture -> standard deviation of its runs, and how many there are.
        apart: share of tokens that differ between the two.

    >>> growth_of({"prior": (0.01, 6), "corner": (0.04, 6)}, "prior", "corner", 0.9) > 1.5
    True
    >>> growth_of({"prior": (0.01, 6), "corner": (0.04, 1)}, "prior", "corner", 0.9)
    0.0
    """
    (one, n), (other, m) = (runs.get(name, (0.0, 0)) for name in (near, far))
    if min(n, m) < 2 or not (one > 0 and other > 0 and apart > 0):
        return 0.0
    seen = 2 * np.log(other / one)
    more, less = (m - 1) / 2, (n - 1) / 2  # Fisher's distribution, of the logarithm of the ratio
    likely = more * (seen - RATIOS) - (more + less) * np.log1p(more / less * np.exp(seen - RATIOS))
    likely -= RATIOS**2 / (2 * BELIEVED**2)
    chance = np.exp(likely - likely.max())
    return float(chance @ RATIOS / chance.sum()) / apart
