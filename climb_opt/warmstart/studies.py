"""Trials of an older study as the first knowledge of a new one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from climb_opt import recipe_files
from climb_opt.attributes import COMPONENTS, CORPUS, IMPORTED, WARM, by_owner
from climb_opt.errors import UserError
from climb_opt.history import components_of, excesses
from climb_opt.ladder import rung_of
from climb_opt.phases import PhasedSpace, one_phase, point_of, shares_of, shown, throughout
from climb_opt.recipes import StudyRecipe
from climb_opt.simplex import MixtureSpace
from climb_opt.view import StudyView, all_trials, mixture_of, rung_attributes
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


def warm_start(
    study: optuna.Study,
    old: optuna.Study,
    lineage: Lineage,
    *,
    space: MixtureSpace,
    recipe: StudyRecipe | None = None,
    old_recipe: StudyRecipe | None = None,
    close: float = CLOSE,
) -> Imported:
    """Add the finished trials of `old` to `study` where their mixtures are sound in its domains.

    Trials keep their rung: the one that trains the same proxy. Those of others are left out.

    Call it under the study's lock, before the first trial. A second call adds nothing.

    Args:
        space: of the new study.
        recipe, old_recipe: checked for comparable scores, where both are known.
        close: trials that read more than this share of their tokens differently are left out.

    Raises:
        UserError: scores that cannot be compared, or other directions.
    """
    if old.study_name in study.user_attrs.get(WARM, []):
        return Imported(old.study_name, 0, 0, {}, already=True)
    _check(study, old, recipe, old_recipe)
    shares = _check_phases(old, space)
    same = same_rungs(study, old, recipe, old_recipe)
    names, theirs = rung_names(study), rung_names(old)
    exact = near = 0
    left_out: dict[str, int] = {}
    by_rung: Counter[str] = Counter()
    for trial in all_trials(old):
        phases = _phases(trial, old, shares)
        if trial.state != TrialState.COMPLETE or phases is None:
            continue
        mapped = [lineage.map(mixture) for mixture in phases]
        weights = [found for found, _ in mapped]
        distance = sum(s * far for s, (_, far) in zip(shares or (1.0,), mapped, strict=True))
        components = components_of(trial)
        of = rung_of(trial, len(theirs) - 1)
        reason = None if of in same else f"no rung here trains what {theirs[of]} does"
        reason = reason or _unsound(space, weights, distance, close)
        reason = reason or unjudged(recipe, components)
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        origin = {"study": old.study_name, "trial": trial.number, "distance": round(distance, 6)}
        rung = rung_attributes(same[of], len(names) - 1) if len(names) > 1 else {}
        by_rung[names[same[of]]] += 1
        scored = Scored(trial.values, components, beyond(recipe, components), rung)
        add(study, space, _point(space, weights), scored, origin)
        exact, near = exact + (distance < 1e-6), near + (distance >= 1e-6)
    study.set_user_attr(WARM, [*study.user_attrs.get(WARM, []), old.study_name])
    digests = {s.user_attrs.get(CORPUS, {}).get("digest") for s in (study, old)}
    said = [CAUTION] if len(digests) > 1 else []
    if recipe is not None and old_recipe is not None:
        said += cautions(names, same, recipe, old_recipe)
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


def add(
    study: optuna.Study,
    space: MixtureSpace,
    weights: np.ndarray,
    scored: Scored,
    origin: Mapping[str, Any],
) -> None:
    """One finished trial without a slot."""
    ours, system = by_owner(scored.rung)
    attrs: dict[str, Any] = {IMPORTED: dict(origin), **ours}
    if scored.components:
        attrs[COMPONENTS] = dict(scored.components)
    study.add_trial(
        create_trial(
            values=scored.values,
            params=space.params(weights),
            distributions=space.distributions(),
            user_attrs=attrs,
            system_attrs=system,
            constraints=dict(scored.constraints),
        )
    )


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
    space: MixtureSpace, weights: Sequence[Mapping[str, float]], distance: float, close: float
) -> str | None:
    if distance > close:
        return (
            f"more than {100 * close:.0f} % of their tokens came from domains that were removed "
            "or merged in another ratio"
        )
    if not space.contains(_point(space, weights, check=False), atol=1e-6):
        return "their mixtures are outside the new study's bounds"
    return None


def _check(
    study: optuna.Study,
    old: optuna.Study,
    recipe: StudyRecipe | None,
    old_recipe: StudyRecipe | None,
) -> None:
    if [d.name for d in study.directions] != [d.name for d in old.directions]:
        raise UserError(
            f"Study {old.study_name!r} optimises in another direction than "
            f"{study.study_name!r}; its scores cannot be used."
        )
    if recipe is None or old_recipe is None:
        return
    was, now = ({k: dataclasses.asdict(r)[k] for k in COMPARABLE} for r in (old_recipe, recipe))
    lines = recipe_files.difference(was, now)
    if not same_rungs(study, old, recipe, old_recipe):
        lines += proxies_differ(recipe, old_recipe)
    if lines:
        raise UserError(
            f"Scores of {old.study_name!r} cannot be compared with those of "
            f"{study.study_name!r}: {'; '.join(lines)}."
        )


def _check_phases(old: optuna.Study, space: MixtureSpace) -> tuple[float, ...]:
    """The shares of the old study's phases, which must be those of `space`; none without."""
    view = StudyView(old)
    shares = shares_of(view.space) if view.prior_known else ()
    if shares and shares != shares_of(space):
        here = shares_of(space)
        raise UserError(
            f"{old.study_name!r} has phases of {shown(shares)} of a run, and this study "
            f"{f'has {shown(here)}' if here else 'none'}: its schedules cannot be told in these."
        )
    return shares


def _phases(
    trial: FrozenTrial, old: optuna.Study, shares: tuple[float, ...]
) -> list[dict[str, float]] | None:
    """The mixture of each phase of a trial; of a study without phases its one mixture."""
    if shares:
        space = StudyView(old).space
        assert isinstance(space, PhasedSpace)
        weights = space.weights_of(trial)
        if weights is None:
            return None
        return [dict(phase.mixture) for phase in space.schedule(weights)]
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
