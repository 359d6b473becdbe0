"""Mixtures of named slots that no sampler proposes: baselines, and what checks read-outs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from climb_opt.attributes import BASELINE, METHOD
from climb_opt.baselines import fixed_mixture, needed
from climb_opt.errors import UserError
from climb_opt.ladder.branches.slots import OPTIMUM, check_mixtures, optimum_of
from climb_opt.plan import Plan, Slot
from climb_opt.recipes import StudyRecipe
from climb_opt.simplex import MixtureSpace
from climb_opt.view import all_trials


def baselines(recipe: StudyRecipe, space: MixtureSpace) -> dict[Slot, dict[str, float]]:
    """slot -> mixture of the recipe's baselines that are one throughout."""
    mixtures: dict[Slot, dict[str, float]] = {}
    for name in recipe.fixed:
        if missing := needed(name):
            raise UserError(
                f"study.baselines: {name!r} needs the key {min(missing)!r}, which a baseline has "
                "not. Leave it out, and put a mixture of your own in line with `climb-opt "
                "enqueue STUDY mixture.yaml`."
            )
        mixtures[BASELINE + name] = space.mixture(fixed_mixture(space, name))
    return mixtures


def method_slots(recipe: StudyRecipe) -> dict[Slot, dict[str, Any]]:
    """slot -> what its trials begin with, of the recipe's baselines by methods."""
    return {BASELINE + name: {METHOD: name} for name in recipe.methods}


class Given(dict[Slot, Mapping[str, float]]):
    """slot -> mixture, known from the beginning or once MixMin has found it."""

    def __init__(self, mixtures: Mapping[Slot, Mapping[str, float]], study: optuna.Study) -> None:
        super().__init__(mixtures)
        self._study = study

    def __missing__(self, slot: Slot) -> Mapping[str, float]:
        found = optimum_of(all_trials(self._study)) if str(slot).endswith(OPTIMUM) else None
        if found is None:
            raise KeyError(slot)
        return found


def given_mixtures(
    study: optuna.Study, recipe: StudyRecipe, plan: Plan, space: MixtureSpace
) -> Given:
    """slot -> mixture of baselines, and of what checks read-outs of branches."""
    given: dict[Slot, Mapping[str, float]] = {**baselines(recipe, space)}
    if recipe.branches is not None and recipe.readouts:
        given.update(check_mixtures(space, recipe.branches.check, recipe.seed).items())
        given |= {read: given[slot] for slot, read in plan.before.read_too() if slot in given}
    return Given(given, study)
