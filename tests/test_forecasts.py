"""What was expected of a trial, stored before it ran, and judged by what it measured."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

import climb_opt
from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler, lookup
from climb_opt.attributes import FORECAST, RECIPE, SLOT
from climb_opt.emulator import MixingLaw
from climb_opt.predictors.linear import LinearPredictor
from climb_opt.recipes import to_json
from climb_opt.reports.quality import predict_unseen
from climb_opt.reports.snapshot import take
from climb_opt.samplers.forecasts import FEWEST
from climb_opt.study import read_recipe
from climb_opt.view import StudyView
from synthetic_study import Shape, build_study

LAW = MixingLaw(5, seed=0)
START = 6
STOCK = ("random", "tpe", "qmc", "nsga2")


def scored(trial: optuna.Trial) -> float:
    return float(LAW.score(LAW.space.weights(LAW.space.suggest(trial))[None])[0])


def forecasts(study: optuna.Study) -> list[dict[str, float] | None]:
    return [trial.system_attrs.get(FORECAST) for trial in study.trials]


def searched(n: int = 12, sign: float = 1.0) -> optuna.Study:
    sampler = SimplexGPSampler(LAW.space, n_startup=START, seed=0)
    study = optuna.create_study(direction="minimize" if sign > 0 else "maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        weights = LAW.space.weights(LAW.space.suggest(trial))[None]
        stored = study._storage.get_trial(trial._trial_id).system_attrs
        assert (FORECAST in stored) == (trial.number >= FEWEST)  # before there is a result
        return sign * float(LAW.score(weights)[0])

    study.optimize(objective, n_trials=n)
    return study


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_the_process_expects_is_stored_in_the_studys_units(sign: float) -> None:
    for trial in searched(sign=sign).trials[START:]:
        forecast = trial.system_attrs[FORECAST]
        assert set(forecast) == {"mean", "std", "measured"}
        assert forecast["mean"] == pytest.approx(trial.value, abs=0.6)
        assert 0 < forecast["std"] < forecast["measured"]


def test_forecasts_do_not_change_what_is_proposed_and_direction_only_their_sign() -> None:
    up, down = searched(sign=-1.0).trials, searched().trials
    for a, b in zip(up, down, strict=True):
        assert a.params == b.params
        if a.number >= FEWEST:
            assert a.system_attrs[FORECAST]["mean"] == -b.system_attrs[FORECAST]["mean"]


def test_a_report_judges_the_stored_forecasts_and_not_a_later_fit() -> None:
    study = searched()
    found = predict_unseen(take(study), LinearPredictor)
    stored = {t.number: t.system_attrs.get(FORECAST) for t in study.trials}
    assert {int(row) for row in found.rows} >= set(range(FEWEST, 12))
    assert found.later == len(found) - (12 - FEWEST)
    for row, mean, std in zip(found.rows, found.mean, found.std, strict=True):
        forecast = stored[int(row)]
        if forecast is not None:
            assert (mean, std) == (forecast["mean"], forecast["measured"])


def test_several_objectives_have_no_forecast() -> None:
    sampler = SimplexGPSampler(LAW.space, n_startup=4, seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(
        lambda t: tuple(list(LAW.space.suggest(t).values())[:2]),
        n_trials=6,
    )
    assert not any(FORECAST in t.system_attrs for t in study.trials)


def test_a_round_of_climb_stores_what_its_predictor_expects() -> None:
    sampler = ClimbSampler(LAW.space, rounds=(12, 4, 2), predictor="linear", seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(
        lambda t: -float(LAW.score(LAW.space.weights(LAW.space.suggest(t))[None])[0]), 19
    )
    stored = [t.system_attrs.get(FORECAST) for t in study.trials]
    assert stored[:FEWEST] == [None] * FEWEST
    for forecast in (*stored[FEWEST:12], stored[18]):  # a draw; beyond the plan
        assert forecast is not None and forecast["std"] is not None
    history = take(study).judged
    model = LinearPredictor()
    model.fit(history.weights[:12], history.values[:12])
    mean, std = model.predict(history.weights[12:16])
    for i, forecast in enumerate(stored[12:16]):
        assert forecast is not None and forecast["std"] is None
        assert forecast["mean"] == pytest.approx(-mean[i])
        assert forecast["measured"] == pytest.approx(std[i])


def test_a_slot_that_is_planned_ahead_has_the_forecast_of_its_trial() -> None:
    sampler = ClimbSampler(LAW.space, rounds=(8, 4), predictor="linear", seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(scored, 2)
    assert FORECAST not in sampler.plan_ahead(study, 2)[1]
    study.optimize(scored, 6)
    ahead = sampler.plan_ahead(study, 8)[1][FORECAST]
    trial = study.ask(LAW.space.distributions())
    assert study.trials[trial.number].system_attrs[FORECAST] == ahead


@pytest.mark.parametrize("name", STOCK)
def test_the_studys_own_model_speaks_for_stock_samplers(name: str) -> None:
    study = optuna.create_study(sampler=lookup.find("sampler", name)(LAW.space, seed=0))
    study.optimize(scored, 30)
    found = forecasts(study)
    assert found[:FEWEST] == [None] * FEWEST and all(found[FEWEST:])
    late = [(f, t.values[0]) for f, t in zip(found[15:], study.trials[15:], strict=True) if f]
    held = [abs(f["mean"] - value) <= 2 * f["measured"] for f, value in late]
    assert np.mean(held) >= 0.7
    assert all(0 < f["std"] < f["measured"] for f, _ in late)


@pytest.mark.parametrize("name", [*STOCK, "climb", "simplex-gp"])
def test_a_mixture_that_a_person_put_in_line_has_a_forecast(name: str) -> None:
    study = optuna.create_study(sampler=lookup.find("sampler", name)(LAW.space, seed=0))
    study.optimize(scored, 8)
    study.enqueue_trial(LAW.space.params(LAW.space.prior))
    study.optimize(scored, 1)
    forecast = study.trials[8].system_attrs[FORECAST]
    assert forecast["mean"] == pytest.approx(study.trials[8].value, abs=3 * forecast["measured"])


class Plain(optuna.samplers.RandomSampler):
    """Draws mixtures, and knows nothing of forecasts."""

    def __init__(self, space: MixtureSpace, *, seed: int | None = None) -> None:
        super().__init__(seed)
        self._space = space

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return self._space.distributions()

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return self._space.params(
            self._space.sample_mixed(np.random.default_rng(trial.number), 1)[0]
        )


@pytest.mark.parametrize("sampler", ["tpe", "test_forecasts:Plain"])
def test_a_worker_foretells_baselines_mixtures_in_line_and_samplers_of_others(sampler: str) -> None:
    shape = Shape(domains=4, rounds=(8, 4), failures=0, done=5, overrides=(f"sampler={sampler}",))
    study = build_study(shape, "sqlite://")
    space = StudyView(study).space
    recipe = replace(read_recipe(study), baselines=("prior", "uniform", "unimax"))
    study.set_user_attr(RECIPE, to_json(recipe))
    slot = climb_opt.enqueue(study, "mine", space.mixture(space.prior))
    climb_opt.work(study, objective=lambda t: float(space.weights(space.suggest(t))[0]))
    told = {t.user_attrs[SLOT]: t.system_attrs.get(FORECAST) for t in study.trials[7:]}
    assert set(told) == {"baseline/unimax", slot, *range(5, 12)} and all(told.values())


def test_what_teaches_nothing_has_no_forecast() -> None:
    study = optuna.create_study(sampler=lookup.find("sampler", "random")(LAW.space, seed=0))
    study.optimize(lambda t: 0.0 * scored(t), 8)  # equal scores
    assert forecasts(study) == [None] * 8
    study.optimize(scored, 1)
    study.optimize(scored, 6)
    assert forecasts(study)[-1] is not None


def test_failed_and_foreign_trials_teach_nothing_and_diverged_ones_break_nothing() -> None:
    study = optuna.create_study(sampler=lookup.find("sampler", "random")(LAW.space, seed=0))
    study.optimize(lambda t: t.suggest_float("other", 0, 1), 6)
    study.optimize(lambda t: float("nan") if t.number < 10 else scored(t), 12)
    found = forecasts(study)
    assert found[: 10 + FEWEST] == [None] * (10 + FEWEST) and found[-1] is not None
    study.optimize(lambda t: scored(t) + 1e300 * (t.number == 18), 12)
    last = forecasts(study)[-1]
    assert last is not None and abs(last["mean"]) < 100


def test_a_sampler_from_elsewhere_foretells_as_one_that_stayed() -> None:
    sampler = lookup.find("sampler", "random")(LAW.space, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(scored, 20)
    kept = sampler._forecaster
    assert pickle.loads(pickle.dumps(kept)).foretell(study, LAW.space.prior)[FORECAST][
        "mean"
    ] == pytest.approx(kept.foretell(study, LAW.space.prior)[FORECAST]["mean"], abs=0.2)
