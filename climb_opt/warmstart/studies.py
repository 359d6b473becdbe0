"""Trials of an older study as the first knowledge of a new one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from climb_opt import recipe_files
from climb_opt.attributes import COMPONENTS, CORPUS, IMPORTED, WARM
from climb_opt.errors import UserError
from climb_opt.history import components_of, excesses
from climb_opt.ladder import rung_of
from climb_opt.phases import PhasedSpace, one_phase, point_of, shares_of, shown, throughout
from climb_opt.recipes import StudyRecipe
from climb_opt.simplex import MixtureSpace
from climb_opt.study.steering import add_trial
from climb_opt.view import StudyView, mixture_of, rung_attributes
from climb_opt.warmstart.lineage import Lineage
from climb_opt.warmstart.rungs import cautions, proxies_differ, rung_names, same_rungs

CAUTION = (
    "The corpora differ: held-out losses compare only if both hold out the same text as target."
)
CLOSE = 0.02  # share of tokens read differently up to which a mapped trial still teaches
# What makes scores comparable. The sampler, rounds, bounds and seed may differ.
COMPARABLE = ("evaluators", "score", "direction", "also")  # and the proxy of its rung


@dataclass(frozen=True)
class Imported:
    """What came over, in numbers and words."""

    source: str
    exact: int
    close: int
    left_out: Mapping[str, int]  # reason -> trials
    changes: tuple[str, ...] = ()
    already: bool = False
    caution: str = ""
    rungs: Mapping[str, int] = field(default_factory=dict)  # name -> trials, of several rungs

    def lines(self) -> list[str]:
        """For a person."""
        if self.already:
            return [f"{self.source} was imported before; nothing to do."]
        lines = [f"From {self.source}: {self.exact} trials exactly, {self.close} nearly."]
        if self.rungs:
            lines.append(f"By rung: {', '.join(f'{n} at {r}' for r, n in self.rungs.items())}.")
        if self.changes:
            lines.append(f"Domains: {'; '.join(self.changes)}.")
        lines += [f"Left out {n}: {reason}." for reason, n in self.left_out.items()]
        if self.caution:
            lines.append(self.caution)
        return lines


def warm_start(study: optuna.Study, old: optuna.Study, lineage: Lineage) -> Imported:
    """Add the finished trials of `old` to `study` where their mixtures are sound in its domains.

    Trials keep their rung: the one that trains the same proxy. Those of others are left out, and
    those that read more than `CLOSE` of their tokens differently.

    Call it under the study's lock, before the first trial. A second call adds nothing.

    Raises:
        UserError: scores that cannot be compared, where both studies have recipes, or other
            directions; a study that does not say its space.
    """
    if old.study_name in study.user_attrs.get(WARM, []):
        return Imported(old.study_name, 0, 0, {}, already=True)
    here, there = StudyView(study), StudyView(old)
    _check(here, there)
    shares = _check_phases(here, there)
    same = same_rungs(here, there)
    names, theirs = rung_names(here), rung_names(there)
    exact = near = 0
    left_out: dict[str, int] = {}
    by_rung: Counter[str] = Counter()
    for trial in there.trials():
        phases = _phases(trial, there, shares)
        if trial.state != TrialState.COMPLETE or phases is None:
            continue
        mapped = [lineage.map(mixture) for mixture in phases]
        weights = [found for found, _ in mapped]
        distance = sum(s * far for s, (_, far) in zip(shares or (1.0,), mapped, strict=True))
        components = components_of(trial)
        of = rung_of(trial, len(theirs) - 1)
        reason = None if of in same else f"no rung here trains what {theirs[of]} does"
        reason = reason or _unsound(here.space, weights, distance)
        reason = reason or unjudged(here.recipe, components)
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        origin = {"study": old.study_name, "trial": trial.number, "distance": round(distance, 6)}
        rung = rung_attributes(same[of], len(names) - 1) if len(names) > 1 else {}
        by_rung[names[same[of]]] += 1
        scored = Scored(trial.values, components, beyond(here.recipe, components), rung)
        add(here, _point(here.space, weights), scored, origin)
        exact, near = exact + (distance < 1e-6), near + (distance >= 1e-6)
    study.set_user_attr(WARM, [*study.user_attrs.get(WARM, []), old.study_name])
    digests = {s.user_attrs.get(CORPUS, {}).get("digest") for s in (study, old)}
    said = [CAUTION] if len(digests) > 1 else []
    if here.recipe is not None and there.recipe is not None:
        said += cautions(names, same, here.recipe, there.recipe)
    return Imported(
        old.study_name,
        exact,
        near,
        left_out,
        tuple(lineage.changes()),
        caution=" ".join(said),
        rungs=by_rung if len(names) > 1 else {},
    )


class Scored(NamedTuple):
    """What a trial found; its `constraints` are guard-rails, kept where <= 0. `rung` is what it
    stores of its rung, nothing for the target's."""

    values: list[float]
    components: Mapping[str, float]
    constraints: Mapping[str, float]
    rung: Mapping[str, Any] = {}


def add(view: StudyView, weights: np.ndarray, scored: Scored, origin: Mapping[str, Any]) -> None:
    """One finished trial without a slot."""
    stored: dict[str, Any] = {IMPORTED: dict(origin), **scored.rung}
    if scored.components:
        stored[COMPONENTS] = dict(scored.components)
    add_trial(view, weights, stored, values=scored.values, constraints=dict(scored.constraints))


def beyond(recipe: StudyRecipe | None, components: Mapping[str, float]) -> dict[str, float]:
    """How far the components are beyond the recipe's guard-rails."""
    if recipe is None:
        return {}
    return excesses(components, recipe.constraints, maximize=recipe.direction == "maximize")


def unjudged(recipe: StudyRecipe | None, components: Mapping[str, float]) -> str | None:
    """Why a trial with these components cannot be told to keep the guard-rails; None if it can."""
    rails = {} if recipe is None else recipe.constraints
    missing = sorted(set(rails) - set(components))
    return f"they have no score {missing[0]!r}, which a guard-rail needs" if missing else None


def _unsound(
    space: MixtureSpace, weights: Sequence[Mapping[str, float]], distance: float
) -> str | None:
    if distance > CLOSE:
        return (
            f"more than {100 * CLOSE:.0f} % of their tokens came from domains that were removed "
            "or merged in another ratio"
        )
    if not space.contains(_point(space, weights, check=False), atol=1e-6):
        return "their mixtures are outside the new study's bounds"
    return None


def _check(here: StudyView, there: StudyView) -> None:
    if here.maximize != there.maximize:
        raise UserError(
            f"Study {there.name!r} optimises in another direction than {here.name!r}; its scores "
            "cannot be used."
        )
    if here.recipe is None or there.recipe is None:
        return
    both = there.recipe, here.recipe
    was, now = ({k: dataclasses.asdict(r)[k] for k in COMPARABLE} for r in both)
    lines = recipe_files.difference(was, now)
    if not same_rungs(here, there):
        lines += proxies_differ(here.recipe, there.recipe)
    if lines:
        raise UserError(
            f"Scores of {there.name!r} cannot be compared with those of {here.name!r}: "
            f"{'; '.join(lines)}. Begin from another study, or set these keys as it has them "
            "(--set)."
        )


def _check_phases(here: StudyView, there: StudyView) -> tuple[float, ...]:
    """The shares of the old study's phases, which must be those of the new one; none without."""
    shares, ours = shares_of(there.space) if there.prior_known else (), shares_of(here.space)
    if shares and shares != ours:
        raise UserError(
            f"{there.name!r} has phases of {shown(shares)} of a run, and this study "
            f"{f'has {shown(ours)}' if ours else 'none'}: its schedules cannot be told in these."
        )
    return shares


def _phases(
    trial: FrozenTrial, old: StudyView, shares: tuple[float, ...]
) -> list[dict[str, float]] | None:
    """The mixture of each phase of a trial; of a study without phases its one mixture."""
    if shares:
        assert isinstance(old.space, PhasedSpace)
        weights = old.space.weights_of(trial)
        if weights is None:
            return None
        return [dict(phase.mixture) for phase in old.space.schedule(weights)]
    mixture = mixture_of(trial)
    return [mixture] if mixture and abs(sum(mixture.values()) - 1.0) < 1e-6 else None


def _point(
    space: MixtureSpace, mixtures: Sequence[Mapping[str, float]], *, check: bool = True
) -> np.ndarray:
    """A point of `space`; one mixture holds throughout."""
    if check:
        return point_of(space, mixtures[0] if len(mixtures) == 1 else list(mixtures))
    rows = [np.array([m[d] for d in one_phase(space).domains]) for m in mixtures]
    if isinstance(space, PhasedSpace) and len(rows) > 1:
        return space.of_blocks(np.stack(rows))
    return throughout(space, rows[0])
