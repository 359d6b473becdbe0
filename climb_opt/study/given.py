"""Mixtures of named slots that no sampler proposes: baselines, and what checks read-outs."""

from __future__ import annotations

from collections.abc import Mapping

from climb_opt.attributes import BASELINE
from climb_opt.baselines import fixed_mixture, needed
from climb_opt.errors import UserError
from climb_opt.ladder.branches.slots import check_mixtures
from climb_opt.plan import Plan, Slot
from climb_opt.recipes import StudyRecipe
from climb_opt.simplex import MixtureSpace


def baselines(recipe: StudyRecipe, space: MixtureSpace) -> dict[Slot, dict[str, float]]:
    """slot -> mixture of the recipe's baselines."""
    mixtures: dict[Slot, dict[str, float]] = {}
    for name in recipe.baselines:
        if missing := needed(name):
            raise UserError(
                f"study.baselines: {name!r} needs the key {min(missing)!r}, which a baseline has "
                "not. Leave it out, and put a mixture of your own in line with `climb-opt "
                "enqueue STUDY mixture.yaml`."
            )
        mixtures[BASELINE + name] = space.mixture(fixed_mixture(space, name))
    return mixtures


def given_mixtures(
    recipe: StudyRecipe, plan: Plan, space: MixtureSpace
) -> dict[Slot, Mapping[str, float]]:
    """slot -> mixture of baselines, and of what checks read-outs of branches."""
    given: dict[Slot, Mapping[str, float]] = {**baselines(recipe, space)}
    if recipe.branches is not None and recipe.readouts:
        given.update(check_mixtures(space, recipe.branches.check, recipe.seed).items())
        given.update({read: given[slot] for slot, read in plan.before.read_too()})
    return given
