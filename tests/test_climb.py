"""CLIMB's equations, the public code's constants, and components."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import optuna
import pytest

from climb_opt import (
    ClimbSampler,
    MixtureSpace,
    best_mixture,
    report_components,
    set_aggregate,
)
from climb_opt.errors import UserError
from climb_opt.history import _say_stored
from climb_opt.predictors.components import ComponentPredictor
from climb_opt.predictors.own import predictor_factory
from climb_opt.samplers.climb import (
    candidate_pool,
    climb_pick,
    fit_predictor,
    next_round,
)
from climb_opt.samplers.design import MAX_USAGE, UNIT, initial_design
from climb_opt.samplers.presets import NEMO, ClimbOptions, climb_rules
from climb_opt.view import read_history
from climbing import (
    QUICK,
    SPACE,
    TARGET,
    Exact,
    history_of,
    mixtures,
    search,
)

# --- the equations ---------------------------------------------------------------------------


def test_a_round_is_drawn_without_repeats_from_the_top_n_of_the_pool() -> None:
    rules = climb_rules("nemo", pool_size=2000, top_n=50)
    pool = candidate_pool(SPACE, rules, seed=3)
    tried = pool[:20]
    history = history_of(tried, np.abs(tried - TARGET).sum(axis=1))
    best = pool[np.argsort(np.abs(pool - TARGET).sum(axis=1))][:50]
    seen: set[bytes] = set()
    for draw in range(30):
        batch = next_round(
            pool,
            history,
            rules,
            fit_predictor(history, Exact),
            m=10,
            rng=np.random.default_rng(draw),
        )
        assert len({w.tobytes() for w in batch}) == 10
        seen |= {w.tobytes() for w in batch}
    assert seen == {w.tobytes() for w in best}  # all of the top N, and nothing else


def test_a_pool_of_very_many_domains_is_cut_to_what_fits_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "climb_opt.samplers.climb")
    monkeypatch.setattr("climb_opt.samplers.climb.POOL_WEIGHTS", 5000 * len(SPACE))
    assert len(candidate_pool(SPACE, climb_rules("nemo", pool_size=5000), seed=0)) == 5000
    assert not caplog.records
    assert len(candidate_pool(SPACE, climb_rules("nemo", pool_size=9000), seed=0)) == 5000
    assert f"5000 candidates, not 9000: {len(SPACE)} domains" in caplog.text


def test_n_is_the_public_codes_unless_given() -> None:
    assert [NEMO.n_top(m) for m in (4, 16, 32)] == [128, 256, 1024]
    assert climb_rules("nemo", top_n=40).n_top(16) == 40
    assert climb_rules("nemo", top_n=4).n_top(16) == 16


def test_the_paper_never_tries_a_candidate_twice_and_the_public_code_may() -> None:
    pool = candidate_pool(SPACE, climb_rules("paper", pool_size=500), seed=0)
    order = np.argsort(np.abs(pool - TARGET).sum(axis=1))
    tried = pool[order[:30]]
    history = history_of(tried, np.abs(tried - TARGET).sum(axis=1))

    def batch(preset: str) -> set[bytes]:
        rules = climb_rules(preset, top_n=30)
        drawn = next_round(
            pool,
            history,
            rules,
            fit_predictor(history, Exact),
            m=30,
            rng=np.random.default_rng(0),
        )
        return {w.tobytes() for w in drawn}

    assert batch("nemo") == {w.tobytes() for w in tried}
    assert batch("paper") == {w.tobytes() for w in pool[order[30:60]]}


def test_the_pool_is_the_same_in_every_round_and_follows_the_prior() -> None:
    rules = NEMO
    assert rules.pool_size == 100_000
    pool = candidate_pool(SPACE, climb_rules("nemo", pool_size=20_000), seed=5)
    np.testing.assert_allclose(pool.mean(axis=0), SPACE.prior, atol=0.01)
    # Var w_i = p_i (1 - p_i) / (strength + 1) with the public code's strength of 1.
    np.testing.assert_allclose(pool.var(axis=0), SPACE.prior * (1 - SPACE.prior) / 2, rtol=0.06)
    again = candidate_pool(SPACE, climb_rules("nemo", pool_size=20_000), seed=5)
    np.testing.assert_array_equal(pool, again)


def test_later_rounds_propose_members_of_the_pool() -> None:
    study = search()
    pool = candidate_pool(SPACE, climb_rules("nemo", pool_size=400), seed=0)
    members = {w.tobytes() for w in pool}
    inside = [w.tobytes() in members for w in mixtures(study)]
    assert inside == [False] * 8 + [True] * 10


def test_rounds_get_better() -> None:
    values = [t.value for t in search(pool_size=4000).trials]
    medians = [np.median(values[a:b]) for a, b in ((0, 8), (8, 14), (14, 18))]
    assert medians[2] < medians[0]


def test_argbest_and_mean_of_the_top_are_read_off_the_pool() -> None:
    weights = SPACE.sample(np.random.default_rng(1), 30)
    history = history_of(weights, np.abs(weights - TARGET).sum(axis=1))
    pool = candidate_pool(SPACE, climb_rules("paper", pool_size=3000), seed=7)
    ranked = pool[np.argsort(np.abs(pool - TARGET).sum(axis=1))]
    nemo = ClimbOptions(predictor=Exact, pool_size=3000)
    paper = replace(nemo, preset="paper")
    np.testing.assert_array_equal(climb_pick(SPACE, history, paper, seed=7), ranked[0])
    rounded = climb_pick(SPACE, history, nemo, seed=7)
    np.testing.assert_allclose(rounded, ranked[0], atol=1e-4)
    assert np.count_nonzero(rounded) <= np.count_nonzero(ranked[0])
    top = climb_pick(SPACE, history, nemo, seed=7, rule="mean-top", top=64)
    np.testing.assert_allclose(top, ranked[:64].mean(axis=0), atol=1e-12)


# --- round 1 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["regmix", "dirichlet", "mixed"])
def test_a_design_holds_distinct_mixtures_of_the_space(kind: str) -> None:
    capped = MixtureSpace({"web": 50, "code": 20, "math": 15, "wiki": 10}, upper=0.6)
    for space in (SPACE, capped):
        design = initial_design(space, kind, np.random.default_rng(0), 64)
        assert design.shape == (64, len(space)) and np.all(space.contains(design))
        assert len(np.unique(design, axis=0)) == 64


def test_the_regmix_design_keeps_the_public_codes_rules() -> None:
    prior = {
        f"d{i}": float(a) for i, a in enumerate(np.random.default_rng(0).dirichlet(np.ones(20)))
    }
    space = MixtureSpace(prior)
    design = initial_design(space, "regmix", np.random.default_rng(1), 200)
    units = design / UNIT
    np.testing.assert_allclose(units, np.round(units), atol=1e-6)  # multiples of 2e-4
    assert np.all(design <= np.minimum(MAX_USAGE * space.prior, 1.0) + UNIT)
    assert np.mean(design == 0.0) > 0.2  # sparse
    assert np.max(design, axis=1).max() > 0.9


@pytest.mark.parametrize("k", [1, 2, 240])
def test_a_design_exists_for_any_number_of_domains(k: int) -> None:
    space = MixtureSpace({f"d{i}": 1.0 for i in range(k)})
    design = initial_design(space, "regmix", np.random.default_rng(0), 8)
    assert design.shape == (8, k) and np.all(space.contains(design))


# --- components ------------------------------------------------------------------------------


def with_components(trial: optuna.Trial) -> float:
    weights = SPACE.weights(SPACE.suggest(trial))
    parts = {f"loss{i}": float(np.exp(-3 * np.sqrt(w))) for i, w in enumerate(weights)}
    report_components(trial, parts)
    return float(np.mean(list(parts.values())))


def test_components_are_predicted_one_by_one_when_trials_store_them() -> None:
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK))
    set_aggregate(study, {f"loss{i}": 0.2 for i in range(5)})
    study.optimize(with_components, n_trials=12)
    history = read_history(study, SPACE)
    make = predictor_factory("loglinear")
    assert isinstance(fit_predictor(history, make), ComponentPredictor)
    assert not isinstance(fit_predictor(history, make, False), ComponentPredictor)
    parts = fit_predictor(history, make)
    np.testing.assert_allclose(parts.predict(history.weights)[0], history.values, atol=0.05)


def test_asking_for_components_that_nobody_stores_warns_and_uses_the_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _say_stored.cache_clear()
    with caplog.at_level(logging.WARNING, logger="climb_opt"):
        study = search(10, per_component=True)
    assert len(mixtures(study)) == 10
    assert any("Components are left aside" in r.message for r in caplog.records)


def test_components_that_no_aggregate_names_are_left_aside_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK))
    study.optimize(with_components, n_trials=10)
    for _ in range(2):  # each fits two models
        _say_stored.cache_clear()
        caplog.clear()
        best_mixture(study, components=True)
        said = [r.message for r in caplog.records if "left aside" in r.message]
        assert len(said) == 1 and said[0].endswith("all store loss0, loss1, loss2, loss3, loss4.")


def test_options_say_what_is_wrong_when_they_are_made() -> None:
    for wrong, said in (
        ({"preset": "nvidia"}, "Unknown preset"),
        ({"predictor": "oracle"}, "Unknown predictor"),
        ({"predictor_options": {"depth": 3}, "predictor": "linear"}, "unknown key 'depth'"),
        ({"pool_size": 0}, "pool_size must be a whole number, at least 1, but is 0"),
    ):
        with pytest.raises(UserError, match=said):
            ClimbOptions(**wrong)  # type: ignore[arg-type]
