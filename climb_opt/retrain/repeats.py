"""Mixtures run again and again, as slots of a study beside a search: how noisy is a score?

The prior with several seeds ("prior/seed-3"), the most extreme mixture of the smallest domain
("corner/seed-1") with a few, and, where the search itself has not tried mixtures yet, draws as it
starts with ("draw-5/seed-5"), each with a seed of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import BESIDE, COMPONENTS, NOISE, SLOT, SPACE
from climb_opt.errors import UserError
from climb_opt.ladder import rung_of
from climb_opt.metrics import STDERR, scores_of
from climb_opt.phases import one_phase, throughout
from climb_opt.recipes import AUTO, MAIN, StudyRecipe
from climb_opt.retrain.sibling import (
    BEGUN,
    at_target,
    check_sibling,
    open_sibling,
    some_orders,
)
from climb_opt.selection.signal import FEWEST
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import open_storage
from climb_opt.study import equal_score, open_study, read_recipe
from climb_opt.study.asked import NOISE_SUFFIX, difference, read_asked
from climb_opt.view import StudyView, all_trials, study_named
from climb_opt.workers import Work

PRIOR, CORNER, DRAW = "prior", "corner", "draw-"
ENOUGH = 8  # mixtures that a search has tried, with which it needs no draws
MOST = 64


class Terms(NamedTuple):
    """What is asked for: as the arguments of `noise`."""

    repeats: int = 6
    corner: int = 2
    spread: int = 8
    name: str | None = None


class Subject(NamedTuple):
    """Whose noise it is: a study, or a recipe whose search has not begun (`study` is None)."""

    name: str
    recipe: StudyRecipe
    storage: BaseStorage
    study: optuna.Study | None


def subject(
    study: optuna.Study | StudyRecipe | str | None,
    storage: str | Path | BaseStorage | None = None,
    study_name: str | None = None,
    overrides: Sequence[str] = (),
    stop: Callable[[], bool] | None = None,
) -> Subject:
    """A study, or a recipe whose search has not begun; arguments and errors as of `open_study`."""
    if isinstance(study, optuna.Study):
        for mark in BESIDE:
            if (facts := study.user_attrs.get(mark)) is not None:
                raise UserError(
                    f"Study {study.study_name!r} holds runs beside {facts['of']!r}, no search: "
                    f"measure the noise of {facts['of']!r}, or of its recipe where it has not "
                    "begun."
                )
        return Subject(study.study_name, read_recipe(study), StudyView(study).storage, study)
    opened = open_storage(storage, write=True, stop=stop)
    name, recipe = read_asked(study, study_name, overrides)
    if recipe is not None and name not in optuna.get_all_study_names(opened):
        return Subject(name, recipe, opened, None)
    found = open_study(
        study, storage=opened, study_name=study_name, overrides=overrides, create=False, stop=stop
    )
    return subject(found)


def begin(of: Subject, terms: Terms, corpus: Any = None) -> optuna.Study:
    """Create the study of the runs, or join it: what it holds already stays. Errors as `noise`."""
    for option, least in (("repeats", 2), ("corner", 0), ("spread", 0)):
        value = getattr(terms, option)
        if not least <= value <= MOST:
            raise UserError(f"--{option} must be from {least} to {MOST}, but is {value}.")
    terms = terms._replace(spread=_draws(of, terms.spread))
    name = terms.name or f"{of.name}{NOISE_SUFFIX}"
    recipe = _recipe(of.recipe, corpus)
    if of.study is not None:
        facts = _facts(of, terms, StudyView(of.study).space)
        sibling = open_sibling(of.study, name, recipe, NOISE, facts)
    else:
        sibling = _open_before(of, name, recipe)
        facts = _facts(of, terms, StudyView(sibling).space)
    stored = sibling.user_attrs.get(NOISE)
    if stored is None:
        sibling.set_user_attr(NOISE, facts)
        return sibling
    if lines := difference(read_recipe(sibling), recipe, ("corpus", "score")):
        raise UserError(
            f"Study {sibling.study_name!r} measured another recipe: {'; '.join(lines)}. Give "
            "--as NAME for a study of its own."
        )
    new = [place for place in facts["places"] if place not in stored["places"]]
    if new:
        more = {key: {**facts[key], **stored[key]} for key in ("mixtures", "seeds")}
        sibling.set_user_attr(NOISE, {**stored, **more, "places": stored["places"] + new})
    return sibling


def orders(sibling: optuna.Study) -> Work:
    """All runs, as the study states them."""
    facts = sibling.user_attrs[NOISE]
    attempts = read_recipe(sibling).max_attempts
    return some_orders(map(tuple, facts["places"]), facts["mixtures"], facts["seeds"], attempts)


def tried(search: optuna.Study) -> list[dict[str, float]]:
    """Scores of the mixtures with which the search began: its first round where that is enough."""
    view = StudyView(search)
    target = view.plan.target  # scores of lower rungs differ by more than mixtures do
    rows = {
        tuple(t.params.items()): t
        for t in all_trials(search)
        if t.state == TrialState.COMPLETE and rung_of(t, target) == target
    }
    first = [t for t in rows.values() if view.plan.round_of(t.user_attrs.get(SLOT, "")) == 0]
    chosen = first if len(first) >= ENOUGH else list(rows.values())
    return [read_scores(trial) for trial in chosen]


def read_scores(trial: FrozenTrial) -> dict[str, float]:
    """Component -> score of a finished trial, and the score itself."""
    return {**scores_of(trial.user_attrs.get(COMPONENTS, {})), MAIN: float(trial.values[0])}


def read_errors(trial: FrozenTrial) -> dict[str, float]:
    """Component -> the standard error that its evaluator stated, over the documents it read."""
    parts = trial.user_attrs.get(COMPONENTS, {})
    return {n.removesuffix(STDERR): float(parts[n]) for n in parts.keys() - scores_of(parts).keys()}


# --- private -----------------------------------------------------------------------------------


def _draws(of: Subject, spread: int) -> int:
    """How many of the draws asked for are run: none where the search has tried mixtures enough."""
    if of.study is not None and len(tried(of.study)) >= ENOUGH:
        return 0
    weighs = of.recipe.score == [AUTO]
    if 0 < spread < FEWEST or (weighs and not spread):
        zero = "" if weighs else "0 or "
        asked = ", by which `score: auto` weighs its components" if weighs else ""
        raise UserError(
            f"--spread must be {zero}from {FEWEST} to {MOST}, but is {spread}: fewer than {FEWEST} "
            f"draws do not tell how far mixtures differ{asked}."
        )
    return spread


def _recipe(recipe: StudyRecipe, corpus: Any) -> StudyRecipe:
    """The search's recipe for the runs: no search, and a score that says what it adds up."""
    if recipe.score == [AUTO]:
        recipe = replace(recipe, score=equal_score(recipe, corpus))
    if corpus is not None:
        recipe = replace(recipe, corpus=str(corpus))
    return at_target(recipe, rounds=(1,), verify=0, baselines=(), pruner=None, also={})


def _open_before(of: Subject, name: str, recipe: StudyRecipe) -> optuna.Study:
    """The study of the runs of a search that has not begun: created with its space, or joined."""
    if name == of.name:
        raise UserError(
            f"--as {name!r} is the name of the search itself, which could not begin any more; "
            "give --as another NAME."
        )
    found = study_named(of.storage, name)
    if found is not None:
        check_sibling(found, NOISE, (*BEGUN, SPACE))
    return open_study(recipe, storage=of.storage, study_name=name)


def _facts(of: Subject, terms: Terms, space: MixtureSpace) -> dict[str, Any]:
    """What is run: places (mixture, label of a seed), mixtures, seeds."""
    base = one_phase(space)
    allowed = np.where(base.upper > 0, base.prior, np.inf)
    smallest = int(np.argmin(np.where(allowed > 0, allowed, np.inf)))
    drawn = space.sample_mixed(np.random.default_rng(of.recipe.seed), MOST)
    labels = [f"seed-{k + 1}" for k in range(max(terms.repeats, terms.corner, terms.spread))]
    places = [(PRIOR, label) for label in labels[: terms.repeats]]
    places += [(CORNER, label) for label in labels[: terms.corner]]
    places += [(f"{DRAW}{k + 1}", labels[k]) for k in range(terms.spread)]
    corner = throughout(space, np.eye(len(base))[smallest])
    rows = {PRIOR: space.project(space.prior), CORNER: space.project(corner)}
    rows |= {f"{DRAW}{k + 1}": drawn[k] for k in range(terms.spread)}
    return {
        "of": of.name,
        "corner": base.domains[smallest],
        "mixtures": {name: space.mixture(weights) for name, weights in rows.items()},
        "seeds": {label: of.recipe.seed + 1 + k for k, label in enumerate(labels)},
        "places": [list(place) for place in places],
    }
