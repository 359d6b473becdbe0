"""A recipe's sampler and pruner, made and tried before anything is trained.

Optuna looks at most options of a sampler when it first draws by what it has learnt, and at some of
a pruner's at the first report: hours after a search began. So whoever is given options first
proposes, and judges a trial, in a study of made-up scores.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection

from climb_opt import lookup
from climb_opt.errors import UserError, options_of, running
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.samplers.own import own_sampler
from climb_opt.simplex import MixtureSpace
from climb_opt.study.asked import check_no_key_of_study

STARTUP = "n_startup_trials"  # Optuna's name for trials drawn before anything is learnt
KNOWN, MOST = 12, 200  # made-up trials, more where `STARTUP` asks for them


def build_sampler(recipe: StudyRecipe, space: MixtureSpace) -> BaseSampler:
    """The sampler a recipe names, given the plan where it asks for it.

    Raises:
        UserError: an unknown sampler or option, or a value with which it cannot propose.
    """
    from climb_opt.samplers.wrapped import SimplexSampler  # with SciPy: `status` needs none

    name = recipe.sampler.name
    make = lookup.find("sampler", name)
    known = inspect.signature(make).parameters
    ours: dict[str, Any] = {"max_attempts": recipe.max_attempts}
    if rounds := recipe.searched if recipe.verify else recipe.rounds:  # else it is never asked
        ours["rounds"] = rounds
    given = {"seed": recipe.seed, **{k: v for k, v in ours.items() if k in known}}
    check_no_key_of_study(recipe.sampler)
    options = lookup.check_options("sampler", name, recipe.sampler.options, {"space", *given})
    if ":" in name:
        return own_sampler(name, space, lambda: make(space, **given, **options))
    with options_of("sampler", name, options):
        sampler: BaseSampler = make(space, **given, **options)
        if options and isinstance(sampler, SimplexSampler):
            startup = options.get(STARTUP)
            count = max(KNOWN, min(startup + 2, MOST)) if isinstance(startup, int) else KNOWN
            study = _study(len(recipe.objectives()), make(space, **given, **options))
            _propose(study, space, count)
    return sampler


def build_pruner(choice: Choice | None) -> BasePruner:
    """The pruner a recipe names. Which trials it may prune is `Plan.may_prune`'s to say.

    Raises:
        UserError: an unknown pruner or option, or a value with which it cannot judge a trial.
    """
    if choice is None:
        return NopPruner()
    name, options = choice.name, lookup.check_options("pruner", choice.name, choice.options, set())
    make = lookup.find("pruner", name)
    if ":" in name:
        with running("pruner", name), options_of("pruner", name, options, (TypeError, ValueError)):
            pruner = make(**options)
        if not isinstance(pruner, BasePruner):
            raise UserError(
                f"pruner {name!r} must be an optuna.pruners.BasePruner, but is {pruner!r:.200}."
            )
        return pruner
    with options_of("pruner", name, options):
        study = _study(1, RandomSampler(seed=0), make(**options))
        for score in (1.0, 2.0):
            trial = study.ask()
            trial.report(score, 1)
            trial.should_prune()
            study.tell(trial, score)
        return make(**options)


def _study(objectives: int, sampler: BaseSampler, pruner: BasePruner | None = None) -> optuna.Study:
    log = logging.getLogger("optuna")
    level = log.level
    log.setLevel(logging.WARNING)  # that there is a study is no news
    try:
        directions = [StudyDirection.MINIMIZE] * objectives
        return optuna.create_study(directions=directions, sampler=sampler, pruner=pruner)
    finally:
        log.setLevel(level)


def _propose(study: optuna.Study, space: MixtureSpace, known: int) -> None:
    """Two proposals that learn from `known` trials, and from each other."""
    several, named = len(study.directions), space.distributions()
    for weights in space.sample_mixed(np.random.default_rng(0), known):
        values = [float(weights.max())] * several
        study.add_trial(
            optuna.create_trial(params=space.params(weights), distributions=named, values=values)
        )
    for _ in range(2):
        trial = study.ask()
        study.tell(trial, [max(space.suggest(trial).values())] * several)
