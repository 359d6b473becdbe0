"""The law of epochs: it knows what repetition costs, and promises little where nobody has been."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import ClimbSampler, MixtureSpace, UserError, read_history
from climb_opt.emulator import MixingLaw
from climb_opt.predictors.epochs import EpochsPredictor
from climb_opt.predictors.loglinear import LogLinearPredictor
from climb_opt.samplers.climb import climb_pick
from climb_opt.samplers.presets import ClimbOptions

TOKENS = {"web": 600, "books": 300, "code": 90, "gem": 10}
SPACE = MixtureSpace(TOKENS, trial_tokens=100.0)


def repeated(weights: np.ndarray) -> np.ndarray:
    """`gem` is the best text there is until it has been read three times; then it harms."""
    epochs = weights * SPACE.epochs
    worth = np.array([0.2, 0.5, 0.3, 2.0])
    harm = np.array([0.0, 0.0, 0.0, 0.6]) * np.maximum(np.log1p(epochs) - np.log1p(3.0), 0.0)
    return np.asarray(2.0 + np.exp(-(1 - np.exp(-epochs / 1.5)) @ worth) + harm.sum(axis=1))


def test_epochs_are_those_of_a_trial_that_reads_nothing_else() -> None:
    np.testing.assert_allclose(SPACE.epochs, [100 / 600, 1 / 3, 100 / 90, 10.0])
    np.testing.assert_allclose(MixtureSpace(TOKENS).epochs, 1.0 / MixtureSpace(TOKENS).prior)
    np.testing.assert_array_equal(MixtureSpace({"a": 2.0, "b": 0.0}).epochs, [1.0, 0.0])


def test_epochs_are_stored_with_the_space_and_studies_without_them_open() -> None:
    stored = SPACE.to_json()
    np.testing.assert_array_equal(MixtureSpace.from_json(stored).epochs, SPACE.epochs)
    del stored["epochs"]
    old = MixtureSpace.from_json(stored)
    np.testing.assert_allclose(old.epochs, 1.0 / old.prior)


def test_it_stops_repeating_a_small_excellent_domain_where_that_begins_to_harm() -> None:
    rng = np.random.default_rng(0)
    weights = SPACE.sample_mixed(rng, 48)
    weights = weights[weights[:, 3] < 0.55]  # nobody has repeated it more often than 5.5 times
    predictor = EpochsPredictor()
    predictor.know(SPACE)
    predictor.fit(weights, repeated(weights) + 0.005 * rng.normal(size=len(weights)))
    path = np.array(
        [(1 - g) * np.array([0.5, 0.35, 0.15, 0.0]) + g * np.eye(4)[3] for g in (0.3, 1)]
    )
    guess, truth = predictor.mean(path), repeated(path)
    assert truth[1] > truth[0] and guess[1] > guess[0]


@pytest.mark.parametrize("law", range(4))
def test_what_it_claims_at_its_own_optimum_is_nearly_true_where_the_best_tenth_is_hidden(
    law: int,
) -> None:
    source = MixingLaw(12, 5, seed=law)
    rng = np.random.default_rng(law)
    weights = source.space.sample_mixed(rng, 112)
    scores = source.score(weights)
    seen = np.argsort(scores)[11:]
    predictor = EpochsPredictor(source.space.epochs)
    predictor.fit(weights[seen], scores[seen])
    pool = source.space.sample_mixed(rng, 4000)
    claims = predictor.mean(pool)
    pick = int(np.argmin(claims))
    typical = float(np.median(scores)) - source.optimum()[1]
    assert source.score(pool[[pick]])[0] - claims[pick] < 0.2 * typical


@settings(max_examples=25)
@given(st.integers(2, 5), st.integers(1, 12), st.integers(0, 2**31), st.booleans())
def test_it_answers_in_finite_numbers_whatever_it_is_given(
    k: int, n: int, seed: int, empty: bool
) -> None:
    rng = np.random.default_rng(seed)
    space = MixtureSpace(
        {f"d{j}": 0.0 if empty and j else 10.0 ** rng.uniform(-3, 6) for j in range(k)}
    )
    weights, scores = space.sample_mixed(rng, n), rng.normal(size=n) * 10.0 ** rng.uniform(-6, 6)
    predictor = EpochsPredictor()
    predictor.know(space)
    predictor.fit(weights, scores)
    mean, std = predictor.predict(space.sample_mixed(rng, 20))
    assert np.all(np.isfinite(mean)) and np.all(std >= 0)
    assert np.all(mean >= scores.min() - scores.std() - 1e-9 * abs(scores).max())


def test_the_sampler_and_its_pick_tell_it_of_the_space() -> None:
    known: list[MixtureSpace] = []

    class Spy(LogLinearPredictor):
        def know(self, space: MixtureSpace) -> None:
            known.append(space)

    sampler = ClimbSampler(SPACE, rounds=(6, 4), predictor=Spy, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: _score(SPACE.weights(SPACE.suggest(trial))), n_trials=10)
    assert known and all(space is SPACE for space in known)
    known.clear()
    climb_pick(SPACE, read_history(study, SPACE), ClimbOptions(predictor=Spy))
    assert known == [SPACE]


def _score(weights: np.ndarray) -> float:
    return float(repeated(weights[None])[0])


@pytest.mark.parametrize("epochs", [[-1.0, 1.0], [np.inf, 1.0], [1.0, 2.0, 3.0]])
def test_epochs_that_cannot_be_are_named(epochs: list[float]) -> None:
    with pytest.raises(UserError, match="epochs"):
        EpochsPredictor(np.array(epochs)).fit(np.array([[0.5, 0.5], [1.0, 0.0]]), np.arange(2.0))
