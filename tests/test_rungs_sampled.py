"""Stock samplers on rungs: they see one scale and no constraint, and search as well as they can."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

import studying
from climb_opt import study as studies
from climb_opt.attributes import RUNG
from climb_opt.gp.ladder_fit import LadderFits
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.samplers.levels import Scales
from climb_opt.samplers.wrapped import SimplexSampler
from climb_opt.statistics import spearman
from climb_opt.study import open_study
from climb_opt.view import StudyView, all_trials
from laddered import BELOW, by_rung, on_rungs, searched
from studying import PACE, score

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe, journal = studying.recipe, studying.journal  # fixtures

SEEN: list[list[FrozenTrial]] = []


class Spy(RandomSampler):
    """Keeps what it is shown."""

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        SEEN.append(study.get_trials(states=(TrialState.COMPLETE,)))
        assert not trial.constraints
        return super().sample_independent(study, trial, name, distribution)


def spying(space: Any, *, seed: int) -> SimplexSampler:
    return SimplexSampler(space, Spy(seed=seed))


@pytest.fixture
def seen(recipe: StudyRecipe, journal: str) -> tuple[optuna.Study, list[list[FrozenTrial]]]:
    SEEN.clear()
    wanted = on_rungs(
        recipe, rounds=(10, 6), rungs=(0, 1), sampler=Choice(f"{__name__}:spying", {})
    )
    return searched(wanted, journal), list(SEEN)


def test_a_stock_sampler_sees_one_scale_and_no_rung(
    seen: tuple[optuna.Study, list[list[FrozenTrial]]],
) -> None:
    study, shown = seen
    real = {t.number: t for t in all_trials(study)}
    last = shown[-1]
    assert len(last) == 17  # all but the one that was being asked for
    assert not any(t.constraints for trials in shown for t in trials)
    assert all(t.values[0] > -BELOW / 2 for t in last)
    for trial in last:
        if real[trial.number].user_attrs[RUNG] == 1:
            assert trial.values == real[trial.number].values
    low = [t for t in last if real[t.number].user_attrs[RUNG] == 0]
    told = np.array([t.values[0] for t in low])
    true = np.array([real[t.number].values[0] for t in low]) + BELOW
    assert len(low) == 10 and spearman(told, true) > 0.95
    assert np.abs(told - true).mean() < 0.5 * true.std() + 0.1
    assert real[0].constraints and all(t.values for t in real.values())  # the study is as it was


def test_the_scale_is_fitted_once_for_each_result(
    seen: tuple[optuna.Study, list[list[FrozenTrial]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = seen
    fits = []
    fit = LadderFits.ladder

    def counted(self: LadderFits, results: Any) -> Any:
        fits.append(len(results.values))
        return fit(self, results)

    monkeypatch.setattr(LadderFits, "ladder", counted)
    scales = Scales(StudyView(study).space)
    first = scales.shown(study)
    assert scales.shown(study) is first and fits == [18]
    study.add_trial(copy.deepcopy(study.trials[-1]))
    assert set(scales.shown(study)) == set(first) and fits == [18, 19]
    assert set(pickle.loads(pickle.dumps(scales)).shown(study)) == set(first)


def test_a_better_rung_is_not_a_better_mixture_in_any_direction(
    recipe: StudyRecipe, journal: str
) -> None:
    wanted = on_rungs(
        recipe, rounds=(10, 3), rungs=(0, 1), direction="maximize", sampler=Choice("random", {})
    )
    study = open_study(wanted, storage=journal, study_name="s")
    studies.work(study, objective=lambda trial: -by_rung(trial), pace=PACE)
    shown = Scales(StudyView(study).space).shown(study)
    assert len(shown) == 10 and all(-5 < value < 2 for (value,) in shown.values())
    true = {t.number: t.values[0] - BELOW for t in all_trials(study)}
    told = np.array([[value, true[number]] for number, (value,) in shown.items()])
    assert spearman(*told.T) > 0.9


@pytest.mark.parametrize("results", [0, 1, 3])
def test_few_results_differ_by_their_rungs_means(
    recipe: StudyRecipe, journal: str, results: int
) -> None:
    wanted = on_rungs(
        recipe, rounds=(6, 1), rungs=(0, 1), baselines=(), sampler=Choice("random", {})
    )
    study = open_study(wanted, storage=journal, study_name="s")
    ended: list[int] = []
    studies.work(
        study,
        objective=by_rung,
        pace=PACE,
        stop=lambda: len(ended) >= results,
        on_trial=lambda trial: ended.append(trial.number),
    )
    shown = Scales(StudyView(study).space).shown(study)
    assert {n: v[0] for n, v in shown.items()} == pytest.approx(
        {t.number: t.values[0] for t in all_trials(study) if t.values}
    )


@pytest.mark.parametrize("name", ["random", "tpe", "cma-es", "gp-optuna", "qmc", "nsga2"])
def test_stock_samplers_search_on_rungs(recipe: StudyRecipe, journal: str, name: str) -> None:
    wanted = on_rungs(recipe, rounds=(8, 5), rungs=(0, 1), sampler=Choice(name, {}))
    study = searched(wanted, journal)
    assert studies.status(study).done and study.best_value > -1
    assert {t.user_attrs[RUNG] for t in all_trials(study)} == {0, 1}


def test_a_study_of_one_rung_is_shown_as_it_is(recipe: StudyRecipe, journal: str) -> None:
    plain = dataclasses.replace(recipe, sampler=Choice("random", {}))
    study = open_study(plain, storage=journal, study_name="s")
    studies.work(study, objective=score, pace=PACE)
    assert Scales(StudyView(study).space).shown(study) == {}
