"""Free coordinates for samplers that do not know the simplex.

An encoding maps a box onto the simplex (`decode`) and a mixture back to one of its points
(`encode`). Coordinates are numbered, not named after domains, so that renaming a domain does not
reorder what a sampler sees. Compared in docs/notes/searching.md#encodings.

    softmax         w_i ~ p_i^.5 exp(u_i),  |u_i| <= 4: the robust default
    gamma           w_i ~ G_i^-1(u_i), the quantile of Gamma(p_i): uniform u is exactly Dir(prior)
    stick-breaking  w_i = v_i (1 - w_1 - ... - w_(i-1)): uniform u is exactly Dirichlet(1)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from scipy.special import gammainc, gammaincinv, gammaln, softmax

from climb_opt import lookup
from climb_opt.phases import one_phase, shares_of
from climb_opt.simplex import MixtureSpace

FAR = 1e-290  # gamma quantiles below this are computed in logs


class Encoding(Protocol):
    """A box of `distributions()`, and the two maps between it and the simplex of K weights."""

    def distributions(self) -> dict[str, BaseDistribution]:
        """The free coordinates, in the order of `decode`'s argument."""

    def decode(self, free: np.ndarray) -> np.ndarray:
        """Weights (K,) of free coordinates (D,); they sum to 1, bounds are not applied."""

    def encode(self, weights: np.ndarray) -> np.ndarray:
        """Free coordinates (D,) inside the box that decode to `weights` (K,), or near them."""


class SoftmaxEncoding:
    """K logits around those of the prior's root.

    Args:
        reach: largest absolute logit. exp(2 x 4) = 2981 between the largest and smallest weight,
            times the prior's own ratio: a vertex is reached to about 1 %.
    """

    def __init__(self, space: MixtureSpace, *, reach: float = 4.0) -> None:
        self._reach = reach
        self._size = len(space)
        with np.errstate(divide="ignore"):  # a domain without prior keeps weight 0
            self._center = 0.5 * np.log(space.prior)

    def distributions(self) -> dict[str, BaseDistribution]:
        return _box(self._size, -self._reach, self._reach)

    def decode(self, free: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(self._center + free))

    def encode(self, weights: np.ndarray) -> np.ndarray:
        known = (weights > 0) & np.isfinite(self._center)
        free = np.full(self._size, -np.inf)
        free[known] = np.log(weights[known]) - self._center[known]
        if not known.any():
            return np.zeros(self._size)
        # Logits are free up to a constant: centre them where they fit, else keep the largest.
        middle = free[known].mean()
        if np.all(known) and np.all(np.abs(free - middle) <= self._reach):
            return free - middle
        return np.clip(free - free.max() + self._reach, -self._reach, self._reach)


class GammaEncoding:
    """K quantiles of gammas with the prior's shape; a uniform draw is Dirichlet(strength x prior).

    Args:
        strength: total concentration; small means sparse.
    """

    def __init__(self, space: MixtureSpace, *, strength: float = 1.0) -> None:
        # Of schedules each phase is a mixture drawn by itself.
        self._alpha = strength * np.tile(one_phase(space).prior, max(len(shares_of(space)), 1))

    def distributions(self) -> dict[str, BaseDistribution]:
        return _box(len(self._alpha), 0.0, 1.0)

    def decode(self, free: np.ndarray) -> np.ndarray:
        logs = np.full(len(self._alpha), -np.inf)
        used = (self._alpha > 0) & (free > 0)
        if not used.any():  # the corner u = 0
            return self._alpha / self._alpha.sum()
        alpha, u = self._alpha[used], np.minimum(free[used], 1.0 - 1e-16)
        quantile = gammaincinv(alpha, u)
        # Near 0 the distribution is u = x^a / Gamma(a + 1), which a double cannot invert.
        small = (np.log(u) + gammaln(alpha + 1.0)) / alpha
        logs[used] = np.where(quantile > FAR, np.log(np.maximum(quantile, FAR)), small)
        return np.asarray(softmax(logs))

    def encode(self, weights: np.ndarray) -> np.ndarray:
        # A Dirichlet says nothing of its gammas' total: take the mean.
        return np.asarray(gammainc(np.maximum(self._alpha, 1e-300), self._alpha.sum() * weights))


class StickBreakingEncoding:
    """K - 1 shares of what the domains before left over; a uniform draw is Dirichlet(1)."""

    def __init__(self, space: MixtureSpace) -> None:
        self._after = np.arange(len(space) - 1, 0, -1)  # domains after this one

    def distributions(self) -> dict[str, BaseDistribution]:
        return _box(len(self._after), 0.0, 1.0)

    def decode(self, free: np.ndarray) -> np.ndarray:
        kept = (1.0 - free) ** (1.0 / self._after)
        left = np.concatenate([[1.0], np.cumprod(kept)])
        return np.append(left[:-1] * (1.0 - kept), left[-1])

    def encode(self, weights: np.ndarray) -> np.ndarray:
        left = np.cumsum(weights[::-1])[::-1]  # of the stick, before each domain
        kept = np.divide(left[1:], left[:-1], out=np.ones(len(self._after)), where=left[:-1] > 0)
        return 1.0 - np.clip(kept, 0.0, 1.0) ** self._after


def make_encoding(
    encoding: str | Callable[[MixtureSpace], Encoding], space: MixtureSpace
) -> Encoding:
    """The encoding of a short name, "module:Name", or a class or function that takes the space."""
    make = lookup.find("encoding", encoding) if isinstance(encoding, str) else encoding
    return make(space)


def _box(size: int, low: float, high: float) -> dict[str, BaseDistribution]:
    return {f"free/{i:03d}": FloatDistribution(low, high) for i in range(size)}
