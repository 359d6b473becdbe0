"""Which domains matter, and how sure that is.

From the recommended mixture, one domain's weight is changed and the others keep their proportions.
A Gaussian process on the square roots of the weights, fitted to every finished trial, gives the
change of the score and its standard deviation; both ends of a change are taken from one joint
posterior, so what is uncertain about the level of the score does not widen the band of the change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from climb_opt.gp.beliefs import surrogate_of
from climb_opt.gp.model import Surrogate
from climb_opt.history import History
from climb_opt.samplers.reach import UNIT

FEWEST = 8  # finished trials below which no effect is shown
MORE = 0.1  # the weight added to a domain to see what more of it does
POINTS = 15  # of a curve
SURE = 1.645  # standard deviations of a 90 % band


@dataclass(frozen=True)
class Change:
    """The change of the oriented score (negative is better) and its standard deviation."""

    mean: float
    std: float

    @property
    def sure(self) -> bool:
        """Whether the 90 % band excludes "no change"."""
        return abs(self.mean) > SURE * self.std


@dataclass(frozen=True)
class Effect:
    """One domain around the recommended mixture; of schedules, one in one phase: "2/web".

    Args:
        without: the change when the domain is left out; None where it weighs nothing or all.
        more: the change when it gets `MORE` of the mixture; None where there is no room, or where
            no trial read the domain.
        at, mean, std: the curve of the change over the weights that were tried, shapes (P,).
    """

    domain: str
    weight: float
    without: Change | None
    more: Change | None
    at: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def size(self) -> float:
        """How much the score moves over the range that was tried."""
        return float(np.ptp(self.mean))


def domain_effects(
    history: History, domains: tuple[str, ...], reference: np.ndarray
) -> list[Effect]:
    """The effect of each domain at the mixture `reference` (K,), largest first.

    Empty below `FEWEST` trials, with several objectives, or when every score is the same.
    """
    shown = len(history) >= FEWEST and history.values.ndim == 1 and len(domains) > 1
    if not shown or np.ptp(history.values) == 0:
        return []
    surrogate = surrogate_of(history)
    effects = [
        _effect(surrogate, history, domain, k, reference) for k, domain in enumerate(domains)
    ]
    return sorted(effects, key=lambda e: -e.size)


def moved(reference: np.ndarray, k: int, weight: float) -> np.ndarray:
    """`reference` (K,) with domain k at `weight` and the others in their proportions."""
    rest = 1.0 - reference[k]
    others = reference if rest > 1e-12 else np.ones_like(reference)
    mixture = others * ((1.0 - weight) / (others.sum() - others[k]))
    mixture[k] = weight
    return np.asarray(mixture)


def _moved_within(
    reference: np.ndarray, k: int, weight: float, shares: tuple[float, ...]
) -> np.ndarray:
    """As `moved`; of a schedule within its phase, the others staying as they are."""
    if not shares:
        return moved(reference, k, weight)
    size = len(reference) // len(shares)
    place, at = divmod(k, size)
    block, share = slice(place * size, (place + 1) * size), shares[place]
    found = reference.copy()
    found[block] = share * moved(reference[block] / share, at, weight)
    return found


def _effect(
    surrogate: Surrogate, history: History, domain: str, k: int, reference: np.ndarray
) -> Effect:
    shares = history.shares
    share = shares[k // (len(reference) // len(shares))] if shares else 1.0
    tried, weight = history.weights[:, k] / share, float(reference[k]) / share
    top = min(1.0, max(float(np.quantile(tried, 0.95)), weight))
    at = np.linspace(0.0, top, POINTS)
    targets = [*at, 0.0, min(1.0, weight + MORE)]
    mixtures = np.array([reference, *(_moved_within(reference, k, t, shares) for t in targets)])
    mean, covariance = surrogate.joint(np.sqrt(mixtures))
    change = mean[1:] - mean[0]
    variance = np.diag(covariance)[1:] + covariance[0, 0] - 2 * covariance[0, 1:]
    std = np.sqrt(np.maximum(variance, 0.0))
    without = Change(float(change[-2]), float(std[-2])) if 0 < weight < 1 else None
    known = weight + MORE <= 1 and tried.max() >= UNIT
    more = Change(float(change[-1]), float(std[-1])) if known else None
    return Effect(domain, weight, without, more, at, change[:POINTS], std[:POINTS])
