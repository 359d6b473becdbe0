"""An opened study, read once: recipe, plan, space, corpus, trials, history.

`open_study` gives people a plain Optuna study; inside climb_opt, whoever needs to know what it is
about takes a `StudyView` of it instead of deriving recipe, plan and space again. Beside storages/
and workers/ this is the only file that calls Optuna's private names: under
`HyperbandPruner` a sampler's study shows one bracket and hides its attributes, and reading trials
as copies costs 13 s at 10,000 of them (docs/notes/running.md#optuna), so both go past the study to
its storage.

>>> import climb_opt, optuna
>>> space = climb_opt.MixtureSpace({"web": 3, "code": 1})
>>> study = optuna.create_study(sampler=climb_opt.ClimbSampler(space, rounds=(2,), seed=0))
>>> study.optimize(lambda trial: space.suggest(trial)["code"], n_trials=2)
>>> view = StudyView(study)
>>> view.space.domains, view.recipe, len(view.history())
(('web', 'code'), None, 2)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import (
    AGGREGATE,
    BASELINE,
    BESIDE,
    CORPUS,
    LADDER,
    OURS,
    RECIPE,
    ROUNDS,
    RUNG,
    SLOT,
    SPACE,
    slots_beside,
)
from climb_opt.errors import UserError, within
from climb_opt.history import MOST, History, components_as_arrays, moved
from climb_opt.ladder import Ladder, rung_of
from climb_opt.phases import checked_space, shares_of, space_from_json
from climb_opt.plan import Plan, attempts_by_slot, plan_of, space_for
from climb_opt.recipes import StudyRecipe, study_from
from climb_opt.simplex import PREFIX, MixtureSpace


class CorpusFacts(NamedTuple):
    """The corpus that a study was created with; tokens of each domain."""

    name: str
    digest: str
    tokens: Mapping[str, float]


@dataclass(frozen=True)
class StudyView:
    """What an Optuna study says about itself. Cheap to make; what was read once stays as it was.

    `trials` and `history` are read anew at each call, all else once.
    """

    study: optuna.Study
    given: MixtureSpace | None = None  # the space as whoever looks states it

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @property
    def storage(self) -> BaseStorage:
        """Where it is stored."""
        return self.study._storage

    @property
    def number(self) -> int:
        """Its number in its storage; another study made under its name has another."""
        return self.study._study_id

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Its user attributes, by the names of attributes.py."""
        return self.storage.get_study_user_attrs(self.study._study_id)

    @cached_property
    def recipe(self) -> StudyRecipe | None:
        """The recipe it was created from; None for a study of `optimize` alone."""
        other = "was made by another version of climb_opt; use that one, or a newer"
        with within(f"Study {self.name!r} {other}"):
            return None if self.stated is None else study_from(self.stated, stored=True)

    @cached_property
    def stated(self) -> dict[str, Any] | None:
        """That recipe as it is stored: without keys that its version did not know."""
        text = self.attributes.get(RECIPE)
        return json.loads(text) if isinstance(text, str) else text

    @cached_property
    def corpus(self) -> CorpusFacts | None:
        """The corpus it was created with; None where it says nothing of one."""
        stored = self.attributes.get(CORPUS)
        if not isinstance(stored, Mapping) or not stored.get("tokens"):
            return None
        return CorpusFacts(stored["name"], stored["digest"], dict(stored["tokens"]))

    @cached_property
    def plan(self) -> Plan:
        """Its slots: of the recipe; of runs beside a search those that it says or has started;
        without a recipe those of its ClimbSampler, or that its trials name."""
        recipe, slots = self.recipe, list(attempts_by_slot(self.trials()))
        every = dict.fromkeys([*slots_beside(self.attributes), *map(str, slots)])
        if recipe is not None:
            if every and BESIDE.keys() & self.attributes.keys():
                return Plan((), tuple(every), recipe.max_attempts)
            return plan_of(recipe, self.ladder, self.corpus and self.corpus.tokens)
        named = sorted(slot for slot in slots if isinstance(slot, str))
        size = max((slot for slot in slots if isinstance(slot, int)), default=-1) + 1
        rounds = tuple(self.attributes.get(ROUNDS, ()))
        rounds = rounds if sum(rounds) >= size else (size,)
        return Plan(rounds, tuple(named), ladder=self.ladder, open=not rounds)

    @cached_property
    def space(self) -> MixtureSpace:
        """Its mixtures: as given or stored, else of its corpus and recipe, else of its trials.

        Raises:
            UserError: nothing in the study says so.
        """
        found = self._stated_space
        if found is not None:
            return found
        for trial in reversed(self.trials()):
            if domains := list(mixture_of(trial)):
                return MixtureSpace(dict.fromkeys(domains, 1.0))
        count = len(self.trials())
        what = "no trial yet" if not count else f"{count} trials, but none holds a mixture"
        raise UserError(
            f"Study {self.name!r} has {what} (parameters {PREFIX}<domain>), and no space is stored"
            ": nothing to show. Give it trials by a sampler of climb_opt, or name another study."
        )

    @property
    def prior_known(self) -> bool:
        """Whether the space's prior is the corpus's, not made up for want of one."""
        return self._stated_space is not None

    @property
    def maximize(self) -> tuple[bool, ...]:
        """Whether higher is better, one for each objective."""
        return tuple(d == StudyDirection.MAXIMIZE for d in self.study.directions)

    @property
    def sign(self) -> float:
        """+1 where lower is better, -1 where higher is; of the first objective."""
        return -1.0 if self.maximize[0] else 1.0

    def trials(self) -> list[FrozenTrial]:
        """Every trial as it stands, oldest first, not copied."""
        return all_trials(self.study)

    @cached_property
    def ladder(self) -> Ladder | None:
        """Its rungs; None where it has but one."""
        stored = self.attributes.get(LADDER)
        return None if stored is None else Ladder.from_data(stored)

    def history(self, *, rungs: bool = False) -> History:
        """The usable trials as arrays: of the target alone, or of all `rungs`."""
        return read_history(self.study, self.space, rungs=rungs)

    @cached_property
    def _stated_space(self) -> MixtureSpace | None:
        given, stored = self.given, self.attributes.get(SPACE)
        if given is not None or stored is not None:
            return space_from_json(stored) if given is None else checked_space(given)
        if self.corpus is not None:
            return space_for(self.corpus.tokens, self.recipe)
        for trial in self.trials():
            if trial.user_attrs.get(SLOT) == f"{BASELINE}prior" and trial.params:
                return MixtureSpace(mixture_of(trial))
        return None


def study_named(storage: BaseStorage, name: str) -> optuna.Study | None:
    """A study of a storage; None where there is none of that name."""
    try:
        return load_study(storage, name)
    except KeyError:
        return None


def load_study(storage: BaseStorage, name: str) -> optuna.Study:
    """A study that is there; its sampler is set by whoever works."""
    sampler = optuna.samplers.RandomSampler(seed=0)  # never asked; Optuna's default imports more
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler)


def mixture_of(trial: FrozenTrial | optuna.Trial) -> dict[str, float]:
    """domain -> weight of a trial, as far as it has weights."""
    given = trial.params.items()
    return {n.removeprefix(PREFIX): float(v) for n, v in given if n.startswith(PREFIX)}


def all_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Every trial of the study, oldest first, not copied; also under `HyperbandPruner`."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def read_history(
    study: optuna.Study,
    space: MixtureSpace,
    keep: Callable[[FrozenTrial], bool] = lambda trial: True,
    *,
    rungs: bool = False,
) -> History:
    """The usable trials of `study` that `keep` accepts: COMPLETE, finite, a mixture of `space`.

    Args:
        rungs: those of every rung; otherwise of the target alone, and scores of different rungs
            are never compared.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 3, "code": 1})
    >>> study = optuna.create_study(sampler=climb_opt.ClimbSampler(space, rounds=(4,), seed=0))
    >>> study.optimize(lambda trial: space.suggest(trial)["code"], n_trials=4)
    >>> history = read_history(study, space)
    >>> history.weights.shape, bool((history.values == history.weights[:, 1]).all())
    ((4, 2), True)
    """
    view, space = StudyView(study), checked_space(space)
    target = 0 if view.ladder is None else view.ladder.target
    trials = [t for t in view.trials() if t.state == TrialState.COMPLETE and keep(t)]
    if not rungs:
        trials = [t for t in trials if rung_of(t, target) == target]
    signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions])
    found = [(t, space.weights_of(t)) for t in trials if np.all(np.isfinite(t.values))]
    rows = [trial for trial, weights in found if weights is not None]
    weights = [weights for _, weights in found if weights is not None]
    y = signs * np.array([t.values for t in rows], dtype=float).reshape(len(rows), len(signs))
    y = np.clip(y, -MOST, MOST)
    w_rows = np.array(weights).reshape(len(rows), len(space))
    of = np.array([rung_of(t, target) for t in rows], dtype=int) if rungs and target else None
    more: dict[str, Any] = {"rungs": of, "target": target, "shares": shares_of(space)}
    more["methods"] = moved(filter(keep, view.trials()), float(signs[0]))
    if len(signs) > 1:
        return History(w_rows, y, tuple(rows), **more)
    parts = components_as_arrays(rows, view.attributes.get(AGGREGATE, {}), float(signs[0]))
    return History(w_rows, y[:, 0], tuple(rows), *parts, **more)


def store_space(study: optuna.Study, space: MixtureSpace) -> None:
    """Write the space into the study, where it is not stored yet, so that a view finds it."""
    store_fact(study, SPACE, space.to_json())


def store_fact(study: optuna.Study, name: str, value: object) -> None:
    """Write a study attribute, unless it is stored already; a sampler may call it at every ask."""
    if StudyView(study).attributes.get(name) != value:
        study._storage.set_study_user_attr(study._study_id, name, value)


# --- what a sampler remembers: Optuna gives it a frozen trial, which cannot be written ------------


def remember(study: optuna.Study, trial: FrozenTrial, name: str, value: Any) -> None:
    """Write an attribute of a trial that runs, in the storage and in the caller's copy."""
    if name.startswith(OURS):
        study._storage.set_trial_user_attr(trial._trial_id, name, value)
        trial.set_user_attr(name, value)
    else:
        study._storage.set_trial_system_attr(trial._trial_id, name, value)


RUNG_CONSTRAINT = f"{_CONSTRAINTS_KEY}:{RUNG}"  # the system attribute


def rung_attributes(rung: int, target: int) -> dict[str, Any]:
    """What a trial stores: its rung, and a constraint, so that Optuna's best is of the target."""
    return {RUNG: rung, RUNG_CONSTRAINT: float(target - rung)}


def once(study: optuna.Study, name: str, make: Callable[[], Any]) -> Any:
    """A system attribute of the study, made by whoever asks first."""
    storage, number = study._storage, study._study_id
    stored = storage.get_study_system_attrs(number).get(name)
    if stored is None:
        storage.set_study_system_attr(number, name, make())
        # Read it back: another worker may have written in between.
        stored = storage.get_study_system_attrs(number)[name]
    return stored
