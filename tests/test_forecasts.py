"""What a sampler expected of a trial, stored before it ran, and judged by what it measured."""

from __future__ import annotations

import optuna
import pytest

from climb_opt import SimplexGPSampler
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
