"""What a recommended mixture should score, less what being picked makes look better than it is.

A rule takes the mixture that looks best of very many, so what it looks like is partly luck. A
study's left-out and later scores do not show how much: no rule picked them. Searches of which the
truth is known do, and what they show is the same for all samplers and noises: half of the lead that
the model sees over the best evaluated mixture, and half a standard deviation, are not there
(docs/notes/searching.md#what-is-promised). What was tried but not picked, as the prior, looks half
of its own standard deviation worse than it is: a process draws noisy scores towards one another. It
draws what was not tried, too, the more of what scores differ by is noise. Far from its trials it
doubts a score by more than it errs, near to them by less: a quarter of the noise of one measurement
and three quarters of its standard deviation are nearer the truth, the more of it the fewer the
trials, for of few it knows its own doubt less well. Small wrinkles it takes for noise, and averages
away: a score is doubted by a twenty-fifth of what results differ by beside, a difference from a
mixture that was not picked, as the prior, by a twelfth, if noise is as much.

Where hardly anything is noise, what a process takes for it is what it cannot follow. Averaged over
neighbours that is little, but the true score of one mixture has all of it. There no result was
lucky either, and a lead is the less real the farther it goes beyond what was seen: half of it is
none where it is as large as the spread of all results, and less of a smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.model import Surrogate
from climb_opt.gp.uneven import OtherSeeds
from climb_opt.history import History
from climb_opt.measures import distance
from climb_opt.selection.recommendation import LEVEL, WIDTH, Estimate, in_words
from climb_opt.simplex import MixtureSpace
from climb_opt.text import plus_minus

LUCK = 0.5  # share of the lead over the best evaluated mixture that is none, at most without noise
LUCK_STD = 0.55  # standard deviations that a pick looks better than it is, a tried prior worse
DOUBT = 0.75  # share of its standard deviation by which a process of many trials misses a score
NOISE_STD = 0.25  # share of one measurement's noise that it is missed by, too
UNFOLLOWED = 0.08  # share of the results' spread by which a difference is missed beside its doubt
OWN_UNFOLLOWED = 0.04  # and by which one score is
LEAD_STD = 0.2  # standard deviation of what is left of the lead, as a share of it
PRIOR = "prior"
UNIFORM = "uniform"
NAMES = {PRIOR: "The proportional mixture", UNIFORM: "The uniform mixture"}
DRAWS = 4000  # mixtures among which a component's own optimum is sought
ON_RUNGS = 1.3  # what intervals are multiplied by at least where cheaper rungs are learnt from
UNSEEN = 1.5  # and those of gains over a mixture that no trial of the target has run, beside that
SAME = 1e-3  # share of tokens within which two mixtures are one
FEW = 16  # trials below which what the model says of its own doubt cannot be relied on
SOME = 48  # trials from which it can


@dataclass(frozen=True)
class Promise:
    """What `surrogate` lets expect of `weights` (K,), picked from all it knows.

    Args:
        evaluated: mixtures (n, K) with results.
        misfit: standard deviation of what the surrogate cannot follow, where hardly anything is
            noise: no score is known better. 0 under noise.
        below: the surrogate rests on rungs below the one that evaluated, too.
        seeds: how far other seeds' scores lie, where all trials share one and that was measured.
    """

    surrogate: Surrogate
    weights: np.ndarray
    evaluated: np.ndarray
    misfit: float = 0.0
    below: bool = False
    seeds: OtherSeeds | None = None

    @property
    def lead(self) -> float:
        """How far its expected value lies below that of the best evaluated mixture, at least 0."""
        known = float(self.surrogate.mean(np.sqrt(self.evaluated)).min())
        return max(known - float(self.surrogate.mean(np.sqrt(self.weights[None]))[0]), 0.0)

    @property
    def luck(self) -> float:
        """How much of the lead is none."""
        lead = self.lead
        if not self.misfit or not lead:
            return LUCK * lead
        return lead * min(LUCK, lead / (lead + self.surrogate.spread))

    @property
    def widening(self) -> float:
        """What every interval is multiplied by: for there being so few trials, or several rungs."""
        return max(ON_RUNGS if self.below else 1.0, FEW / len(self.evaluated))

    @property
    def doubting(self) -> float:
        """The share of its standard deviation by which the process misses a score: all of it up to
        `FEW` trials, unless for the rungs below every interval is wider already."""
        if self.below:
            return DOUBT
        return float(np.interp(len(self.evaluated), (FEW, SOME), (1.0, DOUBT)))

    def score(self, sign: float) -> Estimate:
        """The expected score; `sign` is -1 where higher is better."""
        root = np.sqrt(self.weights[None])
        mean, std = self.surrogate.moments(root)
        doubt = self.doubting * std
        spread = self._with_misfit(float(doubt[0] ** 2), doubt)
        hidden = np.hypot(NOISE_STD * self.surrogate.noise_at(root)[0], self._hides(OWN_UNFOLLOWED))
        spread = float(np.hypot(spread, hidden))
        others = self._of_seeds(self.weights)
        return self._estimate(sign * float(mean[0]), spread, float(std[0]), sign, others)

    def gain(self, baseline: np.ndarray, *, picked: bool = False) -> Estimate:
        """How much better it is than `baseline` (K,); positive is better.

        Args:
            picked: the baseline was picked by what it looks like, too. One that was tried for
                another reason, as the prior, looks worse than it is under noise.
        """
        if np.array_equal(self.weights, baseline):
            return Estimate(0.0, 0.0, 0.0)
        mean, covariance = self.surrogate.joint(np.sqrt(np.stack([self.weights, baseline])))
        own = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        variance = max(float(np.sum(np.diag(covariance)) - 2 * covariance[0, 1]), 0.0)
        apart = float(np.sqrt(variance))
        drawn, hidden = (0.0, 0.0) if picked else (self._drawn(baseline), self._hides(UNFOLLOWED))
        spread = float(np.hypot(self._with_misfit(variance, own), hidden))
        if self.unseen(baseline):
            spread *= UNSEEN
        # What was picked by the same seed is mostly like it, and fares like it.
        others = 0.0 if picked else self._of_seeds(self.weights, baseline)
        luck = apart + drawn * (float(own.sum()) - apart)
        return self._estimate(float(mean[1] - mean[0]), spread, luck, -1.0, others)

    def _drawn(self, baseline: np.ndarray) -> float:
        """How far a process draws the score of `baseline` (K,) towards others: 0 not, 1 as far as a
        noisy one that was tried."""
        if self.misfit:  # with hardly any noise, no score is drawn away
            return 0.0
        if self._tried(baseline):
            return 1.0
        noise, spread = self.surrogate.noise, self.surrogate.spread
        return float(min(noise / spread, 1.0) ** 2) if spread > 0 else 1.0

    def _hides(self, share: float) -> float:
        """What noise hides of a function's own wrinkles, which are this `share` of what results
        differ by. Where hardly anything is noise the misfit stands for it."""
        return 0.0 if self.misfit else min(share * self.surrogate.spread, self.surrogate.noise)

    def unseen(self, baseline: np.ndarray) -> bool:
        """Whether only rungs below the target have run `baseline` (K,), or ones like it."""
        return self.below and not self._tried(baseline)

    def _tried(self, weights: np.ndarray) -> bool:
        return float(distance(self.evaluated, weights).min()) < SAME

    def gain_over_score(self, value: float) -> Estimate:
        """How much better it is than one measured score, oriented so that lower is better."""
        mean, std = self.surrogate.moments(np.sqrt(self.weights[None]))
        spread = np.hypot(self._with_misfit(float(std[0] ** 2), std), self.surrogate.noise)
        others = self._of_seeds(self.weights, self.weights)
        return self._estimate(value - float(mean[0]), float(spread), float(std[0]), -1.0, others)

    def _of_seeds(self, *mixtures: np.ndarray) -> float:
        """Standard deviation of what other seeds add to the scores of mixtures (K,), together."""
        if self.seeds is None:
            return 0.0
        return float(np.linalg.norm(self.seeds.at(np.sqrt(np.stack(mixtures)))))

    def _with_misfit(self, variance: float, own: np.ndarray) -> float:
        """The standard deviation of `variance` and what each of `own` (m,) lacks of the misfit."""
        return float(np.sqrt(variance + np.maximum(self.misfit**2 - own**2, 0.0).sum()))

    def _estimate(
        self, mean: float, std: float, picked: float, worse: float, others: float
    ) -> Estimate:
        """The interval around `mean`, moved towards `worse` by what is luck.

        Args:
            picked: standard deviation of what was picked by what it looks like.
            others: what other seeds add, which was measured: few trials make it no less sure.
        """
        mean += worse * (self.luck + LUCK_STD * picked)
        known = float(np.hypot(std, LEAD_STD * self.lead)) * self.widening
        half = WIDTH * float(np.hypot(known, others))
        return Estimate(mean, mean - half, mean + half)


def small_doubt(promise: Promise) -> list[str]:
    """A word on intervals that are wider for want of trials."""
    trials = len(promise.evaluated)
    if trials >= FEW:
        return []
    return [f"{trials} trials: intervals are {promise.widening:.1f} times as wide as the model's"]


def unseen_doubt(promise: Promise, baseline: np.ndarray, name: str) -> list[str]:
    """A word on a gain over `baseline` (K,) that the target has not run."""
    if not promise.unseen(baseline):
        return []
    return [
        f"the target has not run the {name} mixture: the gain over it rests on cheaper rungs, so "
        f"its interval is {UNSEEN:g} times as wide; to know more, keep it among the baselines, or "
        "enqueue it"
    ]


def as_good(gain: Estimate | None, baseline: str, why: str = "") -> str:
    """That `baseline` is as good for all that is known; empty where the pick is shown to beat it.

    Args:
        gain: over it; None where nothing could be modelled, with `why`.
    """
    if gain is not None and gain.low > 0:
        return ""
    name = NAMES.get(baseline, f"The baseline {baseline!r}")
    shown = why if gain is None else f"the gain over it is {in_words(gain, sign=True)}"
    return f"{name} is as good for all that is known: {shown}"


def paying(
    space: MixtureSpace, history: History, compared: np.ndarray, *, seeds: bool = False
) -> str:
    """Which components of the score have a mixture of their own that is shown to beat the prior.

    Their intervals are wider, for there being several: one in ten studies in which none pays names
    one. Empty where trials store no components.

    Args:
        compared: mixtures (m, K) whose scores are no outliers, the prior first.
        seeds: intervals of the score count what other seeds add. Of components nothing measured
            that, and so it is said.
    """
    parts, coefficients = history.components, history.coefficients
    if parts is None or coefficients is None or len(history.names) < 2:
        return ""
    beliefs, found = Beliefs(space), []
    pool = np.concatenate([history.weights, space.sample_mixed(np.random.default_rng(0), DRAWS)])
    used = [c for c in np.flatnonzero(coefficients) if np.ptp(parts[:, c]) > 0]
    for c in used:
        values = float(np.sign(coefficients[c])) * parts[:, c]
        own = replace(history, values=values, components=None, coefficients=None, names=())
        surrogate = beliefs.promise(own, compared)
        pick = pool[int(np.argmin(surrogate.mean(np.sqrt(pool))))]
        gain = Promise(surrogate, pick, history.weights).gain(compared[0])
        half = gain.half * float(ndtri(1 - (1 - LEVEL) / 2 / len(used))) / WIDTH
        if gain.mean > half:
            found.append(f"{history.names[c]} ({plus_minus(gain.mean, half, sign=True)})")
    if not found:
        return "no component of the score is shown to gain by a mixture of its own either"
    but = ", other seeds not counted" if seeds else ""
    return f"by a mixture of its own would gain{but}: {', '.join(found)}"
