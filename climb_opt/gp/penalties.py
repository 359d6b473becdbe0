"""What is believed of hyper-parameters before results are seen: penalties, as of a normal.

A function so rough that no two mixtures tell of one another explains noisy scores as well as noise
does, so which of the two a fit finds, these decide. Where a finished search is noisy, what to take
is asked with the second pair: what looks that rough is noise, of which there may be much
(docs/notes/searching.md#rough-or-noisy).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# As (centre, variance) of a normal: docs/notes/searching.md#the-process.
LENGTH_SPREAD = 0.16  # of each log length-scale around their mean
LINEAR = (0.0, 2.25)
# Of the deviations of phases: longer and flatter, which is to say of no account, until they show.
DEVIATING_MEAN = (3.0, 1.0)
DEVIATING = (-4.0, 2.25)


@dataclass(frozen=True)
class Penalties:
    """Of the negative log likelihood of one process.

    Args:
        noise: (centre, variance) of its log noise variance, beside that of the function.
        noisier: the variance above that centre.
        length: (centre, variance) of the mean log length-scale.
        shorter: the variance below that centre.
        plain: columns before those that are deviations of phases; 0: none is.
        factors: what the noise variance of each row (n,) is multiplied by; None: nothing.
    """

    noise: tuple[float, float] = (-4.0, 4.0)
    noisier: float = 4.0
    length: tuple[float, float] = (0.7, 1.0)
    shorter: float = 1.0
    plain: int = 0
    factors: np.ndarray | None = None

    def of_rows(self, which: np.ndarray | slice) -> Penalties:
        """Those of a process of the rows that `which` picks."""
        return self if self.factors is None else replace(self, factors=self.factors[which])

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Of (log lengths, noise, linear; with phases that of deviations), and its gradient."""
        if self.plain:
            return self._phased(theta)
        k = len(theta) - 2
        lengths, mean = theta[:k], float(theta[:k].mean())
        length, noise = self.length, self.noise
        if mean < length[0]:
            length = (length[0], self.shorter)
        if theta[k] > noise[0]:
            noise = (noise[0], self.noisier)
        terms = [(mean, *length), (theta[k], *noise), (theta[k + 1], *LINEAR)]
        pulls = [(value - centre) / variance for value, centre, variance in terms]
        value = float(((lengths - mean) ** 2).sum()) / (2 * LENGTH_SPREAD)
        value += sum((v - centre) ** 2 / (2 * variance) for v, centre, variance in terms)
        # The derivative of the spread around the mean has no share through the mean itself.
        by_length = (lengths - mean) / LENGTH_SPREAD + pulls[0] / k
        return float(value), np.concatenate([by_length, pulls[1:]])

    def _phased(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        k, plain = len(theta) - 3, self.plain
        own = np.concatenate([theta[:plain], theta[k : k + 2]])
        cost, slope = replace(self, plain=0)(own)
        lengths, mean = theta[plain:k], float(theta[plain:k].mean())
        pulls = [
            (mean - DEVIATING_MEAN[0]) / DEVIATING_MEAN[1],
            (theta[k + 2] - DEVIATING[0]) / DEVIATING[1],
        ]
        cost += float(((lengths - mean) ** 2).sum()) / (2 * LENGTH_SPREAD)
        cost += pulls[0] ** 2 * DEVIATING_MEAN[1] / 2 + pulls[1] ** 2 * DEVIATING[1] / 2
        by_length = (lengths - mean) / LENGTH_SPREAD + pulls[0] / len(lengths)
        return cost, np.concatenate([slope[:plain], by_length, slope[plain:], pulls[1:]])


SEARCHING = Penalties()
JUDGING = Penalties(noisier=16.0, length=(0.4, 1.0), shorter=0.1)
