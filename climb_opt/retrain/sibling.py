"""A study beside a study, in which given mixtures are trained again: what all retraining shares.

`confirm` retrains finalists with fresh seeds, `transfer` trials by another proxy, an ablation's
judge what its runs end with. Each is an ordinary study with named slots "<mixture>/<seed's label>",
worked on by the same worker loop; its mixtures are given, so its sampler is never asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, TypedDict

import optuna
from optuna.trial import FrozenTrial

from climb_opt import recipes
from climb_opt.attributes import AGGREGATE, BESIDE, CORPUS, METHOD, RECIPE, SEED
from climb_opt.errors import UserError
from climb_opt.plan import Plan, Slot
from climb_opt.recipes import StudyRecipe
from climb_opt.storages import study_lock
from climb_opt.study import discard_untried, run_plan, with_proxies
from climb_opt.study.asked import difference
from climb_opt.study.seeds import Objective
from climb_opt.text import storable
from climb_opt.view import StudyView, all_trials
from climb_opt.workers import Work, log_trial

BEGUN = (RECIPE, AGGREGATE, CORPUS)  # a search's study has its space before its recipe

Mixture = Mapping[str, float]
Runner = Callable[[optuna.Study, Work], None]  # runs a study's orders until each is finished


class Training(TypedDict, total=False):
    """How mixtures are trained again: arguments of `climb_opt.work` by the same names."""

    objective: Objective | None
    corpus: str | Path | None
    directory: str | Path
    stop: Callable[[], bool]
    on_trial: Callable[[FrozenTrial], None]


def orders(mixtures: Mapping[str, Mixture], seeds: Mapping[str, int], attempts: int) -> Work:
    """Every mixture with every seed (label -> seed), seed by seed: early stops leave whole pairs.

    >>> orders({"found": {"web": 1.0}}, {"seed-1": 8, "seed-2": 9}, 3).plan.named
    ('found/seed-1', 'found/seed-2')
    """
    places = [(name, label) for label in seeds for name in mixtures]
    return some_orders(places, mixtures, seeds, attempts)


def some_orders(
    places: Iterable[tuple[str, str]],
    mixtures: Mapping[str, Mixture],
    seeds: Mapping[str, int],
    attempts: int,
    methods: Collection[str] = (),
) -> Work:
    """These (mixture, label of a seed) alone, in this order; each is tried so many times.

    Args:
        methods: names that are baselines of the recipe of which a method sets the weights.
    """
    slots = {f"{name}/{label}": (name, label) for name, label in places}
    attrs: dict[Slot, dict[str, Any]] = {s: {SEED: seeds[at]} for s, (_, at) in slots.items()}
    for slot, (name, _) in slots.items():
        attrs[slot] |= {METHOD: name} if name in methods else {}
    fixed: dict[Slot, Mixture]
    fixed = {slot: mixtures[name] for slot, (name, _) in slots.items() if name not in methods}
    return Work(Plan((), tuple(slots), attempts), fixed, attrs)


def at_target(recipe: StudyRecipe, **changes: Any) -> StudyRecipe:
    """The recipe by which a search's mixtures are trained again: its target, and no other rung."""
    rounds = recipe.rounds or (1,)  # none where a budget took their place
    one: dict[str, Any] = {"rounds": rounds, "ladder": (), "rungs": (), "budget": None}
    if recipe.branches is not None:  # the trunk; nothing is read off
        one["branches"] = replace(recipe.branches, read=())
    target = replace(recipe, **{**one, **changes})
    return replace(target, proxy=replace(target.proxy, go_on=False))


def open_sibling(
    study: optuna.Study, name: str, recipe: StudyRecipe | None, mark: str, facts: Any
) -> optuna.Study:
    """The study `name` beside `study`, of the same direction; created, or as it stands.

    A new one gets what its workers need; `mark` last, for whoever waits for it.

    Raises:
        UserError: there is a study of that name that this command did not make.
    """
    sibling = optuna.create_study(
        study_name=storable(name),
        storage=StudyView(study).storage,
        direction=study.directions[0],
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: every mixture is given
    )
    with study_lock(sibling):  # another process may be writing the same
        check_sibling(sibling, mark)
        if mark in sibling.user_attrs:
            return sibling
        if recipe is not None:
            sibling.set_user_attr(RECIPE, recipes.to_json(recipe))
            sibling.set_user_attr(AGGREGATE, recipe.coefficients())
        corpus = study.user_attrs.get(CORPUS)
        if corpus is not None:
            sibling.set_user_attr(CORPUS, corpus)
        sibling.set_user_attr(mark, facts)
    return sibling


def check_sibling(study: optuna.Study, mark: str, begun: Collection[str] = BEGUN) -> None:
    """Raise unless a study has this `mark`, or is one whose creator died before it wrote that.

    Args:
        begun: attributes that the creator writes before the mark.
    """
    attributes = study.user_attrs
    if mark not in attributes and (all_trials(study) or attributes.keys() - begun):
        raise UserError(
            f"Study {study.study_name!r} exists and was not made by `climb-opt {BESIDE[mark]}`, "
            "whose runs would overwrite it; give --as another NAME."
        )


def run_by(
    objective: Objective,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    lost: Event | None = None,
) -> Runner:
    """The worker loop with an objective.

    Args:
        lost: as `with_proxies` gives it with that.
    """
    lost = lost or Event()

    def run(study: optuna.Study, wanted: Work) -> None:
        run_plan(study, objective, replace(wanted, stop=stop, on_trial=on_trial, lost=lost))

    return run


def train_beside(
    sibling: optuna.Study, work_on: Callable[[Runner], Any], training: Training
) -> None:
    """Call `work_on` with what runs the objective of a sibling, or another.

    What cannot train, for want of its corpus for example, keeps no name.
    """
    stop = training.get("stop", lambda: False)
    on_trial = training.get("on_trial", log_trial)
    corpus, directory = training.get("corpus"), training.get("directory", "runs")

    def run(objective: Objective, lost: Event | None = None) -> None:
        work_on(run_by(objective, stop=stop, on_trial=on_trial, lost=lost))

    try:
        if (objective := training.get("objective")) is not None:
            run(objective)
        else:
            with_proxies(sibling, run, corpus=corpus, directory=directory, stop=stop)
    except UserError:
        discard_untried(sibling, directory)
        raise


def other_recipe(sibling: optuna.Study, recipe: StudyRecipe | None) -> list[str]:
    """How the sibling's recipe differs from this one, a line each; none where one has no recipe."""
    stored = StudyView(sibling).recipe
    return [] if stored is None or recipe is None else difference(stored, recipe, ())
