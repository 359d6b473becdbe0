"""Scores with a long bad tail, tamed."""

from __future__ import annotations

import dataclasses

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from climb_opt.gp.outliers import ABSURD, REACH, tame, tamed
from climb_opt.history import MOST, History
from climb_opt.view import read_history
from synthetic_study import Shape, build_study, make_space

SCORES = arrays.arrays(float, st.integers(0, 30), elements=st.floats(-1e6, 1e6))


@given(SCORES)
@settings(max_examples=100)
def test_ranks_and_the_good_half_stay(values: np.ndarray) -> None:
    found = tame(values)
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(found[order]) >= 0)
    good = values <= np.median(values) if len(values) else np.zeros(0, dtype=bool)
    assert np.array_equal(found[good], values[good])
    assert np.all(found <= values)


def test_scores_without_a_tail_stay_as_they_are() -> None:
    values = np.random.default_rng(0).uniform(1.0, 2.0, 112)
    assert np.array_equal(tame(values), values)


def test_a_run_that_diverged_ends_near_the_others() -> None:
    values = np.append(np.random.default_rng(0).normal(1.2, 0.01, 60), [7.0, 900.0])
    spread = np.median(values) - np.quantile(values, 0.1)
    found = tame(values)
    assert found[-2] < found[-1] < np.median(values) + (REACH + 12) * spread


@pytest.mark.parametrize("n", [3, 6, 12, 60])
def test_however_far_a_run_diverged_it_bends_little_and_ranks_last(n: int) -> None:
    values = np.append(np.random.default_rng(0).normal(30.0, 1.0, n - 2), [1e9, MOST])
    found = tame(values)
    assert np.array_equal(found[:-2], values[:-2]) or n == 3
    if n > 3:
        spread = np.median(values) - np.quantile(values, 0.1)
        assert found[-2] < found[-1] < np.median(values) + 20 * spread


def test_only_the_absurd_is_a_tail_where_that_is_asked() -> None:
    values = np.append(np.random.default_rng(0).normal(30.0, 1.0, 60), 60.0)
    assert tame(values)[-1] < 50 and tame(values, ABSURD)[-1] == 60.0
    values[-1] = 1e6
    assert np.array_equal(tame(values), tame(values, ABSURD))


def test_components_are_tamed_on_their_bad_side() -> None:
    shape = Shape(domains=5, rounds=(16,), components=2, failures=0, direction="maximize")
    study = build_study(shape)
    history = read_history(study, make_space(shape))
    assert history.components is not None and history.coefficients is not None
    far = history.components.copy()
    far[0], far[1] = -50.0, 50.0  # gains: the first is bad, the second good
    broken = type(history)(**{**history.__dict__, "components": far})
    found = tamed(broken).components
    assert found is not None
    assert np.all(found[0] > -20.0)
    assert np.all(found[1] == 50.0)


def test_a_history_of_several_objectives_keeps_its_shape() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    space = make_space(Shape(domains=3))
    for w in space.sample(np.random.default_rng(0), 12):
        study.add_trial(
            optuna.trial.create_trial(
                params=space.params(w),
                distributions=space.distributions(),
                values=[float(w[0]), float(w[1])],
            )
        )
    history = read_history(study, space)
    assert tamed(history).values.shape == (12, 2)


def concentrated(start: int, close: int) -> History:
    """A search that began everywhere and then stayed near one mixture of three domains."""
    rng = np.random.default_rng(0)
    everywhere = rng.dirichlet(np.ones(3), start)
    near = rng.dirichlet([600.0, 300.0, 100.0], close)
    weights = np.concatenate([everywhere, near])
    values = 2.0 + np.abs(weights - [0.6, 0.3, 0.1]).sum(axis=1)
    trials = tuple(optuna.trial.create_trial(value=float(v)) for v in values)
    return History(weights, values, trials)


@pytest.mark.parametrize("first", ["everywhere", "near"])
@pytest.mark.parametrize("tried", [True, False])
@pytest.mark.parametrize("close", [24, 96, 400])
def test_what_a_pick_is_compared_with_is_no_tail_however_long_a_search_concentrates(
    close: int, tried: bool, first: str
) -> None:
    history = concentrated(16, close)
    prior = np.array([0.1, 0.2, 0.7])
    weights = history.weights.copy()
    weights[0] = prior if tried else weights[0]
    values = 2.0 + np.abs(weights - [0.6, 0.3, 0.1]).sum(axis=1)
    order = np.arange(len(history))[:: 1 if first == "everywhere" else -1]  # imported best first
    history = dataclasses.replace(history, weights=weights[order], values=values[order])
    found = tamed(history, against=prior[None]).values
    near = np.abs(history.weights - prior).sum(axis=1) < 0.3
    assert near.any()
    assert np.array_equal(found[near], history.values[near])
    assert not np.array_equal(tamed(history).values[near], history.values[near])


def test_a_run_that_diverged_is_a_tail_for_promises_too() -> None:
    history = concentrated(16, 96)
    values = history.values.copy()
    values[[3, 60]] = 50.0, MOST
    history = dataclasses.replace(history, values=values)
    for against in (np.array([0.1, 0.2, 0.7]), history.weights[3]):  # even where it is the prior's
        found = tamed(history, against=against[None]).values
        assert values[0] >= found[0] and np.delete(found, [3, 60]).max() < found[3]
        assert found[3] < found[60] < 20.0


def test_a_history_of_one_mixture_stays() -> None:
    for n in (1, 20):
        weights = np.tile([0.5, 0.3, 0.2], (n, 1))
        trials = tuple(optuna.trial.create_trial(value=1.0) for _ in range(n))
        history = History(weights, np.ones(n), trials)
        assert np.array_equal(tamed(history, against=weights[:1]).values, history.values)


def test_a_spread_of_next_to_nothing_is_none() -> None:
    values = np.array([-1e-308, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert np.array_equal(tame(values), values)
