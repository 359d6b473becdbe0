"""ClimbSampler: the paper's equations, the public code's constants, and any course of a study."""

from __future__ import annotations

import logging
import math
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, SingleOnlySamplerTestCase
from optuna.trial import TrialState, create_trial

from climb_opt import (
    ClimbSampler,
    MixtureSpace,
    UserError,
    report_components,
    rounds,
    set_aggregate,
)
from climb_opt.history import History, read_history
from climb_opt.predictors.components import ComponentPredictor
from climb_opt.samplers.climb import (
    candidate_pool,
    climb_pick,
    first_round,
    fit_predictor,
    next_round,
    predictor_factory,
)
from climb_opt.samplers.design import MAX_USAGE, UNIT, initial_design
from climb_opt.samplers.ledger import BASIS, SEED
from climb_opt.samplers.presets import PRESETS, climb_rules
from climb_opt.slots import SLOT, Plan
from climb_opt.storages import study_lock

SPACE = MixtureSpace({"web": 50.0, "code": 20.0, "math": 15.0, "wiki": 10.0, "law": 5.0})
TARGET = np.array([0.1, 0.5, 0.3, 0.05, 0.05])
ROUNDS = (8, 6, 4)
QUICK: dict[str, Any] = {"rounds": ROUNDS, "pool_size": 400, "predictor": "loglinear", "seed": 0}


def distance(trial: optuna.Trial) -> float:
    weights = SPACE.weights(SPACE.suggest(trial))
    return float(np.abs(weights - TARGET).sum())


def search(n: int = 18, study: optuna.Study | None = None, **options: Any) -> optuna.Study:
    study = study or optuna.create_study()
    study.sampler = ClimbSampler(SPACE, **{**QUICK, **options})
    study.optimize(distance, n_trials=n)
    return study


def mixtures(study: optuna.Study) -> np.ndarray:
    found = [SPACE.weights_of(t) for t in study.trials]
    return np.array([w for w in found if w is not None])


def slots(study: optuna.Study) -> list[Any]:
    return [t.user_attrs.get(SLOT) for t in study.trials]


def history_of(weights: np.ndarray, values: np.ndarray) -> History:
    study = optuna.create_study()
    for w, value in zip(weights, values, strict=True):
        study.add_trial(
            create_trial(
                params=SPACE.params(w), distributions=SPACE.distributions(), value=float(value)
            )
        )
    return read_history(study, SPACE)


class Exact:
    """A predictor that knows the truth."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        self.sign = 1.0 if np.corrcoef(scores, self._true(weights))[0, 1] > 0 else -1.0

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.sign * self._true(weights), np.zeros(len(weights))

    def _true(self, weights: np.ndarray) -> np.ndarray:
        return np.abs(weights - TARGET).sum(axis=1)


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
            lambda h: fit_predictor(h, Exact),
            m=10,
            rng=np.random.default_rng(draw),
        )
        assert len({w.tobytes() for w in batch}) == 10
        seen |= {w.tobytes() for w in batch}
    assert seen == {w.tobytes() for w in best}  # all of the top N, and nothing else


def test_n_is_the_public_codes_unless_given() -> None:
    assert [PRESETS["nemo"].n_top(m) for m in (4, 16, 32)] == [128, 256, 1024]
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
            lambda h: fit_predictor(h, Exact),
            m=30,
            rng=np.random.default_rng(0),
        )
        return {w.tobytes() for w in drawn}

    assert batch("nemo") == {w.tobytes() for w in tried}
    assert batch("paper") == {w.tobytes() for w in pool[order[30:60]]}


def test_the_pool_is_the_same_in_every_round_and_follows_the_prior() -> None:
    rules = PRESETS["nemo"]
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
    known: dict[str, Any] = {"predictor": Exact, "seed": 7, "pool_size": 3000}
    np.testing.assert_array_equal(climb_pick(SPACE, history, preset="paper", **known), ranked[0])
    rounded = climb_pick(SPACE, history, preset="nemo", **known)
    np.testing.assert_allclose(rounded, ranked[0], atol=1e-4)
    assert np.count_nonzero(rounded) <= np.count_nonzero(ranked[0])
    top = climb_pick(SPACE, history, rule="mean-top", top=64, **known)
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


# --- slots -----------------------------------------------------------------------------------


def test_plain_optimize_walks_through_the_slots() -> None:
    study = search(20)
    assert slots(study) == [*range(18), None, None]
    assert len(np.unique(mixtures(study)[:14], axis=0)) == 14


def test_ask_and_tell_propose_the_same_mixtures_as_optimize() -> None:
    asked = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK))
    for _ in range(18):
        trial = asked.ask(SPACE.distributions())
        asked.tell(trial, distance(trial))
    np.testing.assert_array_equal(mixtures(asked), mixtures(search()))


def test_maximising_the_negative_proposes_the_same_mixtures() -> None:
    study = optuna.create_study(direction="maximize", sampler=ClimbSampler(SPACE, **QUICK))
    study.optimize(lambda trial: -distance(trial), n_trials=18)
    np.testing.assert_array_equal(mixtures(study), mixtures(search()))


def test_a_failed_slot_is_retried_with_its_mixture_then_given_up() -> None:
    def fails(trial: optuna.Trial) -> float:
        SPACE.suggest(trial)
        if trial.user_attrs[SLOT] == 2:
            raise RuntimeError("out of memory")
        return 1.0 + trial.user_attrs[SLOT]

    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK))
    study.optimize(fails, n_trials=20, catch=(RuntimeError,))
    failed = [t for t in study.trials if t.state == TrialState.FAIL]
    assert [t.user_attrs[SLOT] for t in failed] == [2, 2, 2]
    assert len({tuple(t.params.values()) for t in failed}) == 1
    done = [t.user_attrs[SLOT] for t in study.trials if t.state == TrialState.COMPLETE]
    assert done == [s for s in range(18) if s != 2]


def test_threads_share_one_sampler_and_no_mixture() -> None:
    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK, exclude=True))
    study.optimize(distance, n_trials=18, n_jobs=4)
    assert sorted(slots(study)) == list(range(18))
    assert len(np.unique(mixtures(study), axis=0)) == 18


def test_workers_on_one_storage_draw_no_mixture_twice() -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage)
    turn = threading.Lock()  # the lock that the worker loop holds over ask

    def work() -> None:
        sampler = ClimbSampler(SPACE, **QUICK, exclude=True)
        study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
        for _ in range(6):
            with turn:
                trial = study.ask(SPACE.distributions())
            study.tell(trial, distance(trial))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = optuna.load_study(study_name="s", storage=storage)
    assert sorted(slots(study)) == list(range(18))
    assert len(np.unique(mixtures(study), axis=0)) == 18


def test_every_worker_computes_the_round_its_first_trial_began() -> None:
    study = search(8)
    first = study.ask(SPACE.distributions())  # opens round 2 with eight trials known
    study.add_trial(  # imported in the middle of the round
        create_trial(params=SPACE.params(TARGET), distributions=SPACE.distributions(), value=-5.0)
    )
    study.sampler = ClimbSampler(SPACE, **QUICK)  # a worker that starts now
    rest = [study.ask(SPACE.distributions()) for _ in range(5)]
    undisturbed = search(8)
    expected = [undisturbed.ask(SPACE.distributions()).params for _ in range(6)]
    assert [first.params, *(t.params for t in rest)] == expected
    assert first.study.trials[8].system_attrs[BASIS] == list(range(8))


def test_what_was_known_before_a_round_counts_in_it() -> None:
    study = optuna.create_study()
    study.add_trial(
        create_trial(params=SPACE.params(TARGET), distributions=SPACE.distributions(), value=-5.0)
    )
    study.enqueue_trial(SPACE.params(SPACE.prior))
    search(10, study)
    assert slots(study) == [None, None, *range(8), 8]
    assert study.trials[10].system_attrs[BASIS] == list(range(10))


def test_a_slot_planned_ahead_is_the_slot_asked_for() -> None:
    planned, asked = search(8), search(8)
    sampler = ClimbSampler(SPACE, **QUICK)
    for slot in (8, 9, 13):
        params, stored = sampler.plan_ahead(planned, slot)
        assert stored == {BASIS: list(range(8))}
        trials = {}
        while slot not in trials:
            trial = asked.ask(SPACE.distributions())
            trials[trial.user_attrs[SLOT]] = trial.params
        assert params == trials[slot]


class Unplanned(ClimbSampler):
    """Its mixtures are asked for one weight at a time."""

    plan_ahead = None


@pytest.mark.parametrize("kind", [ClimbSampler, Unplanned])
def test_worker_loops_run_the_plan_a_single_optimize_would(kind: type[ClimbSampler]) -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage)
    plan = Plan(ROUNDS, named=("baseline/prior",))
    prior = {"baseline/prior": SPACE.mixture(SPACE.prior)}
    began = threading.Barrier(2)

    def worker() -> None:
        sampler = kind(SPACE, **QUICK)
        study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
        began.wait()
        rounds.work(study, plan, distance, lock=study_lock(study), mixtures=prior, space=SPACE)

    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = optuna.load_study(study_name="s", storage=storage)
    assert sorted(map(str, slots(study))) == sorted(["baseline/prior", *map(str, range(18))])
    alone = optuna.create_study()
    alone.enqueue_trial(SPACE.params(SPACE.prior))
    search(19, alone)
    by_slot = {s: w.tolist() for s, w in zip(slots(study), mixtures(study), strict=True)}
    expected = dict(zip(["baseline/prior", *range(18)], mixtures(alone).tolist(), strict=True))
    assert by_slot == expected


def test_trials_past_the_plan_repeat_no_mixture() -> None:
    study = search(26)
    surplus = mixtures(study)[18:]
    tried = mixtures(study)[:18]
    assert len(np.unique(surplus, axis=0)) == 8
    assert not set(map(bytes, surplus)) & set(map(bytes, tried))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(5)))
def test_renaming_and_reordering_domains_changes_nothing_but_names(
    seed: int, order: list[int]
) -> None:
    names = dict(zip(SPACE.domains, (f"z{i}" for i in order), strict=True))
    amounts = dict(zip(SPACE.domains, SPACE.prior, strict=True))
    shuffled = [SPACE.domains[i] for i in order]
    renamed = MixtureSpace({names[d]: amounts[d] for d in shuffled})
    assert [names[d] for d in SPACE.domains] == list(renamed.domains)

    def run(space: MixtureSpace) -> np.ndarray:
        study = optuna.create_study(sampler=ClimbSampler(space, **{**QUICK, "seed": seed}))

        def objective(trial: optuna.Trial) -> float:
            weights = space.weights(space.suggest(trial))
            return float(np.abs(weights - TARGET).sum())

        study.optimize(objective, n_trials=11)
        return np.array([space.weights_of(t) for t in study.trials])

    np.testing.assert_array_equal(run(SPACE), run(renamed))


def test_two_studies_in_memory_do_not_share_batches() -> None:
    sampler = ClimbSampler(SPACE, **QUICK)
    first = optuna.create_study(sampler=sampler)
    first.optimize(distance, n_trials=18)
    second = optuna.create_study(sampler=sampler, direction="maximize")
    second.optimize(distance, n_trials=18)
    np.testing.assert_array_equal(mixtures(first)[:8], mixtures(second)[:8])
    assert not np.array_equal(mixtures(first)[8:], mixtures(second)[8:])
    np.testing.assert_array_equal(mixtures(first), mixtures(search()))


def test_without_a_seed_the_study_holds_one_for_all_workers() -> None:
    study = optuna.create_study()
    for _ in range(3):
        study.sampler = ClimbSampler(SPACE, **{**QUICK, "seed": None})
        study.optimize(distance, n_trials=4)
    seed = study._storage.get_study_system_attrs(study._study_id)[SEED]
    expected = search(12, seed=seed)
    np.testing.assert_array_equal(mixtures(study), mixtures(expected))


def test_a_pickled_sampler_goes_on_where_it_was() -> None:
    study = search(10)
    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    study.optimize(distance, n_trials=8)
    np.testing.assert_array_equal(mixtures(study), mixtures(search()))


@pytest.mark.parametrize(
    "pruner",
    [
        optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9),
        optuna.pruners.MedianPruner(n_startup_trials=2),
    ],
)
def test_pruners_take_slots_but_disturb_no_round(pruner: optuna.pruners.BasePruner) -> None:
    def objective(trial: optuna.Trial) -> float:
        score = distance(trial)
        for step in range(9):
            trial.report(score, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = optuna.create_study(sampler=ClimbSampler(SPACE, **QUICK), pruner=pruner)
    study.optimize(objective, n_trials=18)
    assert slots(study) == list(range(18))
    assert np.all(SPACE.contains(mixtures(study)))


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
    with caplog.at_level(logging.WARNING, logger="climb_opt"):
        study = search(10, per_component=True)
    assert len(mixtures(study)) == 10
    assert any("No components are stored" in r.message for r in caplog.records)


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
    assert space.contains(climb_pick(space, history, predictor="loglinear", pool_size=400))


def test_a_pick_without_anything_learnt_is_the_best_seen_or_the_prior() -> None:
    empty = read_history(optuna.create_study(), SPACE)
    np.testing.assert_allclose(climb_pick(SPACE, empty), SPACE.prior)
    one = history_of(TARGET[None], np.array([1.0]))
    np.testing.assert_array_equal(climb_pick(SPACE, one), TARGET)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"preset": "nvidia"}, "Unknown preset 'nvidia'. Presets: nemo, paper"),
        ({"predictor": "lightgmb"}, "Did you mean 'lightgbm'"),
        ({"predictor_options": {"leafs": 3}}, "unknown key 'leafs'"),
        ({"design": "sobol"}, "Unknown design 'sobol'"),
        ({"pool_size": 0}, "pool_size must be positive"),
        ({"pool_strength": -1.0}, "pool_strength must be positive"),
        ({"top_n": -3}, "top_n must be positive"),
        ({"rounds": ()}, "positive whole numbers"),
        ({"rounds": 64}, "positive whole numbers"),
        ({"seed": -1}, "seed must not be negative"),
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
    ],
)
def test_wrong_options_are_errors_that_say_what_is_allowed(options: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        ClimbSampler(SPACE, **{**QUICK, **options})


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
    first = first_round(SPACE, PRESETS["nemo"], m=8, seed=0)
    np.testing.assert_array_equal(mixtures(search(8)), first)


# --- Optuna's own tests ----------------------------------------------------------------------


class TestClimbSampler(BasicSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: ClimbSampler(SPACE, rounds=(3, 2), pool_size=200, predictor="loglinear")
