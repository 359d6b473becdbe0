"""Signal and noise: how far mixtures differ in a component, and how far runs of one mixture do.

Notation: C components; N (C, C) the covariance of runs of one mixture, pooled within mixtures; T
that of distinct mixtures with one run each; S = T - N the signal's. A score with weights w >= 0 has
the relative noise sqrt(w'Nw / w'Sw), in units of the spread of mixtures: what
docs/simplex-gp.md calls noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize
from scipy.special import chdtri, fdtri

ERROR = 0.1  # of the intervals
FEWEST = 3  # distinct mixtures below which nothing is said of how far they differ
EXACT = 1e-9  # of a component's size: differences below are rounding
STEPS = 51  # from the score as it is to the weights found, among which is chosen


@dataclass(frozen=True)
class Part:
    """A component, or a whole score: standard deviations in its own unit.

    `noise` is pooled over mixtures with `freedom` degrees of freedom, [`low`, `high`] its 90 %
    interval; NaN where no mixture has two runs that report it. `signal` is 0 where mixtures differ
    no more than runs do; NaN where too few were run to say. `shown`: chance alone lets mixtures
    differ so much in one case of ten. `by_mixture` holds the noise at each.
    """

    name: str
    noise: float = math.nan
    low: float = math.nan
    high: float = math.nan
    freedom: int = 0
    signal: float = math.nan
    shown: bool = False
    by_mixture: Mapping[str, float] = field(default_factory=dict)

    @property
    def relative(self) -> float:
        """Noise / signal; infinite without any signal, NaN where either is not known."""
        if self.noise == 0 == self.signal:
            return math.nan
        return math.inf if self.signal == 0 else self.noise / self.signal

    @property
    def doubt(self) -> str:
        """Why it cannot be searched on, or why nothing is known; empty where it can be."""
        if math.isnan(self.noise):
            return "no mixture has two runs that report it"
        if math.isnan(self.signal):
            return f"fewer than {FEWEST} of the signal's mixtures report it"
        if self.noise == 0 == self.signal:
            return "constant"
        if not self.shown:
            return "mixtures are not shown to differ more than runs of one mixture"
        return "more noise than signal" if self.low > self.signal else ""


@dataclass(frozen=True)
class Runs:
    """Scores of runs, a column for each of `names`, NaN where one was not reported.

    Args:
        repeats: mixture -> its runs (r, C).
        mixtures: one run each of distinct mixtures (m, C).
    """

    names: tuple[str, ...]
    repeats: Mapping[str, np.ndarray]
    mixtures: np.ndarray

    def parts(self) -> list[Part]:
        """What is known of each component."""
        return [
            _part(name, {m: runs[:, c] for m, runs in self.repeats.items()}, self.mixtures[:, c])
            for c, name in enumerate(self.names)
        ]

    def total(self, name: str, score: Mapping[str, float]) -> Part:
        """The same of the sum of coefficient x component."""
        return _part(name, self.totals(score), self._added(self.mixtures, score))

    def totals(self, score: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Mixture -> the sums (r,) of coefficient x component of its runs that report all."""
        sums = {m: self._added(runs, score) for m, runs in self.repeats.items()}
        return {m: values[np.isfinite(values)] for m, values in sums.items()}

    def _added(self, runs: np.ndarray, score: Mapping[str, float]) -> np.ndarray:
        columns = [self.names.index(component) for component in score]
        return np.asarray(runs[:, columns] @ np.array(list(score.values())))


def weights_for(runs: Runs, score: Mapping[str, float]) -> dict[str, float]:
    """The coefficients with which the components of `score` tell mixtures apart best.

    Each keeps its sign. Noises and correlations are shrunk as far as few runs leave them open, and
    of all steps from `score` to what is best by them the furthest is taken that is no worse than
    `score` in the runs themselves. Where nothing is known `score` stays as it is.
    """
    parts = {part.name: part for part in runs.parts()}
    known = [name for name in score if score[name] and parts[name].signal > 0]
    shown = [name for name in known if parts[name].shown]
    start = runs.total("score", score)
    if not shown or not start.noise > 0:
        return dict(score)
    if len(known) == 1:
        return _furthest(runs, score, {known[0]: score[known[0]]})
    columns = [runs.names.index(name) for name in known]
    mixtures = _whole(runs.mixtures[:, columns])
    spread = mixtures.std(axis=0, ddof=1) if len(mixtures) > 1 else np.ones(len(known))
    signs = np.sign([score[name] for name in known])
    within = [_whole(r[:, columns]) / spread * signs for r in runs.repeats.values()]
    within = [rows - rows.mean(axis=0) for rows in within if len(rows) > 1]
    rows = np.concatenate(within) if within else np.empty((0, len(known)))
    freedom = len(rows) - len(within)
    if freedom < 1 or len(mixtures) < FEWEST or not spread.all():
        return dict(score)
    seen = np.asarray(np.corrcoef(mixtures / spread * signs, rowvar=False))
    total = _shrunk(seen, len(mixtures) - 1)
    noise = _noise(rows, freedom, len(mixtures) - 1)
    found = _best(total, noise, np.abs([score[name] for name in known]) * spread)
    return _furthest(runs, score, dict(zip(known, signs * found / spread, strict=True)))


# --- private -----------------------------------------------------------------------------------


def _part(name: str, repeats: Mapping[str, np.ndarray], mixtures: np.ndarray) -> Part:
    groups = {m: runs[np.isfinite(runs)] for m, runs in repeats.items()}
    groups = {m: runs for m, runs in groups.items() if len(runs) > 1}
    values = mixtures[np.isfinite(mixtures)]
    if not groups:
        return Part(name)
    rounding = EXACT * max(float(np.abs(r).max()) for r in [*groups.values(), values] if len(r))
    by_mixture = {m: _above(float(r.std(ddof=1)), rounding) for m, r in groups.items()}
    freedom = sum(len(r) - 1 for r in groups.values())
    noise = math.sqrt(sum((len(r) - 1) * by_mixture[m] ** 2 for m, r in groups.items()) / freedom)
    ends = (noise * math.sqrt(freedom / chdtri(freedom, p)) for p in (ERROR / 2, 1 - ERROR / 2))
    low, high = map(float, ends)
    signal, shown = math.nan, False
    if len(values) >= FEWEST:
        spread = _above(float(values.std(ddof=1)), rounding)
        signal = math.sqrt(max(spread**2 - noise**2, 0.0))
        shown = spread**2 > noise**2 * float(fdtri(len(values) - 1, freedom, 1 - ERROR))
    return Part(name, noise, low, high, freedom, signal, shown, by_mixture)


def _above(value: float, rounding: float) -> float:
    return value if value > rounding else 0.0


def _whole(rows: np.ndarray) -> np.ndarray:
    """The rows in which nothing is missing."""
    return rows[np.isfinite(rows).all(axis=1)]


def _noise(rows: np.ndarray, freedom: int, others: int) -> np.ndarray:
    """The noise's covariance (C, C), in units of each component's spread over mixtures.

    Args:
        rows: runs (n, C) around the mean of their mixture.
        freedom: of their variances.
        others: degrees of freedom of the spreads.
    """
    logs = np.log(np.clip((rows**2).sum(axis=0) / freedom, EXACT, 1.0))
    luck = 2 / freedom + 2 / others  # variance of the log of a ratio of variances
    truth = max(float(logs.var(ddof=1)) - luck, 0.0)
    scale = np.exp((logs.mean() + truth / (truth + luck) * (logs - logs.mean())) / 2)
    size = np.sqrt((rows**2).sum(axis=0))
    size = np.where(size > 0, size, 1.0)
    correlation = (rows / size).T @ (rows / size)
    np.fill_diagonal(correlation, 1.0)
    return np.outer(scale, scale) * _shrunk(correlation, freedom)


def _shrunk(correlation: np.ndarray, freedom: int) -> np.ndarray:
    """Correlations moved to 0 as far as chance explains them (Schäfer and Strimmer, 2005)."""
    apart = correlation[~np.eye(len(correlation), dtype=bool)]
    chance = float(((1 - apart**2) ** 2).sum()) / freedom
    seen = float((apart**2).sum())
    kept = 1 - min(chance / seen, 1.0) if seen > 0 else 0.0
    return np.asarray(kept * correlation + (1 - kept) * np.eye(len(correlation)))


def _best(total: np.ndarray, noise: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Weights (C,) >= 0 with the least noise for their signal, begun at `own` and elsewhere."""
    values, vectors = np.linalg.eigh(total - noise)
    signal = (vectors * np.maximum(values, 0.0)) @ vectors.T + EXACT * np.eye(len(own))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        n, s = (max(float(w @ m @ w), 1e-200) for m in (noise, signal))
        return math.log(n / s), 2 * noise @ w / n - 2 * signal @ w / s

    ratios = np.sqrt(np.diag(signal)) / np.diag(noise)
    starts = [own / own.sum(), ratios / ratios.sum(), *np.eye(len(own))]
    ends = [
        minimize(loss, w, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(own)).x
        for w in starts
    ]
    best = min((w for w in [*starts, *ends] if w.sum() > 0), key=lambda w: loss(w)[0])
    return np.asarray(best)


def _furthest(
    runs: Runs, score: Mapping[str, float], found: Mapping[str, float]
) -> dict[str, float]:
    """The step from `score` towards `found` that is furthest and no worse in the runs."""
    first = runs.total("score", score)
    size = runs.total("found", found)
    scale = math.hypot(first.noise, first.signal) / max(
        math.hypot(size.noise, size.signal), math.ulp(0.0)
    )
    for share in np.linspace(1.0, 0.0, STEPS):
        step = {n: (1 - share) * c + share * scale * found.get(n, 0.0) for n, c in score.items()}
        unit = sum(map(abs, step.values()))
        step = {n: float(f"{c / unit:.4g}") for n, c in step.items() if c}
        if runs.total("score", step).relative <= first.relative:
            return step
    return dict(score)
