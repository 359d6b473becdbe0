"""The mixing law: a score is a constant plus an exponential of a linear function of the mixture.

    f(w) = c + expm1(k g.x) / k,    x = sqrt(w) - mean of sqrt(w)

This is the law `c + exp(b + t.x)` of Data Mixing Laws (arXiv 2403.16952), which Olmix uses too, in
coordinates that stay sane with fewer runs than domains: `g` (K,) is the slope at the average
mixture, kept small by a ridge penalty, and the one number `k` bends it. k = 0 is a linear law;
k > 0 a loss that saturates below, k < 0 an accuracy that saturates above. The root of the weights
ranks better than the weights (docs/notes/searching.md#predictors).

Laws of many penalties and bends are averaged, each with the weight its leave-one-out error earns
(exact for the linearised law); what they disagree on is part of the spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from climb_opt.predictors.base import levelled

PENALTIES = np.geomspace(100.0, 1e-4, 13)  # on g, for standardised scores
BENDS = (0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 2.0)  # k, for standardised scores
STEPS = 12  # Gauss-Newton steps for each pair; more change no digit that matters
LIMIT = 20.0  # of |k g.x| while fitting: far outside anything the data can support
# A law weighs error^(-n/4). n/2 would be the likelihood's exponent, but leave-one-out errors are
# noisy themselves: with n/2 one standard deviation covers 45-60 % at n = 16, with n/4 56-68 %.
EXPONENT = 0.25


@dataclass(frozen=True)
class _Law:
    theta: np.ndarray  # (1 + K): c, g
    bend: float
    covariance: np.ndarray  # (1 + K, 1 + K): of theta, for a residual variance of 1
    reach: tuple[float, float]  # least and largest g.x that was fitted
    error: float  # leave-one-out mean square
    variance: float  # of a residual, calibrated on the leave-one-out errors

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (n,) of a new standardised score at centred roots `x` (n, K)."""
        value, jacobian = _evaluate(x, self.theta, self.bend, self.reach)
        own = np.sum((jacobian @ self.covariance) * jacobian, axis=1)
        return value, self.variance * (1.0 + own)


class LogLinearPredictor:
    """The mixing law on sqrt weights, ridge-fitted; works from one run on.

    The spread is that of a new trial's score: residual noise plus what the linearised law does not
    know about its own coefficients, scaled so that the leave-one-out errors fit it.
    """

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learn from `weights` (n, K) and `scores` (n,), n >= 1."""
        x = np.sqrt(np.asarray(weights, dtype=float))
        y, self._shift, self._scale = levelled(scores)
        self._center = x.mean(axis=0)
        self._unknown = len(y) == 1
        if not self._scale:
            return
        laws = _fit_all(x - self._center, (y - self._shift) / self._scale)
        errors = np.maximum([law.error for law in laws], 1e-12)
        shares = (errors.min() / errors) ** (EXPONENT * len(y))
        kept = shares > 1e-3
        self._laws = [law for law, keep in zip(laws, kept, strict=True) if keep]
        self._shares = shares[kept] / shares[kept].sum()

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The mean (m,) of `predict` alone, many times faster."""
        w = np.asarray(weights, dtype=float)
        if not self._scale:
            return np.full(len(w), self._shift)
        x = np.sqrt(w) - self._center
        values = [
            _bent(x @ law.theta[1:], law.bend, law.reach)[0] + law.theta[0] for law in self._laws
        ]
        return self._shift + self._scale * np.tensordot(self._shares, values, axes=1)

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and standard deviation (m,) at `weights` (m, K).

        The deviation is 0 when all scores were equal, and infinite after a single score.
        """
        w = np.asarray(weights, dtype=float)
        if not self._scale:
            return np.full(len(w), self._shift), np.full(len(w), np.inf if self._unknown else 0.0)
        x = np.sqrt(w) - self._center
        first, second = np.zeros(len(w)), np.zeros(len(w))  # moments over the laws
        for law, share in zip(self._laws, self._shares, strict=True):
            value, own = law.predict(x)
            first += share * value
            second += share * (value**2 + own)
        std = np.sqrt(np.maximum(second - first**2, 0.0))
        return self._shift + self._scale * first, self._scale * std


ANYWHERE = (-np.inf, np.inf)


def _evaluate(
    x: np.ndarray, theta: np.ndarray, bend: float, reach: tuple[float, float] = ANYWHERE
) -> tuple[np.ndarray, np.ndarray]:
    """The law (n,) and its derivatives (n, 1 + K) by c and g."""
    value, gain = _bent(x @ theta[1:], bend, reach)
    return theta[0] + value, np.concatenate([np.ones((len(x), 1)), gain[:, None] * x], axis=1)


def _bent(
    slope: np.ndarray, bend: float, reach: tuple[float, float] = ANYWHERE
) -> tuple[np.ndarray, np.ndarray]:
    """The bent slope (n,) and its derivative; straight on beyond `reach`.

    Past the mixtures that were fitted, the exponential would promise a million standard deviations
    where a few runs happened to bend it (16 runs of 17 domains, per component).
    """
    if not bend:
        return slope, np.ones(len(slope))
    inside = np.clip(slope, *reach)
    bent = np.clip(bend * inside, -LIMIT, LIMIT)
    gain = np.exp(bent)
    return np.expm1(bent) / bend + gain * (slope - inside), gain


def _fit_all(x: np.ndarray, z: np.ndarray) -> list[_Law]:
    laws = []
    for bend in BENDS:
        theta = np.zeros(1 + x.shape[1])
        for penalty in PENALTIES:  # from stiff to loose, each starting from the last
            law = _fit(x, z, theta, bend, penalty)
            theta = law.theta
            laws.append(law)
    return laws


def _fit(x: np.ndarray, z: np.ndarray, theta: np.ndarray, bend: float, penalty: float) -> _Law:
    ridge = np.full(len(theta), penalty)
    ridge[0] = 1e-9  # the constant is free

    def cost(t: np.ndarray) -> float:
        return float(np.sum((z - _evaluate(x, t, bend)[0]) ** 2) + ridge @ t**2)

    now = cost(theta)
    for _ in range(STEPS if bend else 1):
        value, jacobian = _evaluate(x, theta, bend)
        normal = cho_factor(jacobian.T @ jacobian + np.diag(ridge))
        step = cho_solve(normal, jacobian.T @ (z - value) - ridge * theta)
        for halving in (1.0, 0.5, 0.25, 0.06):
            trial = theta + halving * step
            if (new := cost(trial)) < now:
                break
        else:
            break
        done = now - new < 1e-6 * now
        theta, now = trial, new
        if done:
            break
    value, jacobian = _evaluate(x, theta, bend)
    covariance = np.linalg.inv(jacobian.T @ jacobian + np.diag(ridge))
    leverage = np.sum((jacobian @ covariance) * jacobian, axis=1)
    left_out = (z - value) / np.maximum(1.0 - leverage, 1e-3)
    error = float(np.mean(left_out**2))
    # A left-out point has variance s2 / (1 - leverage): the s2 that makes this true on average.
    variance = float(np.mean(left_out**2 * np.maximum(1.0 - leverage, 1e-3)))
    fitted = x @ theta[1:]
    reach = (float(fitted.min()), float(fitted.max()))
    return _Law(theta, bend, covariance, reach, error, variance)
