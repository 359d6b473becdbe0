"""The seed of a trial: its own, or the study's, unless its mixture is tried again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import studying
from climb_opt import best_mixture, enqueue
from climb_opt.attributes import BASELINE, FACTS, RECIPE, RUNG, SEED, SLOT
from climb_opt.lookup import MOST_SEED
from climb_opt.recipes import ProxyRecipe, StudyRecipe
from climb_opt.simplex import MixtureSpace
from climb_opt.study import open_study, read_recipe, work
from climb_opt.study.seeds import APART, seed_of
from climb_opt.study_recipe import BranchesRecipe
from climb_opt.view import StudyView, all_trials
from studying import PACE, score

recipe, journal = studying.recipe, studying.journal  # fixtures

SPACE = MixtureSpace({"web": 3, "code": 1, "math": 1})
ONE, OTHER = {"web": 0.5, "code": 0.3, "math": 0.2}, {"web": 0.4, "code": 0.4, "math": 0.2}


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


def ask(study: optuna.Study, mixture: Mapping[str, float], **attrs: Any) -> optuna.Trial:
    study.enqueue_trial(SPACE.params(SPACE.weights(mixture)), user_attrs=attrs)
    return study.ask()


def seed(trial: optuna.Trial, first: int = 7, seeds: Any = "common", **more: Any) -> int:
    proxy = ProxyRecipe(go_on=more.pop("go_on", False))
    recipe = StudyRecipe("c", proxy, (), {"a": 1.0}, seed=first, seeds=seeds, **more)
    found = seed_of(trial, SPACE, recipe, target=2)
    if found != first and SEED not in trial.user_attrs:
        trial.set_user_attr(SEED, found)
    return found


def test_every_trial_has_a_seed_of_its_own(study: optuna.Study) -> None:
    trials = [ask(study, one) for one in (ONE, OTHER, ONE)]
    seeds = [seed(trial, seeds="fresh") for trial in trials]
    assert seeds == [7 + APART, 7 + 2 * APART, 7 + 3 * APART]
    assert [trial.user_attrs[SEED] for trial in trials] == seeds  # a retry keeps it
    assert [seed(trial, seeds="fresh") for trial in trials] == seeds
    assert seed(ask(study, ONE, **{SEED: 5}), seeds="fresh") == 5


def test_the_own_seed_of_a_slot_depends_on_no_other_trial(study: optuna.Study) -> None:
    slots = (f"{BASELINE}prior", f"{BASELINE}uniform", 0, 3, "enqueued/mine")
    seeds = [seed(ask(study, ONE, **{SLOT: slot}), seeds="fresh") for slot in slots]
    assert len({*seeds}) == len(seeds) and seeds[2:4] == [7 + APART, 7 + 4 * APART]
    for slot, own in zip(slots, seeds, strict=True):  # whatever came before it: one that failed
        assert seed(ask(study, OTHER, **{SLOT: slot}), seeds="fresh") == own


@pytest.mark.parametrize("more", [{"go_on": True}, {"branches": BranchesRecipe()}])
def test_what_goes_on_from_another_run_has_its_seed(
    study: optuna.Study, more: dict[str, Any]
) -> None:
    trials = [ask(study, ONE, **{RUNG: rung}) for rung in (0, 1)]
    assert [seed(trial, seeds="fresh", **more) for trial in trials] == [7, 7]


def test_where_all_share_a_seed_a_mixture_that_is_tried_again_has_another(
    study: optuna.Study,
) -> None:
    near = {**ONE, "web": 0.5004, "code": 0.2996}  # read as the first, or nearly
    trials = [ask(study, one) for one in (ONE, OTHER, near, ONE)]
    assert [seed(trial) for trial in trials] == [7, 7, 7 + APART, 7 + 2 * APART]
    assert [SEED in trial.user_attrs for trial in trials] == [False, False, True, True]
    assert [seed(trial) for trial in trials] == [7, 7, 7 + APART, 7 + 2 * APART]  # asked again


def test_a_mixture_that_was_exported_and_put_in_line_is_the_same(study: optuna.Study) -> None:
    printed = {"web": 0.333334, "code": 0.333333, "math": 0.333333}
    beside = {"web": 0.336, "code": 0.332, "math": 0.332}
    trials = [ask(study, one) for one in (dict.fromkeys(SPACE.domains, 1 / 3), printed, beside)]
    assert [seed(trial) for trial in trials] == [7, 7 + APART, 7]


def test_a_seed_that_a_trial_brings_stays_and_is_taken(study: optuna.Study) -> None:
    assert seed(ask(study, ONE, **{SEED: 5})) == 5
    assert seed(ask(study, ONE, **{SEED: 5})) == 5
    assert seed(ask(study, ONE)) == 7


def test_another_rung_and_what_failed_take_no_seed(study: optuna.Study) -> None:
    for rung in (0, 1, 2):
        assert seed(ask(study, ONE, **{RUNG: rung})) == 7
    assert seed(ask(study, ONE, **{RUNG: 1})) == seed(ask(study, ONE)) == 7 + APART
    lost = ask(study, OTHER)
    study.tell(lost, state=TrialState.FAIL)
    study.enqueue_trial(SPACE.params(SPACE.weights(OTHER)))  # in line behind it
    assert seed(ask(optuna.create_study(), OTHER)) == seed(ask(study, OTHER)) == 7


@pytest.mark.parametrize("seeds", ["fresh", "common"])
def test_a_retry_of_a_slot_trains_as_its_first_attempt_did(study: optuna.Study, seeds: str) -> None:
    slots = (3, "enqueued/mine")
    first = [ask(study, ONE, **{SLOT: slot}) for slot in slots]
    had = [seed(trial, seeds=seeds) for trial in first]
    assert seeds == "fresh" or had == [7, 7 + APART]
    for trial in first:
        study.tell(trial, state=TrialState.FAIL)
    # Workers hand on what the attempt before was given.
    again = [ask(study, ONE, **trial.user_attrs) for trial in reversed(first)]
    assert [seed(trial, seeds=seeds) for trial in again] == had[::-1]


def test_a_retry_keeps_the_shared_seed_though_its_mixture_has_run_with_it_meanwhile(
    study: optuna.Study,
) -> None:
    assert seed(ask(study, OTHER, **{SLOT: 0})) == 7
    lost = ask(study, ONE, **{SLOT: 1})
    assert seed(lost) == 7
    study.tell(lost, state=TrialState.FAIL)
    assert seed(ask(study, ONE, **{SLOT: 2})) == 7  # what failed takes none
    assert seed(ask(study, ONE, **{SLOT: 1})) == 7
    assert seed(ask(study, ONE, **{SLOT: 3})) == 7 + APART


def test_the_largest_seed_is_followed_by_one_that_numpy_takes(study: optuna.Study) -> None:
    assert [seed(ask(study, ONE), MOST_SEED) for _ in range(2)] == [MOST_SEED, APART - 1]


@pytest.mark.parametrize("seeds", ["fresh", "common"])
def test_a_search_stores_the_seed_that_each_trial_trains_with(
    recipe: StudyRecipe, journal: str, seeds: Any
) -> None:
    seen: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        seen.append(trial.user_attrs.get(SEED, 0))
        return score(trial)

    study = open_study(replace(recipe, seeds=seeds), storage=journal, study_name="s")
    for name in ("mine", "once-more"):  # the mixture of the baseline `uniform`
        enqueue(study, name, dict.fromkeys(StudyView(study).space.domains, 1 / 3))
    work(study, objective=objective, pace=PACE)
    trials = all_trials(study)
    assert [t.user_attrs[FACTS]["seed"] for t in trials] == seen
    slots = {t.user_attrs[SLOT]: seed for t, seed in zip(trials, seen, strict=True)}
    same = {
        slots.pop(slot) for slot in (f"{BASELINE}uniform", "enqueued/mine", "enqueued/once-more")
    }
    assert len(same) == 3
    assert {*slots.values()} == {0} if seeds == "common" else len({*seen}) == len(seen)
    assert not any("one seed: " in warning for warning in best_mixture(study).warnings)


def test_a_study_of_before_goes_on_with_one_seed(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    stated = json.loads(study.user_attrs[RECIPE])
    assert stated.pop("seeds") == "fresh"
    study.set_user_attr(RECIPE, json.dumps(stated))
    joined = open_study(recipe, storage=journal, study_name="s")  # by a recipe of today
    assert read_recipe(joined).seeds == "common"
    work(joined, objective=score, pace=PACE)
    assert all(SEED not in trial.user_attrs for trial in all_trials(joined))
    assert any("one seed: " in warning for warning in best_mixture(joined).warnings)
