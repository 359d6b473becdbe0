"""The mixture that a search ends with, by the arm's rule.

observed    the best measurement
argbest     CLIMB's: the best predicted candidate of its pool
mean-top    the mean of the best predicted candidates (RegMix, DeMix)
any rule of `climb_opt.selection`, or `auto` for its default
"""

from __future__ import annotations

import numpy as np
import optuna

from climb_opt.attributes import PICK
from climb_opt.errors import UserError
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.samplers.climb import climb_pick
from climb_opt.samplers.levels import on_one_scale
from climb_opt.samplers.presets import ClimbOptions
from climb_opt.selection import best_mixture
from climb_opt.simplex import MixtureSpace
from climb_opt.strict import build
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
        given = {"seed": recipe.seed, "top": 128, **study.user_attrs.get(PICK, {}), **rule.options}
        seed, top = (int(given.pop(name)) for name in ("seed", "top"))
        own = build(ClimbOptions, given, f"final {rule.name!r}")
        return climb_pick(space, history, own, rule=rule.name, seed=seed, top=top)
    options = {"seed": recipe.seed, **rule.options}
    if unknown := set(options) - {"seed", "components"}:
        raise UserError(f"final {rule.name!r}: unknown key {sorted(unknown)[0]!r}.")
    chosen = best_mixture(study, rule=rule.name, space=space, **options)
    return space.weights(chosen.mixture, normalise=True)
