"""What seeds allow us to say: medians, quartiles, paired intervals, corrected tests.

Runs are paired by seed: with one seed all arms share their random numbers (noise by slot, training
seed, first round), so differences within a seed are far less noisy than the arms' own spreads.
Nothing here assumes a distribution: bootstrap intervals and sign-flip tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MIN_SEEDS = 5  # below it a bootstrap interval of paired differences covers far less than it says
RESAMPLES = 4000
FEWEST_PAIRS = 4  # below which no interval of a rank correlation is less than all of it
PRESUMED = 10  # pairs for which normal scores count in the error of a rank correlation
EXACT_UP_TO = 14  # seeds: 2^14 sign patterns are enumerated, beyond that they are drawn
SEED = 0  # of what is drawn, so that a table is the same every time it is printed


@dataclass(frozen=True)
class Summary:
    """One arm over seeds: `n` finite values, their median and quartiles (nan when n is 0)."""

    n: int
    median: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Paired:
    """An arm against the reference: mean difference over shared seeds; negative is better.

    `interval` is None with fewer than `MIN_SEEDS` pairs. `p` is the two-sided sign-flip
    test; `corrected` is filled by `holm`. `wins` counts pairs in which the arm is lower.
    """

    n: int
    difference: float
    interval: tuple[float, float] | None
    p: float
    wins: int
    corrected: float = float("nan")


def summarise(values: Sequence[float]) -> Summary:
    """Median and quartiles of the finite values."""
    finite = np.array([v for v in values if np.isfinite(v)], dtype=float)
    if not finite.size:
        return Summary(0, np.nan, np.nan, np.nan)
    lower, median, upper = np.percentile(finite, [25, 50, 75])
    return Summary(len(finite), float(median), float(lower), float(upper))


def compare(arm: Mapping[int, float], reference: Mapping[int, float]) -> Paired:
    """Paired comparison over the seeds that both have a finite value for.

    Two fixed mixtures differ by the same amount in every seed: that counts as one pair.

    Args:
        arm, reference: seed -> value, lower is better.
    """
    shared = sorted(
        s for s in arm if s in reference and np.isfinite(arm[s]) and np.isfinite(reference[s])
    )
    differences = np.array([arm[s] - reference[s] for s in shared])
    if not len(differences):
        return Paired(0, np.nan, None, np.nan, 0)
    if all(np.ptp([side[s] for s in shared]) == 0 for side in (arm, reference)):
        differences = differences[:1]
    enough = len(differences) >= MIN_SEEDS
    return Paired(
        n=len(differences),
        difference=float(differences.mean()),
        interval=bootstrap_interval(differences) if enough else None,
        p=sign_flip(differences),
        wins=int(np.sum(differences < 0)),
    )


def bootstrap_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """Interval (low, high) for the mean of `values` (n,): bootstrap-t, which holds at n = 5.

    The percentile interval is too short by about sqrt((n-1)/n) and a t factor at the seeds people
    can afford; studentising repairs most of that (coverage is tested).
    """
    n, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(n)
    if error <= 1e-12 * max(1.0, abs(mean)):
        return mean, mean
    rng = np.random.default_rng(SEED)
    draws = values[rng.integers(0, n, size=(RESAMPLES, n))]
    errors = draws.std(axis=1, ddof=1) / np.sqrt(n)
    usable = errors > 1e-3 * error  # a resample of one value repeated has no t statistic
    t = (draws.mean(axis=1)[usable] - mean) / errors[usable]
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    return mean - float(high) * error, mean - float(low) * error


def sign_flip(differences: np.ndarray) -> float:
    """Two-sided p-value (0, 1] of "differences are symmetric about 0" for the mean (n,).

    Exact for n <= 14: with n pairs it cannot be below 2 / 2^n, so 3 seeds never reach .05.
    """
    n = len(differences)
    observed = abs(float(differences.sum()))
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = 1 - 2 * np.random.default_rng(SEED).integers(0, 2, size=(2**EXACT_UP_TO, n))
        signs[0] = 1  # the observed pattern belongs to the reference set
    sums = np.abs(signs @ differences)
    return float(np.mean(sums >= observed * (1 - 1e-12)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: adjusted p-values in the given order; nan stays nan and is not counted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if np.isfinite(p[i])]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * float(p[i])))
        adjusted[i] = running
    return [float(a) for a in adjusted]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two vectors (n,), ties averaged; nan when either is constant."""
    x, y = (_ranks(np.asarray(v, dtype=float)) for v in (a, b))
    return _cosine(x - x.mean(), y - y.mean())


def rank_interval(a: np.ndarray, b: np.ndarray, *, level: float = 0.9) -> tuple[float, float]:
    """Interval of the rank correlation of what the pairs of `a` and `b` (n,) were drawn from.

    (-1, 1) where nothing can be said: fewer than `FEWEST_PAIRS`, or all of one are equal.

    By Fisher's transform, from the sample's own correlation to the one without its bias, (n - 2)
    rho + 3 tau = (n + 1) r: few pairs correlate less than what they are drawn from. The standard
    error is the jackknife's, with Bonett and Wright's (2000), which presumes normal scores, counted
    for `PRESUMED` pairs. An order that agrees wholly is taken for half a swap of neighbours less,
    or its interval would be a point. tests/bench/bench_agreement.py measures how often it holds.
    """
    n, found = len(a), spearman(a, b)
    if n < FEWEST_PAIRS or not np.isfinite(found):
        return -1.0, 1.0
    x, y = (np.sign(np.subtract.outer(v, v)) for v in (np.asarray(a, float), np.asarray(b, float)))
    unbiased = ((n + 1) * found - 3 * _cosine(x.ravel(), y.ravel())) / (n - 2)
    most = 1.0 - 6.0 / (n * (n * n - 1.0))
    here, there = np.clip([found, unbiased], -most, most)
    # Column i: the ranks without pair i.
    rest = [np.where(np.eye(n, dtype=bool), 0.0, v.sum(axis=1)[:, None] - v) for v in (x, y)]
    without = np.array([_cosine(p, q) for p, q in zip(*(v.T for v in rest), strict=True)])
    spread = float(np.nanvar(without)) * (n - 1) / (1 - here**2) ** 2
    normal = (1.0 + found**2 / 2.0) / (n - 3)
    error = np.sqrt((PRESUMED * normal + n * spread) / (PRESUMED + n))
    from scipy.special import ndtri  # 100 ms, for those who ask how sure ranks are

    half = float(ndtri(0.5 + level / 2) * error)
    low, high = np.arctanh(min(here, there)) - half, np.arctanh(max(here, there)) + half
    return float(min(np.tanh(low), found)), float(max(np.tanh(high), found))


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]
