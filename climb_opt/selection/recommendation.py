"""What goes with a recommended mixture: what it should score, against what, and what to doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtri

from climb_opt.gp.mixed import Mixed
from climb_opt.gp.model import GaussianProcess, Surrogate
from climb_opt.history import MOST, History, facts_of
from climb_opt.measures import distance
from climb_opt.samplers.reach import listed
from climb_opt.text import plus_minus

LEVEL = 0.9  # of every interval
WIDTH = float(ndtri(0.5 + LEVEL / 2))  # standard deviations on either side
OVERCONFIDENT = 1.5  # root mean square of left-out errors in predicted standard deviations
BOLD = 2.0  # times the best trial's lead over the median that a mixture may promise beyond it
DROWNED = 1e-3  # of the largest component's spread: a component below it moves no score
ONE_SEED = 0.9  # of the trials: where so many trained with one seed, nothing is seen of others
FAR = 0.25  # share of tokens that differ from the nearest evaluated mixture


@dataclass(frozen=True)
class Estimate:
    """A mean with a 90 % interval, in the study's own units and direction."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.mean:.5g} [{self.low:.5g}, {self.high:.5g}]"


@dataclass(frozen=True)
class Recommendation(Mapping[str, float]):
    """A mixture to keep: a mapping domain -> weight that also says how far to trust it.

    `predicted` is the expected score (without noise), `gain` how much better than the prior and
    `gain_over_baseline` than the best baseline that was run, positive when better. They are None
    where nothing could be modelled, and for several objectives, where `front` lists the other
    mixtures of the Pareto set. `noise` is the standard deviation of one evaluation.
    `effective_domains` is the exponential of the mixture's entropy, `distance_from_prior` the share
    of tokens that differ. `rule` chose it among `trials` finished trials; `warnings` are sentences
    on what to doubt. `as_good` is empty where the mixture is shown to beat the prior and the best
    baseline, else a sentence that says what is as good, and which components would pay.
    `lead` is the gain over the best mixture that was evaluated; None for such a one. `rung` names
    the one that trials and figures are of, where the study has several: the target, or the highest
    that was reached; then nothing is promised of the target. `phases` are the shares of a run that
    have mixtures of their own: then it is a mapping "1/domain" -> weight in phase 1, and so on.

    >>> best = Recommendation({"web": 0.75, "code": 0.25}, "observed", Estimate(1.2, 1.1, 1.3))
    >>> best["code"], dict(best), best.predicted.half
    (0.25, {'web': 0.75, 'code': 0.25}, 0.09999999999999998)
    """

    mixture: Mapping[str, float]
    rule: str
    predicted: Estimate | None = None
    gain: Estimate | None = None
    gain_over_baseline: Estimate | None = None
    noise: float | None = None
    effective_domains: float = 1.0
    distance_from_prior: float = 0.0
    trials: int = 0
    warnings: tuple[str, ...] = ()
    as_good: str = ""
    lead: Estimate | None = None
    rung: str = ""
    phases: tuple[float, ...] = ()
    front: tuple[Mapping[str, float], ...] = field(default=())

    def __getitem__(self, domain: str) -> float:
        return self.mixture[domain]

    def __iter__(self) -> Iterator[str]:
        return iter(self.mixture)

    def __len__(self) -> int:
        return len(self.mixture)

    def __str__(self) -> str:
        width = max(len(domain) for domain in self.mixture)
        ranked = sorted(self.mixture.items(), key=lambda item: -item[1])
        rows = [(domain, f"{domain:<{width}}  {w:.4f}") for domain, w in ranked if w >= 5e-5]
        lines = [f"{self.as_good}."] if self.as_good else []
        for place, share in enumerate(self.phases, start=1):
            lines.append(f"phase {place}, {share:.3g} of the run")
            lines += [row for domain, row in rows if domain.startswith(f"{place}/")]
        lines += [] if self.phases else [row for _, row in rows]
        return "\n".join([*lines, *self.summary()])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As printed, where IPython shows it: as the last line of a notebook's cell."""
        for place, line in enumerate(str(self).splitlines()):
            if place:
                printer.break_()
            printer.text(line)

    def summary(self) -> list[str]:
        """Everything but the weights, one line each."""
        at = f" at {self.rung}" if self.rung else ""
        lines = [
            f"rule {self.rule}, {self.trials} trials{at}; {self.effective_domains:.1f} effective "
            f"domains of {len(self) // max(len(self.phases), 1)}, "
            f"{100 * self.distance_from_prior:.0f} % of the tokens moved from the prior"
        ]
        told = {
            "expected score": self.predicted,
            "gain over the prior": self.gain,
            "gain over the best baseline": self.gain_over_baseline,
            "gain over the best evaluated mixture": self.lead,
        }
        lines += [f"{what} {e}  (90 % interval)" for what, e in told.items() if e is not None]
        lines += [] if self.noise is None else [f"noise of one evaluation {self.noise:.3g}"]
        return lines + [f"caution: {warning}" for warning in self.warnings]


def in_words(estimate: Estimate | None, *, sign: bool = False) -> str:
    """ "4.2059 ± 0.0037", half the 90 % interval; a dash where nothing could be modelled.

    Args:
        sign: print a plus too, for differences.
    """
    found = (None, None) if estimate is None else (estimate.mean, estimate.half)
    return plus_minus(*found, sign=sign)


def doubts(
    learnt: History, history: History, surrogate: Surrogate, weights: np.ndarray
) -> list[str]:
    """Reasons to distrust the figures that go with `weights` (K,).

    Args:
        learnt: what the surrogate rests on: the history, and trials of lower rungs if there are.
    """
    found = []
    nearest = float(distance(learnt.weights, weights).min())
    if nearest > FAR:
        found.append(
            f"extrapolates: {100 * nearest:.0f} % of its tokens differ from the nearest "
            "evaluated mixture; evaluate it before relying on it"
        )
    lead = float(np.median(history.values) - history.values.min())
    promised = float(history.values.min() - surrogate.moments(np.sqrt(weights[None]))[0][0])
    if promised > BOLD * lead > 0:
        found.append(
            "promises more than was ever measured: its lead over the best trial is "
            f"{promised / lead:.1f} times that trial's over the median"
        )
    if isinstance(surrogate, Mixed):
        surrogate = surrogate.parts[-1]
    if isinstance(surrogate, GaussianProcess):
        mean, std = surrogate.left_out()
        if len(mean) > len(history):  # of the rung that mixtures are judged at
            assert learnt.rungs is not None
            top = learnt.rungs == learnt.rungs.max()
            mean, std = mean[top], std[top]
        error = float(np.sqrt(np.mean(((history.values - mean) / std) ** 2)))
        if error > OVERCONFIDENT:
            found.append(
                f"the model is over-confident: left-out scores miss by {error:.1f} of its standard "
                "deviations, so intervals are too narrow"
            )
    count = learnt.weights.shape[1]
    if len(learnt) < 2 * count:
        what = "weights of all phases" if learnt.shares else "domains"
        found.append(f"few trials: {len(learnt)} for {count} {what}")
    return found


def component_doubts(history: History) -> list[str]:
    """Words on components that say nothing of mixtures, or nothing beside another's scale."""
    if history.components is None or history.coefficients is None:
        return []
    low, high = np.quantile(history.components, [0.1, 0.9], axis=0)
    sizes = np.abs(history.coefficients) * (high - low)
    largest = int(np.argmax(sizes))
    same = np.ptp(history.components, axis=0) == 0
    drowned = (sizes < DROWNED * sizes[largest]) & ~same & (history.coefficients != 0)
    found = []
    if names := [name for name, still in zip(history.names, same, strict=True) if still]:
        found.append(f"the same in every trial, so no reason for any mixture: {listed(names)}")
    if names := [name for name, tiny in zip(history.names, drowned, strict=True) if tiny]:
        found.append(
            f"next to nothing in the score beside {history.names[largest]!r}, whose scale is over "
            f"{1 / DROWNED:,.0f} times theirs: {listed(names)}; balance them by coefficients in "
            "`score:`"
        )
    return found


def prior_doubt(known: bool) -> list[str]:
    """A word on a prior and bounds that nobody stated, where they are not `known`."""
    if known:
        return []
    return [
        "no space is stored: the uniform mixture stands for the prior, and no bounds are kept; "
        "give best_mixture the space"
    ]


def diverged_doubt(history: History) -> list[str]:
    """A word on scores so large that only their being large is used."""
    beyond = int(np.any(np.abs(history.values.reshape(len(history), -1)) >= MOST, axis=1).sum())
    if not beyond:
        return []
    return [f"{beyond} of {len(history)} scores, of runs that diverged, count as {MOST:.0e}"]


def noise_doubt(noise: float, spread: float) -> list[str]:
    """A word on the stated noise of one evaluation, if it is large for that spread of results."""
    if spread <= 0 or noise / spread < 0.5:
        return []
    return [
        f"noisy: one evaluation varies by {100 * noise / spread:.0f} % of the spread of random "
        "mixtures; confirm the gain with fresh seeds"
    ]


def shared_seed(history: History) -> tuple[int, int] | None:
    """The seed that nearly all trials trained with, and how many did; None where there is none."""
    seeds = Counter(facts_of(trial).get("seed") for trial in history.trials)
    (seed, most), *_ = seeds.most_common(1) or [(None, 0)]
    if seed is None or len(history) < 2 or most < ONE_SEED * len(history):
        return None
    return seed, most


def one_seed_doubt(history: History, others: float) -> list[str]:
    """A word on trials nearly all of which trained with one seed: as good as no noise, but wrong.

    Mixtures that are alike fare alike with it, so nothing shows how far another's scores lie.

    Args:
        others: how far they lie, where runs beside the study showed it.
    """
    if (shared := shared_seed(history)) is None:
        return []
    seed, most = shared
    said = f"one seed: {most} of {len(history)} trials trained with seed {seed}, "
    if others:
        return [f"{said}for which the mixture may be picked; intervals count with the others"]
    return [
        f"{said}and no interval here knows how far the scores of others lie; confirm the gain with "
        "fresh seeds, or let `climb-opt noise` measure that"
    ]


def unread_doubt(domains: Sequence[str]) -> list[str]:
    """A word on domains of which no trial read anything."""
    if not domains:
        return []
    its = "its weight is" if len(domains) == 1 else "their weights are"
    return [f"no trial read {listed(domains)}: {its} kept at what was tried"]
