"""The mixture that a search ends with, by the arm's rule.

observed    the best measurement
argbest     CLIMB's: the best predicted candidate of its pool
mean-top    the mean of the best predicted candidates (RegMix, DeMix)
any rule of `climb_opt.selection`, or `auto` for its default
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from climb_opt import lookup
from climb_opt.attributes import PICK
from climb_opt.errors import UserError, check_number
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.samplers.climb import climb_pick
from climb_opt.samplers.levels import on_one_scale
from climb_opt.samplers.presets import ClimbOptions
from climb_opt.selection import best_mixture
from climb_opt.simplex import MixtureSpace
from climb_opt.strict import build, check_keys, convert, typed
from climb_opt.view import read_history

CLIMB_RULES = ("argbest", "mean-top")
COMMON = Choice("auto")  # our rule, applied to every search beside its own: compares the data alone


def final_mixture(
    study: optuna.Study, space: MixtureSpace, recipe: StudyRecipe, rule: Choice
) -> np.ndarray:
    """The weights (K,) to keep.

    Raises:
        UserError: no trial has finished, an unknown rule or option.
    """
    if rule.name in CLIMB_RULES:
        history = on_one_scale(read_history(study, space, rungs=True))
        if not len(history):
            raise UserError(f"{study.study_name}: no finished trial, so there is no mixture.")
        given = {"seed": recipe.seed, **study.user_attrs.get(PICK, {}), **rule.options}
        own, seed, top = _of_climb(rule.name, given)
        return climb_pick(space, history, own, rule=rule.name, seed=seed, top=top)
    options = {"seed": recipe.seed, **_own(rule)}
    chosen = best_mixture(study, rule=rule.name, space=space, **options)
    return space.weights(chosen.mixture, normalise=True)


def check_final(rule: Choice) -> None:
    """Raise a `UserError` for an unknown rule or option, before there is a search to end."""
    lookup.check_name("rule", rule.name)
    if rule.name in CLIMB_RULES:
        _of_climb(rule.name, rule.options)
    else:
        _own(rule)


def _own(rule: Choice) -> dict[str, Any]:
    where = f"final {rule.name!r}"
    check_keys(rule.options, ["seed", "components"], (), where)
    return typed(best_mixture, rule.options, where)


def _of_climb(rule: str, given: Mapping[str, Any]) -> tuple[ClimbOptions, int, int]:
    where, counts = f"final {rule!r}", {"seed": 0, "top": 128}
    seed, top = (convert(given.get(k, d), int, f"{where}.{k}") for k, d in counts.items())
    check_number(f"{where}.top", top)
    others = {name: value for name, value in given.items() if name not in counts}
    return build(ClimbOptions, others, where), seed, top
