"""A law that counts epochs: what a domain gives is used up as it is repeated, and then it harms.

    score = floor + exp(eta),   E_j = w_j e_j   epochs of domain j in a trial
    eta = c - sum_j b_j (1 - exp(-E_j / rho)) + sum_j h_j (softplus(log(1 + E_j) - tau) - at 0)

`b` and `h` (K,) are not negative: a domain helps with diminishing returns until it has been read
often, `e_j` being the epochs of domain j in a trial that reads nothing else. The form is Marin's
(two-phase data mixing in marin-community/marin), whose own optima kept their promise to .002 bits
per byte where LightGBM's missed by .013. Two rules of theirs matter most: the floor is stated, not
fitted (cross-validation chooses floors that select badly), and the amplitudes have a sign. Here the
floor lies one standard deviation of the scores below the best of them, which bounds what the law
can promise of mixtures nobody has run (docs/notes/searching.md#epochs).

Laws of many `rho`, `tau` and ridge penalties are averaged, each with the weight its leave-one-out
error earns, as in `loglinear.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from climb_opt.errors import UserError
from climb_opt.predictors.loglinear import EXPONENT
from climb_opt.predictors.ridge import non_negative
from climb_opt.predictors.spread import Model, Spread
from climb_opt.simplex import MixtureSpace

USED_UP = np.geomspace(0.05, 20.0, 6)  # rho, in epochs
HARMFUL = (1.0, 2.5)  # tau: softplus bends at E = e^tau - 1, 1.7 and 11 epochs
PENALTIES = np.geomspace(10.0, 1e-3, 7)  # on b and h, for standardised log-deficits
FLOOR = 1.0  # below the best score, in standard deviations of the scores
HIGHEST = 50.0  # of eta, so that no exponential overflows
KEPT = 1e-3  # least share of a law in the average


class EpochsPredictor:
    """A law of epochs: saturating benefit and harm by repetition, per domain.

    Lower scores are taken to be better, as in a `History`. It needs to know how often a trial
    repeats each domain: from the space (`know`), else from `epochs`, else 1 / mean weight.

    Args:
        epochs: (K,) epochs of each domain in a trial that reads nothing else, trial tokens over the
            domain's tokens; 0 for a domain without tokens.

    Raises:
        UserError: epochs that are negative, not finite, or not one for each weight.
    """

    def __init__(self, epochs: np.ndarray | None = None) -> None:
        self._given = None if epochs is None else np.asarray(epochs, dtype=float)
        if self._given is not None and not np.all(np.isfinite(self._given) & (self._given >= 0)):
            raise UserError(f"epochs must be finite and not negative, but are {epochs}.")

    def know(self, space: MixtureSpace) -> None:
        """Take the epochs from the space, unless they were given."""
        if self._given is None:
            self._given = space.epochs

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1, lower being better."""
        w, y = np.asarray(weights, dtype=float), np.asarray(scores, dtype=float)
        epochs = self._given
        if epochs is None:
            mean = w.mean(axis=0)
            epochs = np.divide(1.0, mean, out=np.zeros_like(mean), where=mean > 0)
        if len(epochs) != w.shape[1]:
            raise UserError(f"epochs has {len(epochs)} entries, but mixtures {w.shape[1]} domains.")

        def model(seen: np.ndarray, values: np.ndarray) -> Model:
            return _law(seen * epochs, values, epochs)

        self._mean, self._spread = model(w, y), Spread(model, w, y)

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The mean (m,) of `predict` alone."""
        return self._mean(np.asarray(weights, dtype=float))

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) of a new score at `weights` (m, K).

        The deviation is 0 when all scores were equal, and infinite after a single score.
        """
        return self.mean(weights), self._spread(np.asarray(weights, dtype=float))


@dataclass(frozen=True)
class _Law:
    """One rho, tau and penalty: eta = constant + features @ amplitudes, standardised."""

    rho: float
    tau: float
    constant: float
    amplitudes: np.ndarray  # (2K,): b, h
    error: float  # leave-one-out mean square


def _law(seen: np.ndarray, scores: np.ndarray, epochs: np.ndarray) -> Model:
    """The mean of scores (n,) as a function of weights, from epochs `seen` (n, K)."""
    shift, spread = float(scores.min()), float(scores.std())
    if not spread > 1e-12 * max(1.0, abs(shift)):
        return lambda weights: np.full(len(weights), float(scores.mean()))
    floor = shift - FLOOR * spread
    deficit = np.log(scores - floor)
    centre, width = float(deficit.mean()), float(deficit.std())
    laws = list(_laws(seen, (deficit - centre) / width))
    errors = np.maximum([law.error for law in laws], 1e-12)
    shares = (errors.min() / errors) ** (EXPONENT * len(scores))
    shares = np.where(shares > KEPT * shares.sum(), shares, 0.0)

    def mean(weights: np.ndarray) -> np.ndarray:
        total = np.zeros(len(weights))
        for law, share in zip(laws, shares / shares.sum(), strict=True):
            if share:
                eta = law.constant + _features(weights * epochs, law.rho, law.tau) @ law.amplitudes
                total += share * np.exp(np.minimum(centre + width * eta, HIGHEST))
        return floor + total

    return mean


def _laws(seen: np.ndarray, z: np.ndarray) -> Iterator[_Law]:
    """A law for every rho, tau and penalty: non-negative ridge regression of z (n,)."""
    for rho in USED_UP:
        for tau in HARMFUL:
            features = _features(seen, rho, tau)
            for penalty in PENALTIES:
                yield _Law(rho, tau, *non_negative(features, z, penalty))


def _features(epochs: np.ndarray, rho: float, tau: float) -> np.ndarray:
    """What amplitudes multiply (n, 2K) at `epochs` (n, K): less for benefits, more for harm."""
    harm = np.logaddexp(0.0, np.log1p(epochs) - tau) - np.logaddexp(0.0, -tau)
    return np.concatenate([np.expm1(-epochs / rho), harm], axis=1)
