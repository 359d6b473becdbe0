"""What is promised of a picked mixture: corrected for luck, wider where trials are few."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from climb_opt.emulator import MixingLaw, NoisyObjective
from climb_opt.gp.fit import fit
from climb_opt.samplers.stock import random, tpe
from climb_opt.selection import Estimate, best_mixture
from climb_opt.selection.choosing import evidence_of, learnt
from climb_opt.selection.promise import (
    DOUBT,
    FEW,
    LEAD_STD,
    LUCK,
    LUCK_STD,
    NOISE_STD,
    ON_RUNGS,
    OWN_UNFOLLOWED,
    SOME,
    UNFOLLOWED,
    UNSEEN,
    Promise,
    as_good,
    small_doubt,
    unseen_doubt,
)
from climb_opt.selection.recommendation import WIDTH
from climb_opt.selection.rules import QUIET

SPACE = MixingLaw(4, seed=1).space


def known(n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    weights = SPACE.sample_mixed(np.random.default_rng(0), n)
    return weights, ((weights - [0.4, 0.3, 0.2, 0.1]) ** 2).sum(axis=1)


def promised(weights: np.ndarray, evaluated: np.ndarray, values: np.ndarray) -> Promise:
    return Promise(fit(np.sqrt(evaluated), values), weights, evaluated)


def test_a_mixture_gains_exactly_nothing_over_itself() -> None:
    evaluated, values = known()
    prior = SPACE.project(SPACE.prior)
    assert promised(prior, evaluated, values).gain(prior) == Estimate(0.0, 0.0, 0.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_promise_is_worse_than_what_the_model_sees_never_better(sign: float) -> None:
    evaluated, values = known()
    noisy = values + 0.02 * np.random.default_rng(1).standard_normal(len(values))
    for weights in (np.array([0.4, 0.3, 0.2, 0.1]), evaluated[3], np.array([0.0, 0.0, 0.0, 1.0])):
        promise = promised(weights, evaluated, noisy)
        seen, std = promise.surrogate.moments(np.sqrt(weights[None]))
        score = promise.score(sign)
        assert sign * score.mean > seen[0] + 0.5 * std[0]
        noise, spread = promise.surrogate.noise, promise.surrogate.spread
        parts = [promise.doubting * std[0], NOISE_STD * noise, LEAD_STD * promise.lead]
        parts.append(min(OWN_UNFOLLOWED * spread, noise))
        assert score.half == pytest.approx(WIDTH * np.linalg.norm(parts))
        assert score.low < score.mean < score.high


@pytest.mark.parametrize(
    ("trials", "share"),
    [(FEW // 2, 1.0), (FEW, 1.0), ((FEW + SOME) // 2, (1 + DOUBT) / 2), (SOME, DOUBT), (99, DOUBT)],
)
def test_the_fewer_the_trials_the_more_of_the_process_own_doubt_counts(
    trials: int, share: float
) -> None:
    promise = promised(np.array([0.4, 0.3, 0.2, 0.1]), *known(trials))
    assert promise.doubting == pytest.approx(share)
    assert replace(promise, below=True).doubting == DOUBT  # which is wider for that already


def test_the_lead_counts_from_the_best_evaluated_mixture_and_is_none_for_that() -> None:
    evaluated, values = known()
    far = promised(np.array([0.4, 0.3, 0.2, 0.1]), evaluated, values)
    assert far.lead > 0
    at = promised(evaluated[int(np.argmin(values))], evaluated, values)
    assert at.lead == pytest.approx(0.0, abs=1e-6)


def test_scores_in_other_units_give_the_same_promise_in_those_units() -> None:
    evaluated, values = known()
    weights = np.array([0.3, 0.3, 0.2, 0.2])
    prior = SPACE.project(SPACE.prior)
    one = promised(weights, evaluated, values)
    other = promised(weights, evaluated, 1000 * values + 7)
    for a, b in ((one.score(1.0), other.score(1.0)), (one.gain(prior), other.gain(prior))):
        shift = 7 if a.mean == one.score(1.0).mean else 0
        assert b.mean == pytest.approx(1000 * a.mean + shift, rel=1e-2, abs=2)
        assert b.half == pytest.approx(1000 * a.half, rel=0.1)


def test_a_gain_over_one_measured_score_counts_the_noise_of_that() -> None:
    evaluated, values = known()
    noisy = values + 0.02 * np.random.default_rng(1).standard_normal(len(values))
    promise = promised(np.array([0.4, 0.3, 0.2, 0.1]), evaluated, noisy)
    gain = promise.gain_over_score(0.3)
    assert gain.mean == pytest.approx(0.3 - promise.score(1.0).mean)
    _, std = promise.surrogate.moments(np.sqrt(promise.weights[None]))
    parts = (std[0], promise.surrogate.noise, LEAD_STD * promise.lead)
    assert gain.half == pytest.approx(WIDTH * np.linalg.norm(parts))


def test_only_a_baseline_that_the_target_has_not_run_is_doubted_for_that() -> None:
    evaluated, values = known()
    prior = SPACE.project(SPACE.prior)
    ladder = replace(promised(np.array([0.4, 0.3, 0.2, 0.1]), evaluated, values), below=True)
    single = replace(ladder, below=False)
    ran = replace(ladder, evaluated=np.concatenate([evaluated, prior[None]]))
    for promise in (single, ran):
        assert unseen_doubt(promise, prior, "prior") == []
    (word,) = unseen_doubt(ladder, prior, "prior")
    assert "has not run the prior mixture: the gain over it rests on cheaper rungs" in word

    def own(promise: Promise, times: float) -> float:
        """The model's part of half an interval that is `times` as wide as the model's."""
        half = promise.gain(prior).half / times / WIDTH
        return float(np.sqrt(half**2 - (LEAD_STD * promise.lead) ** 2))

    assert own(ladder, ON_RUNGS) == pytest.approx(UNSEEN * own(single, 1.0))


def replace_spread(surrogate: Any, spread: float) -> Any:
    """The same belief, from values that differ by so much."""
    other = copy(surrogate)
    other.spread = spread
    return other


def beside(promise: Promise, baseline: np.ndarray) -> tuple[float, float]:
    """By how much a stated gain is less than if the baseline were picked, too, and what of: the sum
    of both standard deviations less that of the difference."""
    given, picked = promise.gain(baseline), promise.gain(baseline, picked=True)
    hidden = min(UNFOLLOWED * promise.surrogate.spread, promise.surrogate.noise)
    assert given.half == pytest.approx(np.hypot(picked.half, WIDTH * hidden))
    assert given.half > picked.half or not promise.surrogate.noise
    _, covariance = promise.surrogate.joint(np.sqrt(np.stack([promise.weights, baseline])))
    alone = np.sqrt(np.diag(covariance)).sum()
    apart = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return picked.mean - given.mean, float(alone - apart)


def test_a_baseline_that_was_tried_and_not_picked_has_the_benefit_of_its_own_doubt() -> None:
    evaluated, values = known()
    prior = SPACE.project(SPACE.prior)
    noisy = values + 0.02 * np.random.default_rng(1).standard_normal(len(values))
    pick = np.array([0.4, 0.3, 0.2, 0.1])
    tried = promised(pick, np.concatenate([prior[None], evaluated]), np.append(0.05, noisy))
    moved, of = beside(tried, prior)
    assert 0 < moved == pytest.approx(LUCK_STD * of, rel=1e-6)
    assert replace(tried, misfit=1e-9).gain(prior) == replace(tried, misfit=1e-9).gain(
        prior, picked=True
    )


@pytest.mark.parametrize("times", [0.0, 0.1, 0.5, 1.0, 7.0])
def test_one_that_was_not_tried_has_it_by_the_share_of_noise_in_what_scores_differ_by(
    times: float,
) -> None:
    evaluated, values = known()
    prior, pick = SPACE.project(SPACE.prior), np.array([0.4, 0.3, 0.2, 0.1])
    untried = promised(pick, evaluated, values)
    model = replace_spread(untried.surrogate, 1.0)
    model.noise = times
    moved, of = beside(replace(untried, surrogate=model), prior)
    assert moved == pytest.approx(LUCK_STD * min(times, 1.0) ** 2 * of, rel=1e-6, abs=1e-12)
    assert of > 0


def test_no_score_is_known_better_than_what_the_model_cannot_follow() -> None:
    evaluated, values = known()
    weights, prior = np.array([0.4, 0.3, 0.2, 0.1]), SPACE.project(SPACE.prior)
    plain = replace(promised(weights, evaluated, values), misfit=1e-9)
    for misfit in (1e-9, 1e-6, 0.01, 10.0):
        rough = replace(plain, misfit=misfit)
        assert rough.score(1.0).half >= max(plain.score(1.0).half, 1.64 * misfit)
        assert rough.gain(prior).half >= max(plain.gain(prior).half, misfit) * (1 - 1e-12)
        assert rough.score(1.0).mean <= plain.score(1.0).mean
        assert rough.gain(prior).mean >= plain.gain(prior).mean
    assert replace(plain, misfit=10.0).gain(prior).half > 1.64 * 14


@pytest.mark.parametrize("times", [0.0, 1e-9, 0.1, 0.5, 1.0, 3.0, 1e9])
def test_without_noise_the_less_of_a_lead_is_luck_the_smaller_it_is_beside_the_spread(
    times: float,
) -> None:
    evaluated, values = known()
    noisy = promised(np.array([0.4, 0.3, 0.2, 0.1]), evaluated, values)
    lead = noisy.lead
    model = replace_spread(noisy.surrogate, times * lead)
    quiet = replace(noisy, surrogate=model, misfit=1e-9)
    assert noisy.luck == replace(noisy, surrogate=model).luck == LUCK * lead
    assert quiet.luck == pytest.approx(lead * min(LUCK, 1 / (1 + times)))
    moved = noisy.luck - quiet.luck
    assert noisy.score(1.0).mean - quiet.score(1.0).mean == pytest.approx(moved)
    hidden = min(OWN_UNFOLLOWED * noisy.surrogate.spread, noisy.surrogate.noise)
    of = np.hypot(quiet.score(1.0).half, WIDTH * hidden)
    assert noisy.score(1.0).half == pytest.approx(of) and hidden > 0


def test_without_noise_nothing_is_luck_where_there_is_no_lead() -> None:
    evaluated, values = known()
    best = promised(evaluated[int(np.argmin(values))], evaluated, values)
    still = replace_spread(best.surrogate, 0.0)
    for promise in (best, replace(best, misfit=0.1), replace(best, surrogate=still, misfit=0.1)):
        assert promise.luck == pytest.approx(0.0, abs=1e-6)


def test_what_looks_like_noise_is_misfit_only_where_hardly_anything_does() -> None:
    """Scores that no process can follow at the finest scale, without noise, then under it."""

    def rough(trial: optuna.Trial) -> float:
        share = np.array(list(SPACE.suggest(trial).values()))
        smooth = float(((share - [0.4, 0.3, 0.2, 0.1]) ** 2).sum())
        return smooth + 0.002 * float(np.sin(2000 * share[0]) + np.sin(3000 * share[1]))

    found = []
    for noise in (0.0, 0.2):
        study = optuna.create_study(sampler=random(SPACE, seed=0))
        rng = np.random.default_rng(0)
        study.optimize(lambda t: rough(t) + noise * rng.standard_normal(), n_trials=40)  # noqa: B023
        view, space, history = learnt(study, SPACE)
        evidence = evidence_of(view, space, history, False, 0)
        assert evidence is not None
        found.append((evidence.misfit, evidence.promise.noise))
        half = best_mixture(study, space=SPACE).predicted
        assert half is not None and half.half >= 1.64 * evidence.misfit
    assert 0 < found[0][0] == found[0][1] and found[1][0] == 0 < found[1][1]


def test_a_search_without_noise_that_has_narrowed_down_is_not_called_noisy() -> None:
    """Most of its scores differ by what no process can follow, its first ones by far more."""
    rng, best = np.random.default_rng(0), np.array([0.4, 0.3, 0.2, 0.1])
    first = [SPACE.project(SPACE.prior), *SPACE.sample_mixed(rng, 11)]
    study = optuna.create_study()
    for share in [*first, *rng.dirichlet(1000 * best, size=48)]:
        waves = float(np.sin(2000 * share[0]) + np.sin(3000 * share[1]))
        study.add_trial(
            optuna.trial.create_trial(
                params=SPACE.params(share),
                distributions=SPACE.distributions(),
                value=float(((share - best) ** 2).sum()) + 0.001 * waves,
            )
        )
    evidence = evidence_of(*learnt(study, SPACE), False, 0)
    assert evidence is not None
    assert 0 < evidence.relative_noise < QUIET and evidence.misfit > 0
    assert best_mixture(study, space=SPACE).rule == "predicted"


@pytest.mark.parametrize("trials", [1, 2, 8, FEW - 1, FEW, 112])
@pytest.mark.parametrize("below", [False, True])
def test_few_trials_widen_and_say_so(trials: int, below: bool) -> None:
    evaluated, values = known()
    model = fit(np.sqrt(evaluated), values)
    promise = Promise(model, evaluated[0], np.tile(evaluated[0], (trials, 1)), below=below)
    least = ON_RUNGS if below else 1.0
    assert promise.widening == (max(least, FEW / trials) if trials < FEW else least)
    assert bool(small_doubt(promise)) == (trials < FEW)


def test_a_gain_whose_interval_holds_zero_is_not_claimed() -> None:
    assert as_good(Estimate(0.2, 0.1, 0.3), "prior") == ""
    for unsure in (Estimate(0.2, -0.1, 0.5), Estimate(-0.2, -0.3, -0.1), Estimate(0.0, 0.0, 0.0)):
        assert as_good(unsure, "prior").startswith("The proportional mixture is as good")
    assert "baseline 'unimax' is as good" in as_good(Estimate(0.0, -1.0, 1.0), "unimax")


def test_nine_of_ten_intervals_of_small_noisy_searches_hold() -> None:
    """A coverage far off fails; tests/bench/bench_coverage.py measures it."""
    held: list[bool] = []
    for seed in range(12):
        law = MixingLaw(6, seed=seed)
        study = optuna.create_study(sampler=random(law.space, seed=seed))
        study.optimize(NoisyObjective(law, noise=0.2, seed=seed), n_trials=28)
        best = best_mixture(study, space=law.space)
        pick, prior = law.score(np.stack([law.space.weights(best), law.space.prior]))
        pairs: list[tuple[Any, float]] = [(best.predicted, pick), (best.gain, prior - pick)]
        held += [bool(estimate.low <= truth <= estimate.high) for estimate, truth in pairs]
    assert np.mean(held) >= 0.75


def test_nine_of_ten_intervals_of_small_searches_by_tpe_without_noise_hold() -> None:
    """With half of every lead taken for luck, three of ten did."""
    held = []
    for seed in range(10):
        law = MixingLaw(4, seed=seed)
        study = optuna.create_study(sampler=tpe(law.space, seed=seed))
        study.optimize(NoisyObjective(law, noise=0.0, seed=seed), n_trials=40)
        best = best_mixture(study, space=law.space)
        true = float(law.score(law.space.weights(best)[None])[0])
        assert best.predicted is not None
        held.append(best.predicted.low <= true <= best.predicted.high)
    assert np.mean(held) >= 0.75


def test_trials_that_are_no_mixture_of_the_space_are_not_dropped_without_a_word() -> None:
    study = optuna.create_study(sampler=random(SPACE, seed=0))
    study.optimize(NoisyObjective(MixingLaw(4, seed=1)), n_trials=9)
    rounded = SPACE.params(np.array([0.5, 0.3, 0.2, 0.001]))  # sums to 1.001
    for given in (rounded, {"w/other": 1.0}, {"lr": 0.5}):  # the last is none of ours
        shape = dict.fromkeys(given, optuna.distributions.FloatDistribution(0, 1))
        study.add_trial(optuna.trial.create_trial(params=given, distributions=shape, value=0.0))
    shape = dict.fromkeys(rounded, optuna.distributions.FloatDistribution(0, 1))
    for state in (TrialState.RUNNING, TrialState.FAIL):  # neither is dropped
        study.add_trial(optuna.trial.create_trial(state=state, params=rounded, distributions=shape))
    found = best_mixture(study)
    told = "2 finished trials left out, whose weights are of other domains or do not sum to 1"
    assert found.trials == 9 and f"{told}, as those of trial 9" in found.warnings


def test_infinite_scores_are_not_dropped_without_a_word() -> None:
    study = optuna.create_study(sampler=random(SPACE, seed=0))
    study.optimize(lambda t: math.inf if SPACE.suggest(t) and t.number > 7 else 1.0, n_trials=11)
    found = best_mixture(study)
    told = "3 finished trials left out, whose score is infinite, as that of trial 8"
    assert found.trials == 8 and told in found.warnings
