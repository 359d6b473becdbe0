"""ClimbSampler in any course of a study: slots, workers, threads, pruners."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, SingleOnlySamplerTestCase
from optuna.trial import FrozenTrial, TrialState, create_trial

from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler, best_mixture
from climb_opt import workers as rounds
from climb_opt.attributes import BASIS, FORECAST, PICK, SAMPLER_SEED, SLOT
from climb_opt.plan import Plan
from climb_opt.predictors.loglinear import LogLinearPredictor
from climb_opt.samplers import ledger
from climb_opt.samplers.climb import climb_pick
from climb_opt.samplers.presets import ClimbOptions
from climb_opt.storages import study_lock
from climb_opt.view import StudyView, read_history, remember
from climbing import (
    QUICK,
    ROUNDS,
    SPACE,
    TARGET,
    Exact,
    distance,
    mixtures,
    search,
    slots,
)

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


@pytest.mark.parametrize(
    ("own", "gives_way", "left"),
    [(1, False, (0, 1)), (0, False, (1, 0)), (0, True, (0, 1))],
    ids=["the higher goes", "the lower goes if it was not seen", "the lower stays"],
)
def test_trials_that_claim_one_slot_at_once_part(
    own: int, gives_way: bool, left: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    asked = [study.ask(), study.ask()]
    rival = asked[1 - own]

    def written(study: optuna.Study, trial: FrozenTrial, name: str, value: object) -> None:
        if SLOT not in rival.user_attrs:  # what the rival's process wrote since the plan was read
            rival.set_user_attr(SLOT, 0)
        remember(study, trial, name, value)

    def passed(seconds: float) -> None:
        if gives_way:
            rival.set_user_attr(SLOT, 1)

    monkeypatch.setattr(ledger, "remember", written)
    monkeypatch.setattr(time, "sleep", passed)
    ledger.claim_slot(study, study.trials[own], Plan((4,)))
    assert (study.trials[0].user_attrs[SLOT], study.trials[1].user_attrs[SLOT]) == left


def at_the_beginning_of_a_round() -> tuple[Plan, optuna.Study]:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for slot in (0, 1):
        study.add_trial(create_trial(value=0.0, user_attrs={SLOT: slot}))
    for slot in (2, 3, 4):
        study.ask().set_user_attr(SLOT, slot)
    return Plan((2, 3)), study


@pytest.mark.parametrize("own", [0, 1], ids=["the lower", "the higher"])
def test_trials_that_begin_a_round_at_once_learn_from_the_same(
    own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, study = at_the_beginning_of_a_round()
    mine, rival = study.trials[2 + own], study.trials[3 - own]

    def written(study: optuna.Study, trial: FrozenTrial, name: str, value: object) -> None:
        if own == 0:  # what the rival's process began since the round was looked for
            remember(study, rival, BASIS, [0])
        remember(study, trial, name, value)

    monkeypatch.setattr(ledger, "remember", written)
    monkeypatch.setattr(time, "sleep", lambda seconds: remember(study, rival, BASIS, [0]))
    ledger.begin_round(study, mine, plan)
    assert ledger.basis_of(study, plan, 1) == ((0, 1) if own == 0 else (0,), {})


def test_a_round_that_a_higher_trial_began_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, study = at_the_beginning_of_a_round()
    remember(study, study.trials[3], BASIS, [0])
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("nothing is waited for"))
    for number in (2, 4):
        ledger.begin_round(study, study.trials[number], plan)
    assert [t.system_attrs.get(BASIS) for t in study.trials[2:]] == [[0], [0], None]


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


def test_a_worker_that_asks_while_a_round_is_computed_takes_another_item_of_it() -> None:
    study = search(8)
    imported = create_trial(
        params=SPACE.params(TARGET), distributions=SPACE.distributions(), value=0
    )
    others = []

    class Slow(LogLinearPredictor):
        def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
            if not others:  # what another process does meanwhile
                study.add_trial(imported)
                beside = copy.copy(study)
                beside.sampler = ClimbSampler(SPACE, **QUICK)
                others.append(beside.ask(SPACE.distributions()))
            super().fit(weights, scores)

    study.sampler = ClimbSampler(SPACE, **{**QUICK, "predictor": Slow})
    first = study.ask(SPACE.distributions())
    undisturbed = search(8)
    expected = [undisturbed.ask(SPACE.distributions()).params for _ in range(2)]
    assert [first.params, others[0].params] == expected


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
        assert stored.keys() == {BASIS, FORECAST} and stored[BASIS] == list(range(8))
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
        rounds.work(study, distance, study_lock(study), rounds.Work(plan, prior, space=SPACE))

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


@settings(max_examples=12)
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
    seed = study._storage.get_study_system_attrs(study._study_id)[SAMPLER_SEED]
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


# --- what later readers find in the study ----------------------------------------------------


def test_the_space_and_the_samplers_own_pick_are_stored() -> None:
    space = MixtureSpace({"a": 5, "b": 3, "c": 2}, upper=0.7)
    study = optuna.create_study()
    study.sampler = ClimbSampler(space, **{**QUICK, "preset": "paper"})
    study.optimize(lambda trial: (space.suggest(trial)["a"] - 0.4) ** 2, n_trials=18)
    assert StudyView(study).space.to_json() == space.to_json()
    options = ClimbOptions(preset="paper", predictor="loglinear", pool_size=400)
    own = climb_pick(space, read_history(study, space), options)
    kept = best_mixture(study, rule="argbest")
    np.testing.assert_allclose(space.weights(kept), own, atol=1e-12)
    stock = climb_pick(space, read_history(study, space))  # LightGBM on another pool
    assert np.abs(space.weights(kept) - stock).sum() > 1e-3


def test_a_predictor_that_cannot_be_named_leaves_the_pick_to_the_default() -> None:
    class Local(Exact):
        pass

    study = search(10, predictor=Local)
    assert PICK not in study.user_attrs
    assert sum(best_mixture(study, rule="argbest").values()) == pytest.approx(1.0)


# --- Optuna's own tests ----------------------------------------------------------------------


class TestClimbSampler(BasicSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: ClimbSampler(SPACE, rounds=(3, 2), pool_size=200, predictor="loglinear")


@pytest.mark.parametrize("make", [ClimbSampler, SimplexGPSampler])
def test_parameters_beside_the_weights_are_drawn_with_them(make: type) -> None:
    sampler = make(SPACE, seed=0)
    study = optuna.create_study(sampler=sampler)
    asked = study.ask()
    trial = study._storage.get_trial(asked._trial_id)
    asked_for = {**SPACE.distributions(), "lr": FloatDistribution(1e-4, 1e-2)}
    found = sampler.sample_relative(study, trial, asked_for)
    assert set(found) == set(asked_for) and 1e-4 <= found["lr"] <= 1e-2
