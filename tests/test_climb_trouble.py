"""ClimbSampler and bad input, none of which stops a search."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from climb_opt import (
    ClimbSampler,
    MixtureSpace,
    UserError,
)
from climb_opt.attributes import BASIS, SLOT
from climb_opt.plan import Plan
from climb_opt.samplers import ledger
from climb_opt.samplers.climb import (
    climb_pick,
    first_round,
)
from climb_opt.samplers.design import initial_design
from climb_opt.samplers.presets import NEMO, ClimbOptions
from climb_opt.view import read_history
from climbing import (
    QUICK,
    ROUNDS,
    SPACE,
    TARGET,
    distance,
    history_of,
    mixtures,
    search,
    slots,
)

# --- bad input, none of which stops a search -------------------------------------------------


def outcome(caplog: pytest.LogCaptureFixture, objective: Callable[..., float], n: int = 18) -> Any:
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK))
    with caplog.at_level(logging.WARNING, logger="climb_opt"):
        study.optimize(objective, n_trials=n, catch=(RuntimeError,))
    assert np.all(SPACE.contains(mixtures(study)))
    return study, warnings_of(caplog)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.name.startswith("climb_opt")]


def test_constant_scores_draw_from_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    study, said = outcome(caplog, lambda trial: SPACE.suggest(trial)["web"] * 0.0)
    assert len(np.unique(mixtures(study)[:14], axis=0)) == 14
    assert said[0] == "Nothing to learn from 8 trials with equal scores: drawing from the pool."


def test_nan_scores_and_a_round_in_which_all_failed(caplog: pytest.LogCaptureFixture) -> None:
    study, said = outcome(caplog, lambda t: SPACE.suggest(t)["web"] * math.nan, n=24 + 4)
    assert {t.state for t in study.trials} == {TrialState.FAIL}
    # Eight slots, three attempts each, then round 2 with nothing learnt.
    assert sorted(slots(study)) == sorted([*list(range(8)) * 3, *range(8, 12)])
    assert said[0] == "Nothing to learn from 0 finished trials: drawing from the pool."


def test_one_finished_trial(caplog: pytest.LogCaptureFixture) -> None:
    def objective(trial: optuna.Trial) -> float:
        score = distance(trial)
        if trial.number:
            raise RuntimeError
        return score

    _, said = outcome(caplog, objective, n=1 + 3 * 7 + 2)
    assert said[0] == "Nothing to learn from 1 finished trials: drawing from the pool."


class First:
    """A predictor that learns from the first row alone, as LightGBM heeds the order of its rows."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        self.first = weights[0]

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.abs(weights - self.first).sum(axis=1), np.zeros(len(weights))


def test_an_attempt_that_failed_changes_no_later_round() -> None:
    def but_the_first(trial: optuna.Trial) -> float:
        score = distance(trial)
        if not trial.number:
            raise RuntimeError
        return score

    found = []
    for objective, n in ((distance, 18), (but_the_first, 19)):
        study = optuna.create_study(sampler=ClimbSampler(SPACE, **{**QUICK, "predictor": First}))
        study.optimize(objective, n_trials=n, catch=(RuntimeError,))
        done = [t for t in study.trials if t.state == TrialState.COMPLETE]
        found.append({t.user_attrs[SLOT]: t.params for t in done})
    assert len(found[0]) == 18 and found[0] == found[1]


def test_a_round_learns_from_nothing_that_had_not_finished_when_it_began() -> None:
    study, plan = optuna.create_study(), Plan((3, 1), barrier=False)
    states = [TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL, TrialState.COMPLETE]
    for slot, state in zip((0, 1, 2, None), states, strict=True):  # the last is outside the plan
        value = 1.0 if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=value, user_attrs={SLOT: slot}))
    assert ledger.basis_of(study, plan, 1) == ((0, 3), {BASIS: [0, 3]})
    assert ledger.all_finished(study) == (0, 3)


def test_a_thousand_identical_trials(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **{**QUICK, "rounds": (1, 4)}))
    same = SPACE.params(initial_design(SPACE, "regmix", np.random.default_rng([0, 2]), 1)[0])
    rng = np.random.default_rng(0)
    for _ in range(1000):
        study.add_trial(
            create_trial(
                params=same, distributions=SPACE.distributions(), value=float(rng.normal())
            )
        )
    with caplog.at_level(logging.WARNING, logger="climb_opt"):
        study.optimize(distance, n_trials=5)
    (said,) = warnings_of(caplog)
    assert said.startswith("Nothing to learn from 1001 trials with equal mixtures")


def test_a_study_with_other_parameters_in_it() -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=5)
    search(18, study)
    assert slots(study) == [None] * 5 + list(range(18))
    np.testing.assert_array_equal(mixtures(study), mixtures(search()))


def test_an_enqueued_trial_with_an_unknown_domain_fails_alone() -> None:
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK))
    study.enqueue_trial({"w/web": 0.5, "w/news": 0.5})
    study.optimize(distance, n_trials=19, catch=(UserError,))
    assert study.trials[0].state == TrialState.FAIL
    assert slots(study) == [None, *range(18)]
    np.testing.assert_array_equal(mixtures(study), mixtures(search()))


def test_a_predictor_that_predicts_nothing_but_nan_still_proposes() -> None:
    class Lost:
        def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
            pass

        def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.full(len(weights), np.nan), np.full(len(weights), np.nan)

    assert np.all(SPACE.contains(mixtures(search(predictor=Lost))))


def test_one_domain_leaves_nothing_to_search_and_nothing_to_fail() -> None:
    space = MixtureSpace({"only": 1.0})
    study = optuna.create_study(sampler=ClimbSampler(space, **QUICK))
    study.optimize(lambda trial: space.suggest(trial)["only"] + trial.number, n_trials=20)
    assert {t.params["w/only"] for t in study.trials} == {1.0}


def test_bounds_hold_in_every_round() -> None:
    space = MixtureSpace({"a": 5, "b": 3, "c": 2}, upper=0.5, lower={"c": 0.1})
    study = optuna.create_study(sampler=ClimbSampler(space, **QUICK))
    study.optimize(lambda trial: -space.suggest(trial)["a"], n_trials=20)
    found = np.array([space.weights_of(t) for t in study.trials])
    assert np.all(space.contains(found))
    history = read_history(study, space)
    assert space.contains(
        climb_pick(space, history, ClimbOptions(predictor="loglinear", pool_size=400))
    )


def test_a_pick_without_anything_learnt_is_the_best_seen_or_the_prior() -> None:
    empty = read_history(optuna.create_study(), SPACE)
    np.testing.assert_allclose(climb_pick(SPACE, empty), SPACE.prior)
    one = history_of(TARGET[None], np.array([1.0]))
    np.testing.assert_array_equal(climb_pick(SPACE, one), TARGET)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"preset": "nvidia"}, "Unknown preset 'nvidia'. Known: nemo, paper"),
        ({"predictor": "lightgmb"}, "Did you mean 'lightgbm'"),
        ({"predictor_options": {"leafs": 3}}, "unknown key 'leafs'"),
        ({"design": "sobol"}, "Unknown design 'sobol'"),
        ({"pool_size": 0}, "pool_size must be a whole number, at least 1, but is 0"),
        ({"pool_strength": -1.0}, "pool_strength must be positive"),
        ({"top_n": -3}, "top_n must be a whole number, at least 1, but is -3"),
        ({"top_n": 0}, "top_n must be a whole number, at least 1, but is 0"),
        ({"pool_temperature": math.nan}, "pool_temperature must be finite, but is nan"),
        ({"rounds": ()}, "positive whole numbers"),
        ({"rounds": 64}, "positive whole numbers"),
        ({"rounds": (True, 4)}, "positive whole numbers"),
        ({"seed": -1}, r"seed must be a whole number, in \[0, 4294967295\], but is -1"),
        ({"seed": "3"}, "seed must be a whole number, .* but is '3'"),
        ({"seed": 2**32}, "seed must be a whole number, .* but is 4294967296"),
        ({"max_attempts": 0}, "max_attempts must be a whole number, at least 1, but is 0"),
        ({"max_attempts": None}, "max_attempts must be a whole number, at least 1, but is None"),
        ({"top_n": 2.5}, "top_n must be a whole number, at least 1, but is 2.5"),
        ({"pool_size": True}, "pool_size must be a whole number, at least 1, but is True"),
        ({"pool_strength": "much"}, "pool_strength must be a number, but is 'much'"),
        ({"exclude": "no"}, "exclude must be True or False, but is 'no'"),
        ({"per_component": "no"}, "per_component must be True or False, but is 'no'"),
        ({"predictor_options": 5}, "predictor_options must be a mapping, option: value, but is 5"),
        ({"predictor": 5}, 'predictor: a name, "module:Name" or a class is wanted, not 5'),
        ({"predictor": dict}, "Predictor 'dict' must have the methods"),
        (
            {"independent_sampler": optuna.samplers.TPESampler},
            "independent_sampler must be a sampler",
        ),
    ],
)
def test_wrong_options_are_errors_that_say_what_is_allowed(options: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        ClimbSampler(SPACE, **{**QUICK, **options})


def test_numbers_of_numpy_are_stored_as_pythons_own() -> None:
    given = {"seed": np.int64(0), "pool_size": np.int64(400), "top_n": np.int32(8)}
    given |= {"rounds": tuple(np.array(ROUNDS)), "exclude": np.bool_(True)}
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **{**QUICK, **given}))
    study.ask(SPACE.distributions())
    assert json.loads(json.dumps(study.user_attrs))["climb/pick"]["pool_size"] == 400


def test_an_unknown_rule_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match="argbest, mean-top"):
        climb_pick(SPACE, read_history(optuna.create_study(), SPACE), rule="best")


def test_the_plan_of_a_sampler_is_the_plan_of_the_worker_loop() -> None:
    """Slots handed out by the sampler are those a worker with the same rounds would take."""
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK))
    plan = Plan(ROUNDS)
    for _ in range(18):
        expected = plan.next(study.trials).slot
        trial = study.ask(SPACE.distributions())
        assert trial.user_attrs[SLOT] == expected
        study.tell(trial, 1.0 + trial.number)
    assert plan.next(study.trials).kind == "done"


def test_first_round_is_the_presets_design() -> None:
    first = first_round(SPACE, NEMO, m=8, seed=0)
    np.testing.assert_array_equal(mixtures(search(8)), first)
