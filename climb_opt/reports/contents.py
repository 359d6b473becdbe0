"""Everything a report says, computed once: the HTML page and the Markdown show the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from climb_opt import lookup
from climb_opt.history import History, facts_of
from climb_opt.ladder.agreement import Agreement, rank_agreement
from climb_opt.measures import effective_domains
from climb_opt.predictors.own import predictor_factory
from climb_opt.reports.cost import Cost, cost_of
from climb_opt.reports.effects import Effect, domain_effects
from climb_opt.reports.quality import FEWEST, Predictions, predict_unseen
from climb_opt.reports.snapshot import Snapshot
from climb_opt.retrain.noise import Noise
from climb_opt.retrain.paired import Confirmation
from climb_opt.selection import Advice, Recommendation
from climb_opt.threads import one_blas_thread
from climb_opt.workers import RungStatus
from climb_opt.workers.durations import rung_status
from climb_opt.workers.status import round_status

if TYPE_CHECKING:
    from climb_opt.corpus.after.map import Points

OWN = "simplex-gp"  # the report's own predictor: light, always there


@dataclass(frozen=True)
class RoundSummary:
    """One round: what was tried, what came out, on its own rung, how well it had been predicted."""

    index: int
    planned: int
    done: int
    best: float
    median: float
    quarter: float  # the scores' quartiles, the better one first
    three_quarters: float
    effective: float  # mean effective number of domains
    correlation: float  # Spearman, predicted against measured, unseen; NaN where undefined
    error: float
    rung: str = field(default="", kw_only=True)  # its name, where the study has several


@dataclass(frozen=True)
class Contents:
    """A report without its layout."""

    snapshot: Snapshot
    recommended: Mapping[str, Recommendation]  # rule -> what it keeps
    followed: str | None  # the rule that is followed
    predictor: str
    predictions: Predictions | None
    rounds: tuple[RoundSummary, ...]
    effects: tuple[Effect, ...]
    cost: Cost
    rungs: tuple[RungStatus, ...] = ()  # cheapest first; none without a ladder
    agreement: tuple[Agreement, ...] = ()
    distrusted: tuple[str, ...] = ()  # a sentence for each rung that is bought no more
    confirmation: Confirmation | None = None
    noise: Noise | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    atlas: Points | None = None

    @property
    def chosen(self) -> Recommendation | None:
        """The recommended mixture: of the rule that is followed; None before any trial."""
        return None if self.followed is None else self.recommended[self.followed]

    def columns(self) -> dict[str, np.ndarray]:
        """Mixtures to set side by side: the prior, each round's mean, the recommended one."""
        snapshot, columns = self.snapshot, {}
        if snapshot.prior_known:
            columns["prior"] = snapshot.prior
        for summary in self.rounds:
            found = snapshot.round_history(summary.index)
            if len(found):
                columns[f"round {summary.index + 1}"] = found.mixtures.mean(axis=0)
        if self.chosen is not None:
            columns["found"] = snapshot.over_run(snapshot.weights(self.chosen))
        return columns


@one_blas_thread()
def gather(
    snapshot: Snapshot, advice: Advice | None = None, *, predictor: str | None = None
) -> Contents:
    """Compute a report of a study without those beside it, and without its corpus's map.

    Args:
        advice: what the rules recommend, once a trial has finished.
        predictor: whose quality to show; the search's own when None.

    Raises:
        UserError: an unknown predictor.
    """
    name = predictor or searched_with(snapshot)
    recipe = None if predictor else snapshot.recipe
    options = None if recipe is None else recipe.sampler.options.get("predictor_options")
    make, predictions = predictor_factory(name, options), None
    if len(snapshot.judged) > FEWEST and len(snapshot.maximize) == 1:
        predictions = predict_unseen(snapshot, make) or None
    reference = snapshot.space.prior if advice is None else snapshot.weights(advice.chosen)
    return Contents(
        snapshot=snapshot,
        recommended={} if advice is None else advice.recommended,
        followed=None if advice is None else advice.followed,
        predictor=name,
        predictions=predictions,
        rounds=_rounds(snapshot, predictions),
        effects=tuple(domain_effects(snapshot.judged, snapshot.space.domains, reference)),
        cost=cost_of(snapshot),
        rungs=rung_status(ladder, snapshot.taken) if (ladder := snapshot.ladder) else (),
        agreement=tuple(rank_agreement(snapshot.tried, len(ladder))) if ladder else (),
        provenance=_provenance(snapshot),
    )


def searched_with(snapshot: Snapshot) -> str:
    """The predictor that the search itself used, else the report's own."""
    sampler = None if snapshot.recipe is None else snapshot.recipe.sampler
    if sampler is None:
        return OWN
    usual = lookup.default("sampler", sampler.name, "predictor")
    return OWN if usual is None else str(sampler.options.get("predictor", usual))


def _rounds(snapshot: Snapshot, predictions: Predictions | None) -> tuple[RoundSummary, ...]:
    if len(snapshot.maximize) > 1:
        return ()
    summaries, plan = [], snapshot.plan
    slots = round_status(plan, snapshot.taken)
    for index, now in enumerate(slots[: len(plan.rounds)]):
        scores = snapshot.round_scores(index)
        seen = predictions.where(predictions.rounds == index) if predictions is not None else None
        figures = _spread(scores, snapshot.sign) if len(scores) else [np.nan] * 5
        figures += [seen.rank_correlation(), seen.error()] if seen else [np.nan, np.nan]
        summaries.append(RoundSummary(index, now.size, now.finished, *figures, rung=now.rung or ""))
    return tuple(summaries)


def _spread(history: History, sign: float) -> list[float]:
    """Best, median and quartiles of the scores, and the mean effective number of domains."""
    best, quarter, median, three_quarters = sign * np.quantile(
        history.values, [0.0, 0.25, 0.5, 0.75]
    )
    effective = np.mean([effective_domains(w) for w in history.mixtures])
    found = [best, median, quarter, three_quarters, effective]
    return [float(figure) for figure in found]


def _provenance(snapshot: Snapshot) -> dict[str, Any]:
    """What all trials agree on, from their facts; where they differ, the values seen."""
    seen: dict[str, list[Any]] = {}
    for trial in snapshot.tried.trials:
        for key, value in facts_of(trial).items():
            if key == "versions" and isinstance(value, dict):
                value = ", ".join(f"{name} {version}" for name, version in sorted(value.items()))
            told = isinstance(value, (str, bool)) or key.startswith("parameters")
            if told and key != "model" and value not in seen.setdefault(key, []):
                seen[key].append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in sorted(seen.items())}
