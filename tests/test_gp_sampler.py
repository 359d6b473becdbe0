"""SimplexGPSampler: Optuna's own tests, properties, and what it finds."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import TrialState, create_trial

from climb_opt import MixtureSpace, SimplexGPSampler
from climb_opt.attributes import COMPONENTS, FORECAST, SLOT, SPACE
from climb_opt.emulator import MixingLaw, NoisyObjective
from climb_opt.history import set_aggregate
from climb_opt.samplers.design import start_mixture
from climb_opt.samplers.gp import PROPOSAL
from climb_opt.view import StudyView
from climbing import volume_below

PRIOR = {"web": 0.6, "code": 0.25, "math": 0.1, "wiki": 0.05}


class _Ours:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SimplexGPSampler(MixtureSpace(PRIOR), n_startup=2, seed=0)


class TestBasics(_Ours, BasicSamplerTestCase):
    pass


class TestSeveralObjectives(_Ours, MultiObjectiveSamplerTestCase):
    pass


class TestRelative(RelativeSamplerTestCase):
    """Optuna's relative search spaces hold no weights: they must pass through unharmed."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SimplexGPSampler(MixtureSpace(PRIOR), n_startup=2, seed=0)


# --- helpers -------------------------------------------------------------------------------------


def sampler_of(space: MixtureSpace, **options: object) -> SimplexGPSampler:
    return SimplexGPSampler(space, **{"seed": 0, "n_startup": 6, **options})  # type: ignore[arg-type]


def bowl(space: MixtureSpace) -> Callable[[optuna.Trial], float]:
    goal = np.linspace(1, 2, len(space)) / np.linspace(1, 2, len(space)).sum()

    def objective(trial: optuna.Trial) -> float:
        weights = space.weights(space.suggest(trial))
        return float(((np.sqrt(weights) - np.sqrt(goal)) ** 2).sum())

    return objective


def search(space: MixtureSpace, n: int = 14, **options: object) -> optuna.Study:
    study = optuna.create_study(sampler=sampler_of(space, **options))
    study.optimize(bowl(space), n_trials=n)
    return study


def mixtures(study: optuna.Study, space: MixtureSpace) -> np.ndarray:
    rows = [space.weights_of(t) for t in study.get_trials(deepcopy=False)]
    return np.array([row for row in rows if row is not None])


def done(space: MixtureSpace, weights: np.ndarray, value: float) -> optuna.trial.FrozenTrial:
    return create_trial(
        params=space.params(weights), distributions=space.distributions(), values=[value]
    )


SPACE4 = MixtureSpace(PRIOR)

# --- properties ----------------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    k=st.integers(1, 9),
    low=st.sampled_from([0.0, 0.5]),
    high=st.sampled_from([1.0, 2.0, 1.1]),
    seed=st.integers(0, 10_000),
)
def test_every_mixture_is_in_the_space(k: int, low: float, high: float, seed: int) -> None:
    upper = 1.0 if high == 1.0 else min(1.0, high / k)
    space = MixtureSpace({f"d{i}": i + 1.0 for i in range(k)}, lower=low / k, upper=upper)
    rows = mixtures(search(space, 9, seed=seed, n_startup=5), space)
    assert len(rows) == 9
    assert np.all(space.contains(rows)) and rows.min() >= 0 and rows.max() <= 1


@settings(max_examples=3)
@given(st.permutations(sorted(PRIOR)))
def test_order_and_names_of_domains_change_nothing(order: list[str]) -> None:
    plain = search(SPACE4)
    shuffled = MixtureSpace({name: PRIOR[name] for name in order})
    assert [t.params for t in search(shuffled).trials] == [t.params for t in plain.trials]
    renamed = MixtureSpace({name.upper(): PRIOR[name] for name in order})
    np.testing.assert_array_equal(mixtures(search(renamed), renamed), mixtures(plain, SPACE4))


def test_the_same_seed_gives_the_same_search_and_another_seed_another() -> None:
    one, same, other = search(SPACE4), search(SPACE4), search(SPACE4, seed=1)
    assert [t.params for t in one.trials] == [t.params for t in same.trials]
    assert one.trials[-1].params != other.trials[-1].params


def test_a_restarted_sampler_proposes_what_the_first_would_have() -> None:
    whole = search(SPACE4, 14)
    study = search(SPACE4, 11)
    study.sampler = sampler_of(SPACE4)
    study.optimize(bowl(SPACE4), n_trials=3)
    assert [t.params for t in study.trials] == [t.params for t in whole.trials]


def test_no_mixture_is_drawn_twice_by_workers_that_ask_together() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    objective = bowl(SPACE4)
    for _ in range(3):
        batch = [study.ask() for _ in range(8)]
        values = [objective(trial) for trial in batch]
        for trial, value in zip(batch, values, strict=True):
            study.tell(trial, value)
    rows = mixtures(study, SPACE4)
    gaps = np.abs(rows[:, None] - rows[None]).sum(2) + np.eye(len(rows))
    assert gaps.min() > 5e-5


def test_what_is_planned_ahead_is_what_an_ask_would_propose_and_is_asked_once() -> None:
    study = search(SPACE4, 8)
    params, stored = sampler_of(SPACE4).plan_ahead(study, 9)
    planned = create_trial(
        state=TrialState.RUNNING,
        params=params,
        distributions=SPACE4.distributions(),
        user_attrs={SLOT: 9},
        system_attrs=stored,
    )
    study.add_trial(planned)
    trial = optuna.Trial(study, study.trials[-1]._trial_id)
    assert 0 <= trial.suggest_float("lr", 0.0, 1.0) <= 1  # of the independent sampler alone
    assert SPACE4.params(SPACE4.weights(SPACE4.suggest(trial))) == params
    assert FORECAST in stored and study.trials[trial.number].system_attrs == stored

    asked = search(SPACE4, 8)
    asked.sampler = sampler_of(SPACE4)
    late = asked.ask()
    late.set_user_attr(SLOT, 9)
    SPACE4.suggest(late)
    assert late.params == params
    assert asked.trials[late.number].system_attrs[FORECAST] == stored[FORECAST]


def test_threads_draw_distinct_mixtures() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    study.optimize(bowl(SPACE4), n_trials=20, n_jobs=4)
    rows = mixtures(study, SPACE4)
    gaps = np.abs(rows[:, None] - rows[None]).sum(2) + np.eye(20)
    assert gaps.min() > 5e-5 and np.all(SPACE4.contains(rows))


def test_two_samplers_on_one_study_see_each_others_running_trials() -> None:
    def second(another: bool) -> dict[str, float]:
        study = search(SPACE4, 10)
        SPACE4.suggest(study.ask())
        if another:
            study.sampler = sampler_of(SPACE4)  # as in another process
        trial = study.ask()
        return SPACE4.suggest(trial)

    assert second(another=True) == second(another=False)


def test_a_running_trial_is_known_before_its_parameters_are_stored() -> None:
    study = search(SPACE4, 10)
    running = study.ask()
    announced = [0.4, 0.3, 0.2, 0.1]
    study._storage.set_trial_system_attr(running._trial_id, PROPOSAL, announced)
    own = study.ask()
    pending, rungs = study.sampler._pending(  # type: ignore[attr-defined]
        study.get_trials(deepcopy=False), own.number, 0
    )
    np.testing.assert_allclose(pending, [announced])
    assert rungs.tolist() == [0]


def test_enqueued_mixtures_count_as_pending_and_foreign_ones_do_not() -> None:
    study = search(SPACE4, 8)
    study.enqueue_trial(SPACE4.params(np.array([0.1, 0.2, 0.3, 0.4])))
    study.enqueue_trial({"x": 1.0})
    trials = study.get_trials(deepcopy=False)
    pending, _ = study.sampler._pending(trials, trials[0].number, 0)  # type: ignore[attr-defined]
    np.testing.assert_allclose(pending, [[0.1, 0.2, 0.3, 0.4]])


def test_the_start_is_a_function_of_seed_and_slot() -> None:
    space = MixtureSpace({f"d{i}": i + 1.0 for i in range(7)})
    np.testing.assert_allclose(start_mixture(space, 0, 0), space.prior)
    np.testing.assert_allclose(start_mixture(space, 0, 1), 1 / 7)
    draws = np.array([start_mixture(space, 0, i) for i in range(40)])
    np.testing.assert_array_equal(start_mixture(space, 0, 17), draws[17])
    assert len(np.unique(draws, axis=0)) == 40 and np.all(space.contains(draws))
    assert not np.array_equal(start_mixture(space, 1, 17), draws[17])
    far = np.abs(draws - space.prior).sum(axis=1)
    assert far[3::6].max() < 0.4 < far[2:][np.arange(2, 40) % 6 != 3].min()  # near the prior, not
    few = 1 / (draws**2).sum(axis=1)  # as many domains, had they equal weights
    assert np.median(few[np.arange(40) % 3 > 0]) < 2 < np.median(few[6::6])


def test_a_slot_is_used_where_a_worker_gave_one() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    for slot in (4, 0, 2):
        trial = study.ask()
        trial.set_user_attr(SLOT, slot)
        drawn = SPACE4.weights(SPACE4.suggest(trial))
        np.testing.assert_allclose(drawn, start_mixture(SPACE4, 0, slot), atol=1e-12)
        study.tell(trial, 1.0)


def test_imported_trials_shorten_the_start_of_a_worker() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    rows = SPACE4.sample_mixed(np.random.default_rng(0), 20)
    study.add_trials([done(SPACE4, w, float(w @ w)) for w in rows])
    trial = study.ask()
    trial.set_user_attr(SLOT, 2)
    drawn = SPACE4.weights(SPACE4.suggest(trial))
    assert np.abs(drawn - start_mixture(SPACE4, 0, 2)).sum() > 1e-3


def test_a_start_that_was_run_as_a_baseline_is_not_run_again() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    study.add_trial(done(SPACE4, SPACE4.prior, 1.0))
    trial = study.ask()
    trial.set_user_attr(SLOT, 0)
    assert np.abs(SPACE4.weights(SPACE4.suggest(trial)) - SPACE4.prior).sum() > 1e-3


def test_other_parameters_are_sampled_beside_the_weights() -> None:
    study = optuna.create_study(sampler=sampler_of(SPACE4))
    inner = bowl(SPACE4)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return inner(trial) + abs(np.log10(lr) + 3)

    study.optimize(objective, n_trials=10)
    assert all(set(t.params) == {"lr", *SPACE4.parameter_names} for t in study.trials)


def test_the_sampler_survives_pickling() -> None:
    study = search(SPACE4, 8)
    copy = pickle.loads(pickle.dumps(study.sampler))
    study.sampler = copy
    study.optimize(bowl(SPACE4), n_trials=1)
    assert len(study.trials) == 9


def test_the_space_is_stored_with_the_study() -> None:
    space = MixtureSpace(PRIOR, lower={"math": 0.05}, upper={"web": 0.7})
    study = search(space, 1)
    back = StudyView(study).space
    assert back.domains == space.domains and SPACE in study.user_attrs
    for mine, theirs in ((space.prior, back.prior), (space.lower, back.lower)):
        np.testing.assert_allclose(mine, theirs)
    np.testing.assert_allclose(space.upper, back.upper)


# --- it searches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_finds_the_optimum_in_either_direction(direction: str) -> None:
    law = MixingLaw(8, 3, seed=0)
    sign = 1.0 if direction == "minimize" else -1.0
    study = optuna.create_study(direction=direction, sampler=SimplexGPSampler(law.space, seed=0))
    inner = NoisyObjective(law)
    study.optimize(lambda trial: sign * inner(trial), n_trials=36)
    random = law.score(law.space.sample_mixed(np.random.default_rng(0), 2000))
    best = law.optimum()[1]
    assert (sign * study.best_value - best) / (np.median(random) - best) < 0.02


def test_both_directions_draw_the_same_mixtures() -> None:
    down = search(SPACE4)
    up = optuna.create_study(direction="maximize", sampler=sampler_of(SPACE4))
    inner = bowl(SPACE4)
    up.optimize(lambda trial: -inner(trial), n_trials=14)
    np.testing.assert_allclose(mixtures(down, SPACE4), mixtures(up, SPACE4), atol=1e-9)


def test_the_start_is_as_long_with_noise_as_without() -> None:
    law = MixingLaw(6, 3, seed=1)
    for noise in (0.0, 3.0):
        study = optuna.create_study(sampler=SimplexGPSampler(law.space, seed=3))
        study.optimize(NoisyObjective(law, noise=noise), n_trials=16)
        start = np.array([start_mixture(law.space, 3, i, 1) for i in range(16)])
        alike = np.abs(mixtures(study, law.space) - start).sum(1) < 1e-9
        assert alike[:12].sum() >= 11 and not alike[12:].any()  # one may be a corner drawn before


def test_no_two_draws_of_a_start_are_nearly_alike() -> None:
    space = MixtureSpace({"big": 7.0, "small": 3.0})
    study = optuna.create_study(sampler=SimplexGPSampler(space, seed=0))
    study.optimize(lambda trial: space.suggest(trial)["big"], n_trials=12)
    rows = np.sort(mixtures(study, space)[:, 0])
    assert np.diff(rows).min() > 0.005


def test_several_objectives_beat_random_on_hypervolume() -> None:
    law = MixingLaw(6, 2, seed=0)
    draws = law.space.sample_mixed(np.random.default_rng(0), 500)
    reference = np.median(law.components(draws), axis=0)

    def reached(n_startup: int) -> float:
        sampler = SimplexGPSampler(law.space, n_startup=n_startup, seed=0)
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            losses = law.components(law.space.weights(law.space.suggest(trial))[None])[0]
            return float(losses[0]), -float(losses[1])

        study.optimize(objective, n_trials=18)
        points = np.array([t.values for t in study.trials]) * np.array([1.0, -1.0])
        return volume_below(points, reference)

    assert reached(8) > 1.02 * reached(18)


def test_three_objectives_work() -> None:
    law = MixingLaw(5, 3, seed=0)
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler_of(law.space))

    def objective(trial: optuna.Trial) -> list[float]:
        return law.components(law.space.weights(law.space.suggest(trial))[None])[0].tolist()

    study.optimize(objective, n_trials=10)
    assert np.all(law.space.contains(mixtures(study, law.space)))


def test_guard_rails_are_respected() -> None:
    law = MixingLaw(6, 3, seed=0)
    weights, _ = law.optimum()
    limit = float(law.components(weights[None])[0, 0]) - 0.02  # the optimum breaks it
    study = optuna.create_study(sampler=SimplexGPSampler(law.space, n_startup=12, seed=0))

    def objective(trial: optuna.Trial) -> float:
        losses = law.components(law.space.weights(law.space.suggest(trial))[None])[0]
        trial.set_constraint("first task", float(losses[0]) - limit)
        return float(losses.mean())

    study.optimize(objective, n_trials=28)
    held = [t.constraints["first task"] <= 0 for t in study.trials]
    assert np.mean(held[18:]) > 0.5
    assert study.best_trial.constraints["first task"] <= 0


def test_a_model_per_component_works_and_a_partial_record_falls_back() -> None:
    law = MixingLaw(5, 3, seed=0)
    study = optuna.create_study(sampler=sampler_of(law.space, components=True))
    set_aggregate(study, dict(zip(law.names, law.coefficients.tolist(), strict=True)))
    study.optimize(NoisyObjective(law, noise=0.1, components=True), n_trials=9)
    assert all(COMPONENTS in t.user_attrs for t in study.trials)
    study.add_trial(done(law.space, law.space.prior, 3.0))  # without components
    study.optimize(NoisyObjective(law, noise=0.1, components=True), n_trials=2)
    assert np.all(law.space.contains(mixtures(study, law.space)))
