"""What a sampler expected of a trial, stored before it ran, and judged by what it measured."""

from __future__ import annotations

import optuna
import pytest

from climb_opt import ClimbSampler, SimplexGPSampler
from climb_opt.attributes import FORECAST
from climb_opt.emulator import MixingLaw
from climb_opt.predictors.linear import LinearPredictor
from climb_opt.reports.quality import predict_unseen
from climb_opt.reports.snapshot import take

LAW = MixingLaw(5, seed=0)
START = 6


def searched(n: int = 12, sign: float = 1.0) -> optuna.Study:
    sampler = SimplexGPSampler(LAW.space, n_startup=START, seed=0)
    study = optuna.create_study(direction="minimize" if sign > 0 else "maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        weights = LAW.space.weights(LAW.space.suggest(trial))[None]
        stored = study._storage.get_trial(trial._trial_id).system_attrs
        assert (FORECAST in stored) == (trial.number >= START)  # before there is a result
        return sign * float(LAW.score(weights)[0])

    study.optimize(objective, n_trials=n)
    return study


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_the_process_expects_is_stored_in_the_studys_units(sign: float) -> None:
    for trial in searched(sign=sign).trials[START:]:
        forecast = trial.system_attrs[FORECAST]
        assert set(forecast) == {"mean", "std", "measured"}
        assert forecast["mean"] == pytest.approx(trial.value, abs=0.3)
        assert 0 < forecast["std"] < forecast["measured"]


def test_forecasts_do_not_change_what_is_proposed_and_direction_only_their_sign() -> None:
    up, down = searched(sign=-1.0).trials, searched().trials
    for a, b in zip(up, down, strict=True):
        assert a.params == b.params
        if a.number >= START:
            assert a.system_attrs[FORECAST]["mean"] == -b.system_attrs[FORECAST]["mean"]


def test_a_report_judges_the_stored_forecasts_and_not_a_later_fit() -> None:
    study = searched()
    found = predict_unseen(take(study), LinearPredictor)
    stored = {t.number: t.system_attrs.get(FORECAST) for t in study.trials}
    assert {int(row) for row in found.rows} >= set(range(START, 12))
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
    assert stored[:12] == [None] * 12 and stored[18] is None  # a draw; beyond the plan
    history = take(study).history
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
    study.optimize(lambda t: float(LAW.score(LAW.space.weights(LAW.space.suggest(t))[None])[0]), 8)
    assert FORECAST not in sampler.plan_ahead(study, 0)[1]
    ahead = sampler.plan_ahead(study, 8)[1][FORECAST]
    trial = study.ask(LAW.space.distributions())
    assert study.trials[trial.number].system_attrs[FORECAST] == ahead
