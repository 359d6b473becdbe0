"""The recipe that is asked for: weighed where its score is auto, refused where another's."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from climb_opt import lookup, recipe_files, recipes
from climb_opt.attributes import BESIDE, REPEATED, WEIGHTS
from climb_opt.errors import UserError, listed
from climb_opt.ladder import Ladder
from climb_opt.recipes import AUTO, BEFORE, Choice, StudyRecipe
from climb_opt.samplers.leaning import Leaning
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.study.carried import INFLUENCE, carried, carried_as
from climb_opt.text import counted, flops, number, powers, storable
from climb_opt.view import StudyView, study_named

log = logging.getLogger(__name__)

PER_MACHINE = ("corpus",)  # keys that may differ: the same corpus may lie elsewhere
NOISE_SUFFIX = "-noise"  # ends the name of the study beside a study that measures its noise
SAMPLER_GETS = {"space", "seed", "rounds", "max_attempts"}  # by the study, not by a recipe
MEASURED = ("proxy", "evaluators", "direction")  # keys without which weights are another study's


class OtherRecipe(UserError):
    """A study was made from another recipe than is asked for; `changes` are the keys that differ.

    Args:
        remedy: what to do about it.
    """

    def __init__(self, study: str, changes: Sequence[str], remedy: str) -> None:
        self.changes = changes
        said = f"Study {study!r} was made from another recipe: {'; '.join(changes)}. {remedy}"
        super().__init__(said)


def read_asked(
    recipe: StudyRecipe | str | None, study_name: str | None, overrides: Sequence[str]
) -> tuple[str, StudyRecipe | None]:
    """The study's name, and the recipe that was asked for; None to use the stored one."""
    study_name = study_name and storable(study_name)
    if isinstance(recipe, StudyRecipe):
        if study_name is None:
            raise UserError("A recipe that is not from a file needs study_name.")
        return study_name, recipe
    if recipe is None:
        if study_name is None:
            raise UserError("Name a recipe or a study; `climb-opt ls studies` lists the shipped.")
        return study_name, None
    is_file = Path(recipe).suffix in (".yaml", ".yml")
    if is_file or recipe in recipe_files.names("studies"):
        return study_name or storable(Path(recipe).stem), recipes.read_study(recipe, overrides)
    return study_name or storable(recipe), None


def weighed(
    recipe: StudyRecipe, storage: BaseStorage, name: str
) -> tuple[StudyRecipe, dict[str, Any]]:
    """The recipe for a new study `name`, with the weights of its noise study where it says auto.

    Returns it and what the noise study found; nothing where the recipe has a score of its own.

    Raises:
        UserError: no noise study has finished, or it measured another recipe.
    """
    if recipe.score != [AUTO]:
        return recipe, {}
    beside = f"{name}{NOISE_SUFFIX}"
    study = study_named(storage, beside)
    found = None if study is None else study.user_attrs.get(WEIGHTS)
    if study is None or found is None:
        raise UserError(
            f"study.score: auto takes its weights from study {beside!r}, which has none yet; run "
            f"`climb-opt noise` on this recipe first, with the same --storage and study name."
        )
    _check_measured(StudyView(study).recipe, recipe, beside)
    return replace(recipe, score=dict(found["score"])), {**found, "from": beside}


def repeated(recipe: StudyRecipe, storage: BaseStorage, name: str) -> dict[str, float]:
    """What the noise study of a new study `name` found of the score's noise.

    Empty where there is none, or it measured another recipe.

    Args:
        recipe: before `weighed` gave it weights.
    """
    study = study_named(storage, f"{name}{NOISE_SUFFIX}")
    if study is None or REPEATED not in study.user_attrs:
        return {}
    found, measured = study.user_attrs[REPEATED], StudyView(study).recipe
    auto = recipe.score == [AUTO]
    same = MEASURED if auto else (*MEASURED, "score")
    others = [f.name for f in dataclasses.fields(StudyRecipe) if f.name not in same]
    if measured is None or difference(measured, recipe, others):
        return {}
    return dict(found["reweighed" if auto else "score"])


def say_weights(name: str, found: Mapping[str, Any]) -> None:
    """Log the score of the new study `name`, by what `weighed` found."""
    score = " + ".join(f"{c:g} {component}" for component, c in found["score"].items())
    if found["after"] is None:
        log.warning(
            "Score of %s: %s, all alike, for the runs of %s could not weigh them; the report says "
            "why under What can be searched on.",
            name,
            score,
            found["from"],
        )
        return
    log.info(
        "Score of %s, from %s: %s; noise / signal %s, of their plain mean %s.",
        name,
        found["from"],
        score,
        number(found["after"], 2),
        number(found["before"], 2),
    )


def check_choices(recipe: StudyRecipe) -> None:
    """Raise for a name or an option in a new study's recipe that nothing here knows.

    It is said before a corpus is built, and before the study has its name. What cannot be imported
    here may be elsewhere, where trials run: of that only a short name is checked.
    """
    choices = [
        ("sampler", recipe.sampler, SAMPLER_GETS),
        *(("pruner", choice, set()) for choice in [recipe.pruner] if choice is not None),
        *(("evaluator", choice, {"corpus"}) for choice in recipe.evaluators),
        *(("reweighter", choice, set()) for choice in _methods(recipe)),
        *(("baseline", Choice(name), {"space"}) for name in recipe.fixed),
    ]
    baselines = [*lookup.KINDS["baseline"], *lookup.KINDS["reweighter"]]
    for name in recipe.fixed:
        if ":" not in name and name not in baselines:
            raise lookup.unknown("baseline", name, baselines, lookup.OWN)
    for kind, choice, given in choices:
        lookup.check_name(kind, choice.name)
        for key, value in choice.options.items():
            if key in lookup.KINDS and isinstance(value, str):
                lookup.check_name(key, value)
        if kind == "sampler":
            check_no_key_of_study(choice)
        with contextlib.suppress(lookup.NotHere):
            lookup.check_options(kind, choice.name, choice.options, given)
    carried(recipe)


def check_measurable(recipe: StudyRecipe, corpus: Corpus, space: MixtureSpace) -> None:
    """Raise where a new study's score has no gradient that its method of setting weights asks for,
    or what was measured says nothing of a domain, before the study has its name.

    What cannot be imported here may be elsewhere, where trials run: of that nothing is asked.
    """
    given = carried(recipe).sampler.options.get(INFLUENCE)
    if recipe.sampler.name == "simplex-gp" and given is not None:
        Leaning(space, given)
    with contextlib.suppress(lookup.NotHere, ImportError):
        methods = _methods(recipe)
        if any(hasattr(lookup.find("reweighter", method.name), "check") for method in methods):
            from climb_opt.objective import check_methods, judge_of  # loads what trains

            check_methods(methods, judge_of(corpus, recipe, space))


def _methods(recipe: StudyRecipe) -> list[Choice]:
    """Who sets weights: of every trial on some rung, and of baselines."""
    proxies = [p.reweight for p in recipe.proxies if p.reweight is not None]
    return [*proxies, *recipe.methods.values()]


def check_no_key_of_study(sampler: Choice) -> None:
    """Raise for an option that every sampler gets from the study."""
    for key in sampler.options:
        if key in SAMPLER_GETS:
            raise UserError(
                f"sampler {sampler.name!r}: {key!r} is a key of the study, not of the sampler."
            )


def check_recipe(study: optuna.Study, wanted: StudyRecipe) -> None:
    """Raise, showing the difference, unless the study was made from this very recipe."""
    view = StudyView(study)
    assert view.recipe is not None  # opening it raised otherwise
    weighed_here = wanted.score == [AUTO] and WEIGHTS in view.attributes
    free = [*PER_MACHINE, *(["score"] if weighed_here else [])]
    free += [key for key in BEFORE if key not in (view.stated or {})]  # it goes on as it began
    wanted, changed = carried_as(view.recipe, wanted)
    if lines := [*changed, *difference(view.recipe, wanted, free)]:
        for mark, command in BESIDE.items():
            if (facts := view.attributes.get(mark)) is not None:
                raise UserError(
                    f"Study {study.study_name!r} is no search: it holds runs of `climb-opt "
                    f"{command}` beside {facts['of']!r}, by another recipe: {'; '.join(lines)}. "
                    "Give another --study-name."
                )
        name = shlex.quote(study.study_name)
        raise OtherRecipe(
            study.study_name,
            lines,
            f"Give another --study-name to start a new study (`--from {name}` begins it with what "
            f"this one measured), or only `--study-name {name}` to go on with the stored recipe.",
        )


def check_budget(
    budget: float, recipe: StudyRecipe, ladder: Ladder, before: float, where: str = "study.budget"
) -> None:
    """Raise unless a budget of FLOPs pays for the baselines and one trial of the target.

    Args:
        before: FLOPs of trunk, branches and what checks them.
        where: the key or option that gives the budget.
    """
    named, target = len(recipe.baselines), ladder.rungs[-1]
    dearer = target.methods_beyond
    needed = (named + 1) * target.flops + dearer + before
    if budget >= needed:
        return
    more = f", {powers(dearer)} more for {listed(recipe.methods)}" if dearer else ""
    after = f", after {powers(before)} of trunk, branches and their checks," if before else ""
    raise UserError(
        f"{where}: {flops(budget)} do not pay for {counted(named, 'baseline')} and one trial of "
        f"the target, {target.name}: {named} + 1 at {powers(target.flops)}{more}{after} "
        f"are {powers(needed)}. Give more, name fewer baselines, or take a cheaper target."
    )


def difference(stored: StudyRecipe, wanted: StudyRecipe, free: Any) -> list[str]:
    """How two recipes differ, a line each, but in the keys that are `free`."""
    every = (json.loads(recipes.to_json(recipe)) for recipe in (stored, wanted))
    old, new = ({k: v for k, v in keys.items() if k not in free} for keys in every)
    return recipe_files.difference(old, new)


def _check_measured(measured: StudyRecipe | None, wanted: StudyRecipe, beside: str) -> None:
    others = [f.name for f in dataclasses.fields(StudyRecipe) if f.name not in MEASURED]
    assert measured is not None  # it states weights
    lines = difference(measured, wanted, others)
    if lines:
        raise UserError(
            f"study.score: auto takes its weights from study {beside!r}, which measured another "
            f"recipe: {'; '.join(lines)}. Measure this one under another --study-name."
        )
