"""The seed of a trial: the study's, unless its mixture is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from climb_opt.attributes import RUNG, SEED, SLOT
from climb_opt.lookup import MOST_SEED
from climb_opt.proxy.seeds import APART, seed_of
from climb_opt.simplex import MixtureSpace

SPACE = MixtureSpace({"web": 3, "code": 1, "math": 1})
ONE, OTHER = {"web": 0.5, "code": 0.3, "math": 0.2}, {"web": 0.4, "code": 0.4, "math": 0.2}


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


def ask(study: optuna.Study, mixture: Mapping[str, float], **attrs: Any) -> optuna.Trial:
    study.enqueue_trial(SPACE.params(SPACE.weights(mixture)), user_attrs=attrs)
    trial = study.ask()
    SPACE.suggest(trial)
    return trial


def seed(trial: optuna.Trial, first: int = 7) -> int:
    return seed_of(trial, SPACE, first, target=2)


def test_every_run_of_a_mixture_has_a_seed_of_its_own(study: optuna.Study) -> None:
    near = {**ONE, "web": 0.5 * (1 + 1e-14)}
    trials = [ask(study, one) for one in (ONE, OTHER, near, ONE)]
    assert [seed(trial) for trial in trials] == [7, 7, 7 + APART, 7 + 2 * APART]
    assert [SEED in trial.user_attrs for trial in trials] == [False, False, True, True]
    assert [seed(trial) for trial in trials] == [7, 7, 7 + APART, 7 + 2 * APART]  # asked again


def test_a_mixture_that_was_exported_and_put_in_line_is_the_same(study: optuna.Study) -> None:
    printed = {"web": 0.333334, "code": 0.333333, "math": 0.333333}
    beside = {"web": 0.33334, "code": 0.33333, "math": 0.33333}
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
    study.enqueue_trial(SPACE.params(SPACE.weights(OTHER)))  # in line behind the next
    assert seed(ask(optuna.create_study(), OTHER)) == seed(ask(study, OTHER)) == 7


def test_a_retry_of_a_slot_trains_as_its_first_attempt_did(study: optuna.Study) -> None:
    first = ask(study, ONE, **{SLOT: 3})
    copied = ask(study, ONE, **{SLOT: "enqueued/mine"})
    assert [seed(first), seed(copied)] == [7, 7 + APART]
    study.tell(first, state=TrialState.FAIL)
    assert seed(ask(study, ONE, **{SLOT: 3})) == 7
    kept = ask(study, ONE, **{SLOT: "enqueued/mine", SEED: 7 + APART})  # as claims keep it
    assert seed(kept) == 7 + APART


def test_the_largest_seed_is_followed_by_one_that_numpy_takes(study: optuna.Study) -> None:
    assert [seed(ask(study, ONE), MOST_SEED) for _ in range(2)] == [MOST_SEED, APART - 1]
