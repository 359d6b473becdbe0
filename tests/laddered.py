"""Searches on rungs with formulas for scores, for tests of what is shown of them and kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import optuna

from climb_opt import study as studies
from climb_opt.attributes import RUNG
from climb_opt.proxy.ladders import ladder_of
from climb_opt.recipes import BudgetRecipe, Choice, StudyRecipe
from climb_opt.samplers.climb_sampler import ClimbSampler
from climb_opt.shards import Corpus
from climb_opt.study import open_study
from studying import PACE, score

BELOW = 100.0  # what scores are better by on each rung below the target: never to be compared


class Turns(ClimbSampler):
    """Takes the rungs in turn, the same mixture on each: stands for a sampler that chooses."""

    chooses_rung = True

    def __init__(self, space: Any, *, seed: int = 0) -> None:
        super().__init__(space, rounds=(64,), seed=seed)

    def plan_ahead(self, study: optuna.Study, slot: Any) -> tuple[dict[str, float], dict[str, Any]]:
        params, stored = super().plan_ahead(study, slot // 2)
        return params, {**stored, RUNG: slot % 2}


def on_rungs(recipe: StudyRecipe, **more: Any) -> StudyRecipe:
    """The recipe with a rung of a quarter of its tokens below it."""
    target = dataclasses.replace(recipe.proxy, tokens=4096, batch_tokens=1024)
    small = dataclasses.replace(target, tokens=1024)
    return dataclasses.replace(recipe, proxy=target, ladder=(small, target), **more)


def bought(recipe: StudyRecipe, trials: float, sampler: str = f"{__name__}:Turns") -> StudyRecipe:
    """The same with a budget of so many trials of the target, baselines included."""
    choice = Choice(sampler, {})
    wanted = on_rungs(recipe, sampler=choice, rounds=())
    cost = ladder_of(wanted.ladder, Corpus.load(recipe.corpus_folder).vocab_size).costs[-1]
    return dataclasses.replace(wanted, budget=BudgetRecipe(float(trials * cost)))


def by_rung(trial: optuna.Trial) -> float:
    """A score far better below the target."""
    return score(trial) - BELOW * (trial.user_attrs.get(RUNG) == 0)


def searched(recipe: StudyRecipe, journal: str, name: str = "s") -> optuna.Study:
    """A search of the recipe, done."""
    study = open_study(recipe, storage=journal, study_name=name)
    studies.work(study, objective=by_rung, pace=PACE)
    return study
