"""Which seed a trial trains with: one of its own, or the study's.

What a seed does to a score is no noise that differs from mixture to mixture: mixtures that are
alike fare alike with one seed. Trials that share one are thus compared as if there were no noise,
and nothing that a study sees tells how far another seed's scores lie. The best mixture for that
seed is found, and promised too surely (docs/measured.md#one-seed-or-many).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import SEED, SLOT
from climb_opt.files import short_key
from climb_opt.ladder import rung_of
from climb_opt.lookup import MOST_SEED
from climb_opt.recipes import StudyRecipe
from climb_opt.simplex import MixtureSpace
from climb_opt.view import all_trials

Objective = Callable[[optuna.Trial], Any]
APART = 100_000  # from one seed to the next: `confirm` and `noise` take those right after the first
NAMED = 2**26  # from this number on: seeds of slots with a name, above those of any round
GRAIN = 1e-3  # of the tokens: where no domain differs by more, the same is read, or nearly
LOST = (TrialState.FAIL, TrialState.WAITING)


def seeded(
    objective: Objective, space: MixtureSpace, recipe: StudyRecipe, target: int
) -> Objective:
    """The objective, of trials that know their seed: in `climb_opt.attributes.SEED`.

    Args:
        target: the rung of trials that name none.
    """

    def run(trial: optuna.Trial) -> Any:
        seed = seed_of(trial, space, recipe, target)
        if seed != recipe.seed and SEED not in trial.user_attrs:
            trial.set_user_attr(SEED, seed)  # a retry keeps it
        return objective(trial)

    return run


def seed_of(trial: optuna.Trial, space: MixtureSpace, recipe: StudyRecipe, target: int) -> int:
    """The seed of a trial that is about to train.

    With `seeds: common` it is the recipe's, but for a mixture that is tried again on its rung: with
    the same one it would score the same to the last digit, a training for nothing. So it is where
    trials go on from a trunk or from the rung below: with another seed they would read again what
    that has read.

    Args:
        target: the rung of trials that name none.
    """
    slot, first = trial.user_attrs.get(SLOT), recipe.seed
    if SEED in trial.user_attrs:  # it brings its own, or is tried again
        return int(trial.user_attrs[SEED])
    if recipe.seeds == "fresh" and not _shares(recipe):
        return _seed(first, _own(slot, trial.number))
    earlier = all_trials(trial.study)[: trial.number + 1]
    if slot is not None and any(t.user_attrs.get(SLOT) == slot for t in earlier[:-1]):
        return first
    same = [t for t in earlier[:-1] if t.state not in LOST and alike(t, earlier[-1], space, target)]
    taken = {int(t.user_attrs.get(SEED, first)) for t in same}
    return next(s for s in (_seed(first, again) for again in count()) if s not in taken)


def alike(one: FrozenTrial, other: FrozenTrial, space: MixtureSpace, target: int) -> bool:
    """Whether two trials train the same mixture, or nearly, on the same rung."""
    a, b = (_weights(trial, space) for trial in (one, other))
    same_rung = rung_of(one, target) == rung_of(other, target)
    return same_rung and a is not None and b is not None and float(np.abs(a - b).max()) <= GRAIN


def _shares(recipe: StudyRecipe) -> bool:
    """Whether trials go on from what the study's seed has trained: a trunk, or the rung below."""
    return recipe.branches is not None or any(proxy.go_on for proxy in recipe.proxies)


def _own(slot: int | str | None, trial: int) -> int:
    """Which of the seeds is a trial's own: its slot says, so that an attempt that failed, or a
    mixture in line, changes no other trial's, nor the rounds that learn from them."""
    if isinstance(slot, int):
        return slot + 1
    return trial + 1 if slot is None else NAMED + short_key(slot) % NAMED


def _seed(first: int, number: int) -> int:
    return (first + APART * number) % (MOST_SEED + 1)


def _weights(trial: FrozenTrial, space: MixtureSpace) -> np.ndarray | None:
    """What it trains; of one that was put in line, which has no parameters yet, too."""
    from climb_opt.samplers.forecasts import given  # with SciPy: `status` needs none

    weights = space.weights_of(trial)
    return given(space, trial.system_attrs) if weights is None else weights
