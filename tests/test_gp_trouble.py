"""SimplexGPSampler: every kind of bad history, bad options, and sizes beyond the usual."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from climb_opt import MixtureSpace, SimplexGPSampler, UserError
from test_gp_sampler import SPACE4, bowl, done, mixtures, sampler_of


def test_constant_scores_are_explored_not_modelled() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    study.optimize(lambda trial: 0.0 * len(SPACE4.suggest(trial)) + 1.5, n_trials=14)
    rows = mixtures(study, SPACE4)
    assert len(np.unique(np.round(rows, 6), axis=0)) == 14


@pytest.mark.parametrize("bad", [float("nan"), "error", "pruned"])
def test_trials_that_fail_are_left_out(bad: object) -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    inner = bowl(SPACE4)

    def objective(trial: optuna.Trial) -> float:
        value = inner(trial)
        if trial.number % 2:
            return value
        if bad == "error":
            raise RuntimeError("lost")
        if bad == "pruned":
            raise optuna.TrialPruned
        return float("nan")

    study.optimize(objective, n_trials=18, catch=RuntimeError)
    assert len(mixtures(study, SPACE4)) == 18
    assert sum(t.state == TrialState.COMPLETE for t in study.trials) == 9


def test_a_start_that_failed_altogether_goes_on_drawing() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))

    def objective(trial: optuna.Trial) -> float:
        SPACE4.suggest(trial)
        raise RuntimeError("lost")

    study.optimize(objective, n_trials=12, catch=RuntimeError)
    rows = mixtures(study, SPACE4)
    assert len(np.unique(np.round(rows, 6), axis=0)) == 12
    study.optimize(bowl(SPACE4), n_trials=6)
    assert len(mixtures(study, SPACE4)) == 18


def test_foreign_trials_are_ignored() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4, n_startup=3))
    for i in range(5):
        study.add_trial(
            create_trial(
                params={"x": i / 5}, distributions={"x": FloatDistribution(0, 1)}, values=[0.0]
            )
        )
    other = MixtureSpace({"law": 1.0, "news": 1.0})
    study.add_trial(done(other, np.array([0.5, 0.5]), -9.0))
    study.optimize(bowl(SPACE4), n_trials=8)
    assert len(mixtures(study, SPACE4)) == 8


@pytest.mark.parametrize("n", [1, 1000])
def test_one_or_a_thousand_identical_trials_are_enough_to_go_on(n: int) -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4, n_startup=1))
    rng = np.random.default_rng(0)
    study.add_trials([done(SPACE4, SPACE4.prior, v) for v in rng.standard_normal(n).tolist()])
    study.optimize(bowl(SPACE4), n_trials=2)
    rows = mixtures(study, SPACE4)[n:]
    assert np.all(SPACE4.contains(rows)) and np.abs(rows[0] - SPACE4.prior).sum() > 1e-6


def test_huge_and_tiny_scores_are_modelled() -> None:
    for factor in (1e-12, 1e12):
        study = optuna.create_study(sampler=sampler_of(SPACE4))
        inner = bowl(SPACE4)
        study.optimize(lambda trial, f=factor, g=inner: f * g(trial), n_trials=12)
        assert np.all(SPACE4.contains(mixtures(study, SPACE4)))


def test_a_pruner_that_hides_trials_hides_none_from_the_sampler() -> None:
    study = optuna.create_study(
        sampler=sampler_of(SPACE4), pruner=optuna.pruners.HyperbandPruner(1, 8)
    )
    inner = bowl(SPACE4)

    def objective(trial: optuna.Trial) -> float:
        value = inner(trial)
        for step in range(4):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study.optimize(objective, n_trials=16)
    assert len(mixtures(study, SPACE4)) == 16


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_startup": 0}, "n_startup must be a whole number, at least 1, but is 0"),
        ({"n_startup": 1.5}, "n_startup must be a whole number, at least 1, but is 1.5"),
        ({"seed": -1}, "seed must be a whole number, .* but is -1"),
        ({"explore": "no"}, "explore must be True or False, but is 'no'"),
        ({"components": None}, "components must be True or False, but is None"),
        ({"ladder": [1, 2]}, r"ladder must be a climb_opt.ladder.Ladder, but is \[1, 2\]"),
        ({"independent_sampler": "tpe"}, r"such as .*TPESampler\(\), but is 'tpe'"),
    ],
)
def test_bad_options_are_refused(options: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        SimplexGPSampler(SPACE4, **options)


# --- size ----------------------------------------------------------------------------------------


def test_many_domains_and_many_trials_work() -> None:
    space = MixtureSpace({f"d{i}": 1.0 / (i + 1) for i in range(240)})
    study = optuna.create_study(sampler=sampler_of(space, n_startup=2))
    rng = np.random.default_rng(0)
    rows = space.sample_mixed(rng, 20)
    study.add_trials([done(space, w, float((w**2).sum())) for w in rows])
    trial = study.ask()
    assert abs(sum(space.suggest(trial).values()) - 1) < 1e-9
