"""Is the gain real? Mixtures retrained with common seeds, compared pairwise.

Mixtures trained with the same seed share their random numbers, so the difference per seed has less
noise than either score. Over R seeds the mean difference d has the interval d ± t(R-1) s/√R, s the
standard deviation of the R differences: Student's, because R is small, and per pair, because the
spread between seeds differs up to 25-fold across the simplex (Marin's issue 2345), which forbids
pooling. With several finalists, or several looks at the data, the level is split among them
(Bonferroni). The interval covers the noise of seeds only: the evaluation set is one and the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import fmean, stdev
from typing import Any

import optuna
from optuna.trial import TrialState

from climb_opt.attributes import CONFIRM, INTERRUPTED, SLOT
from climb_opt.history import is_moved
from climb_opt.measures import apart
from climb_opt.selection import Recommendation
from climb_opt.selection.promise import NAMES
from climb_opt.text import plus_minus
from climb_opt.view import StudyView, all_trials

SEED_SLOT = "/seed-"  # "found/seed-3"
LEVEL = 0.05
SAME = 0.005  # mixtures that share all but this much of their tokens are one


@dataclass(frozen=True)
class Difference:
    """`gain` of one mixture over another: positive is better whatever the direction.

    `half` is half the width of its interval; None with fewer than two common seeds.
    """

    name: str
    other: str
    gain: float
    half: float | None
    seeds: int

    @property
    def verdict(self) -> str:
        """ "better", "worse", "not distinguishable", or "one seed: cannot tell"."""
        if self.half is None:
            return "one seed: cannot tell"
        if abs(self.gain) <= self.half:
            return "not distinguishable"
        return "better" if self.gain > 0 else "worse"

    def sentence(self, unit: str) -> str:
        """The verdict in plain words, with its interval."""
        if self.half == self.gain == 0:
            return f"{self.name} and {self.other} score the same with each of {self.seeds} seeds"
        tail = f"{'' if unit == 'score' else ' ' + unit} ({self.seeds} seeds)"
        if self.half is None:
            return (
                f"{self.name} gains {self.gain:+.3g} over {self.other} with one seed: too few "
                "for an interval"
            )
        if self.verdict == "not distinguishable":
            gain = plus_minus(self.gain, self.half, sign=True)
            return f"{self.name} is not distinguishable from {self.other}: gain {gain}{tail}"
        by = plus_minus(abs(self.gain), self.half)
        return f"{self.name} is {self.verdict} than {self.other} by {by}{tail}"


@dataclass(frozen=True)
class Confirmation:
    """Retrained mixtures: name -> weights, and name -> seed -> score in the study's units."""

    study: str
    of: str
    mixtures: Mapping[str, Mapping[str, float]]
    finalists: tuple[str, ...]  # in the order of interest; the first is the one recommended
    references: tuple[str, ...]  # the baselines
    scores: Mapping[str, Mapping[int, float]]
    sign: float  # +1 where lower is better
    unit: str = "score"
    level: float = LEVEL  # of error, of each interval
    failed: int = 0
    dropped: tuple[str, ...] = ()  # finalists that the race left behind
    methods: tuple[str, ...] = ()  # references of which a method set the weights again
    twins: Mapping[str, str] = field(default_factory=dict)  # reference -> the same as a finalist

    def mean(self, name: str) -> float:
        """Mean score over seeds; NaN without one."""
        return fmean(self.scores[name].values()) if self.scores.get(name) else math.nan

    def spread(self, name: str) -> float:
        """Standard deviation over seeds; NaN with fewer than two."""
        values = list(self.scores.get(name, {}).values())
        return stdev(values) if len(values) > 1 else math.nan

    def difference(self, name: str, other: str) -> Difference | None:
        """How much better `name` is than `other` over their common seeds; None without one."""
        ours, theirs = self.scores.get(name, {}), self.scores.get(other, {})
        gains = [self.sign * (theirs[s] - ours[s]) for s in sorted(set(ours) & set(theirs))]
        if not gains:
            return None
        return Difference(name, other, fmean(gains), half_width(gains, self.level), len(gains))

    def differences(self) -> list[Difference]:
        """Every finalist against every baseline."""
        pairs = [(f, r) for f in self.finalists for r in self.references]
        return [d for f, r in pairs if (d := self.difference(f, r)) is not None]

    def finalist_of(self, mixture: Mapping[str, float]) -> str | None:
        """Which finalist is this mixture; None where another was retrained."""
        return next((f for f in self.finalists if apart(self.mixtures[f], mixture) <= SAME), None)

    def as_good(self, finalist: str | None = None) -> str | None:
        """Which baseline is as good as a finalist; empty where it beats them all.

        None where too few seeds have been trained to say.

        Args:
            finalist: by default the mixture that was recommended.
        """
        name = finalist or self.finalists[0]
        ours = [d for d in self.differences() if d.name == name and d.half is not None]
        if not ours:
            return None
        for one in ours:
            if one.verdict != "better":
                name = NAMES.get(one.other, f"The baseline {one.other!r}")
                return f"{name} is as good for all that is known: {one.sentence(self.unit)}"
        return ""

    def remarks(self) -> list[str]:
        """Sentences on baselines that methods trained, and on those that are finalists, too."""
        names = ", ".join(self.methods)
        said = "trained by the method again with each seed; the weights shown are the mean of its "
        rest = "path in the search, or what it begins with where it has none"
        twins = [f"{r} is the same mixture as {f}, trained once." for r, f in self.twins.items()]
        return [f"{names}: {said}{rest}.", *twins] if names else twins

    def verdict(self) -> str:
        """One plain line: the recommended mixture against each baseline."""
        ours = [d for d in self.differences() if d.name == self.finalists[0]]
        if not ours:
            return "nothing to compare yet"
        return "; ".join(d.sentence(self.unit) for d in ours)


def no_claim(chosen: Recommendation | None, confirmation: Confirmation | None) -> str:
    """What is as good as the recommended mixture; empty where it beats them all.

    What was retrained with fresh seeds says more than what the search expects, but of that mixture
    alone: the search, or what is known of its noise, may have gone on since.
    """
    tested = None
    if confirmation is not None:
        finalist = None if chosen is None else confirmation.finalist_of(chosen)
        if chosen is None or finalist is not None:
            tested = confirmation.as_good(finalist)
    return tested if tested is not None else "" if chosen is None else chosen.as_good


def another(chosen: Recommendation | None, confirmation: Confirmation) -> str:
    """That another mixture was retrained than is recommended; empty where it is the same."""
    if chosen is None or confirmation.finalist_of(chosen) is not None:
        return ""
    far = apart(confirmation.mixtures[confirmation.finalists[0]], chosen)
    return (
        "What was retrained is another mixture than the one recommended now: "
        f"{100 * far:.0f} % of the tokens differ"
    )


def first_line(chosen: Recommendation | None, confirmation: Confirmation | None) -> str:
    """`no_claim` as a sentence, to be said first."""
    found = no_claim(chosen, confirmation)
    return f"{found}." if found else ""


def half_width(gains: Sequence[float], level: float = LEVEL) -> float | None:
    """Half the Student interval of the mean at confidence 1 - level; None for one value."""
    if len(gains) < 2:
        return None
    return student(1 - level / 2, len(gains) - 1) * stdev(gains) / math.sqrt(len(gains))


def student(probability: float, freedom: int) -> float:
    """The quantile of Student's t with `freedom` degrees of freedom."""
    from scipy.special import stdtrit  # scipy.stats: docs/notes/running.md#numbers

    return float(stdtrit(freedom, probability))


def read_confirmation(study: optuna.Study) -> Confirmation | None:
    """What a confirm study holds so far; None when it is not one."""
    stored: dict[str, Any] | None = study.user_attrs.get(CONFIRM)
    if stored is None:
        return None
    scores: dict[str, dict[int, float]] = {name: {} for name in stored["mixtures"]}
    failed = 0
    for trial in all_trials(study):
        place = read_slot(trial.user_attrs.get(SLOT))
        if place is None or place[0] not in scores:
            continue
        told = trial.state == TrialState.COMPLETE or is_moved(trial)
        if told and math.isfinite(trial.value or math.nan):
            scores[place[0]][place[1]] = float(trial.value or 0.0)
        failed += trial.state == TrialState.FAIL and not trial.user_attrs.get(INTERRUPTED)
    scores.update({name: scores[f] for name, f in stored.get("twins", {}).items()})
    kept = {f.name: stored[f.name] for f in fields(Confirmation) if f.name in stored}
    kept = {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}
    sign = StudyView(study).sign
    return Confirmation(study.study_name, scores=scores, sign=sign, failed=failed, **kept)


def read_slot(slot: Any) -> tuple[str, int] | None:
    """("found", 3) of the slot "found/seed-3"; None for another kind of slot."""
    if not isinstance(slot, str) or SEED_SLOT not in slot:
        return None
    name, _, seed = slot.rpartition(SEED_SLOT)
    return (name, int(seed)) if seed.isdigit() else None
