"""Searching schedules: every sampler, design, predictor and rule; what a process sees of phases."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from scipy.optimize import approx_fprime

from climb_opt import MixtureSpace, PhasedSpace, lookup, recipes
from climb_opt.ablation.run.surfaces import surface
from climb_opt.baselines import fixed_mixture
from climb_opt.emulator import MixingLaw, NoisyObjective, PhasedLaw
from climb_opt.gp import fit
from climb_opt.gp.beliefs import surrogate_of, view_of
from climb_opt.gp.model import GaussianProcess
from climb_opt.gp.optimise import descend
from climb_opt.gp.penalties import SEARCHING
from climb_opt.gp.phased import PhaseView
from climb_opt.gp.schedule_sphere import SchedulePoint
from climb_opt.predictors.base import informed
from climb_opt.recipes import Choice
from climb_opt.samplers.design import initial_design, start_mixture
from climb_opt.selection import best_mixture
from climb_opt.selection.rules import PATH_RULES
from climb_opt.study.working import build_sampler
from climb_opt.view import read_history

TOKENS = {"web": 400.0, "code": 300.0, "math": 200.0, "wiki": 100.0}
SPACE = PhasedSpace(TOKENS, (0.7, 0.3))
BOUNDED = PhasedSpace(TOKENS, (0.7, 0.3), bounds=[{"upper": {"web": 0.5}}, {"lower": 0.05}])
CAPPED = PhasedSpace(TOKENS, (0.7, 0.3), max_epochs=1.5, trial_tokens=1000.0)


def gain_of_late_math(trial: optuna.trial.BaseTrial, space: PhasedSpace) -> float:
    """Lower is better: math last, web first."""
    mixture = space.suggest(trial)
    return (mixture["1/web"] - 0.7) ** 2 + (mixture["2/math"] - 0.6) ** 2


def searched(sampler: str, space: PhasedSpace, trials: int, **options: Any) -> optuna.Study:
    recipe = recipes.study_from(
        {
            "corpus": "x",
            "proxy": {},
            "evaluators": ["heldout"],
            "score": ["a"],
            "rounds": [trials - trials // 2, trials // 2],
            "sampler": {"name": sampler, **options},
        }
    )
    study = optuna.create_study(sampler=build_sampler(recipe, space))
    study.optimize(lambda trial: gain_of_late_math(trial, space), n_trials=trials)
    return study


# --- samplers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [SPACE, BOUNDED, CAPPED], ids=["free", "bounded", "capped"])
@pytest.mark.parametrize("sampler", [s for s in lookup.KINDS["sampler"] if s != "botorch"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_sampler_searches_schedules(sampler: str, space: PhasedSpace) -> None:
    options = {"n_startup": 6} if sampler == "simplex-gp" else {}
    study = searched(sampler, space, 10, **options)
    history = read_history(study, space)
    assert len(history) == 10 and np.all(space.contains(history.weights))
    assert history.shares == (0.7, 0.3)


def test_a_search_finds_what_belongs_where() -> None:
    study = searched("simplex-gp", SPACE, 30, n_startup=10)
    best = best_mixture(study, rule="predicted", space=SPACE)
    assert best["1/web"] == pytest.approx(0.7, abs=0.1)
    assert best["2/math"] == pytest.approx(0.6, abs=0.15)


@pytest.fixture(scope="module")
def capped() -> optuna.Study:
    return searched("random", CAPPED, 14)


@pytest.mark.parametrize("rule", [r for r in lookup.KINDS["rule"] if r not in PATH_RULES])
def test_every_rule_keeps_a_schedule(rule: str, capped: optuna.Study) -> None:
    study = capped
    best = best_mixture(study, rule=rule, space=CAPPED)
    CAPPED.check(CAPPED.weights(dict(best)))


@pytest.mark.parametrize("predictor", [p for p in lookup.KINDS["predictor"] if p != "gp"])
def test_every_predictor_learns_from_schedules(predictor: str) -> None:
    x = SPACE.sample_mixed(np.random.default_rng(0), 24)
    found = informed(lookup.find("predictor", predictor), SPACE)()
    found.fit(x, x[:, 0] - x[:, -2])
    mean, std = found.predict(x[:5])
    assert mean.shape == std.shape == (5,) and np.all(np.isfinite(mean))


@pytest.mark.parametrize("design", lookup.KINDS["design"])
def test_half_of_a_first_round_holds_throughout(design: str) -> None:
    batch = initial_design(CAPPED, design, np.random.default_rng(0), 16)
    assert np.all(CAPPED.contains(batch)) and len(np.unique(batch, axis=0)) == 16
    same = np.ptp(CAPPED.blocks(batch), axis=1).max(axis=1) < 1e-9
    assert same[::2].all() and not same[1::2].all()


def test_a_start_begins_with_the_prior_and_the_uniform_mixture_throughout() -> None:
    starts = SPACE.blocks(np.array([start_mixture(SPACE, 0, i) for i in range(12)]))
    np.testing.assert_allclose(starts[0], [[0.4, 0.3, 0.2, 0.1]] * 2)
    np.testing.assert_allclose(starts[1], 0.25)
    same = np.ptp(starts, axis=1).max(axis=1) < 1e-9
    assert same.tolist() == [True, True, True, *[False, True] * 4, False]


@pytest.mark.parametrize("name", ["prior", "uniform", "temperature"])
def test_a_baseline_holds_throughout(name: str) -> None:
    one = MixtureSpace(TOKENS)
    expected = SPACE.constant(fixed_mixture(one, name))
    np.testing.assert_allclose(fixed_mixture(SPACE, name), expected, atol=1e-12)


# --- what a process sees -----------------------------------------------------------------------


def test_features_of_a_mixture_held_throughout_are_its_root_and_no_deviation() -> None:
    view, w = PhaseView((0.7, 0.3)), np.array([[0.4, 0.3, 0.3, 0.0]])
    found = view.features(np.sqrt(SPACE.constant(w)))
    np.testing.assert_allclose(found, np.concatenate([np.sqrt(w), np.zeros((1, 4))], 1), atol=1e-12)
    assert view.features(np.empty((0, 8))).shape == (0, 8)


@pytest.mark.parametrize("shares", [(0.7, 0.3), (0.5, 0.3, 0.2)])
def test_slopes_of_a_process_of_schedules_are_its_own(shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(1)
    space = PhasedSpace(TOKENS, shares)
    x = space.sample_mixed(rng, 30)
    process = fit.process_of(np.sqrt(x), np.sin(4 * x[:, 0]) + x[:, -1], PhaseView(shares))
    for root in np.sqrt(space.sample_mixed(rng, 4)):
        mean, std, by_mean, by_std = process.slope(root)
        np.testing.assert_allclose([mean, std], [float(m[0]) for m in process.moments(root[None])])
        numeric = approx_fprime(root, lambda r: float(process.mean(r[None])[0]), 1e-7)
        np.testing.assert_allclose(by_mean, numeric, atol=2e-5)
        numeric = approx_fprime(root, lambda r: float(process.moments(r[None])[1][0]), 1e-7)
        np.testing.assert_allclose(by_std, numeric, atol=2e-5)


def test_the_slope_of_a_likelihood_of_schedules_is_its_own() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((20, 6)), rng.standard_normal(20)
    theta = np.array([0.5, 0.6, 0.4, 1.5, 2.0, 1.8, -2.0, 0.3, -1.0])
    phased = replace(SEARCHING, plain=3)
    value, slope = fit._loss(theta, x, y, phased)
    assert np.isfinite(value)
    numeric = approx_fprime(theta, lambda t: fit._loss(t, x, y, phased)[0], 1e-6)
    np.testing.assert_allclose(slope, numeric, atol=1e-4)


def learnt(effect: float) -> GaussianProcess:
    law = PhasedLaw((0.7, 0.3), effect=effect, domains=4, seed=1)
    x = law.space.sample_mixed(np.random.default_rng(3), 40)
    return fit.process_of(np.sqrt(x), law.score(x), PhaseView((0.7, 0.3)))


def test_a_process_learns_whether_phases_matter() -> None:
    def moved(process: GaussianProcess) -> float:
        """How much the score depends on the order of two mixtures, of what it depends on at all."""
        a, b = np.array([0.6, 0.2, 0.1, 0.1]), np.array([0.1, 0.2, 0.1, 0.6])
        space = PhasedSpace(dict.fromkeys("abcd", 1.0), (0.5, 0.5))
        rows = space.of_blocks(np.array([[a, b], [b, a], [a, a], [b, b]]))
        mean = process.mean(np.sqrt(rows))
        return float(abs(mean[0] - mean[1]) / np.ptp(mean))

    assert moved(learnt(2.0)) > 5 * moved(learnt(0.0))
    assert moved(learnt(0.0)) < 0.05


def test_a_history_of_schedules_is_seen_as_such() -> None:
    history = read_history(searched("random", SPACE, 10), SPACE)
    assert view_of(history) == PhaseView((0.7, 0.3))
    found = surrogate_of(history)
    assert isinstance(found, GaussianProcess) and found.shape.plain == 4


# --- descents ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "atol"),
    [(SPACE, 1e-5), (BOUNDED, 1e-5), (CAPPED, 0.05)],  # caps are met nearly
    ids=["free", "bounded", "capped"],
)
def test_slopes_pass_through_the_sums_of_phases(space: PhasedSpace, atol: float) -> None:
    rng = np.random.default_rng(4)
    a = rng.standard_normal(8)
    for _ in range(5):
        v = np.sqrt(rng.dirichlet(np.ones(8))) * rng.uniform(0.5, 1.2)
        numeric = approx_fprime(v, lambda u: float(a @ SchedulePoint(u, space).root), 1e-6)
        np.testing.assert_allclose(SchedulePoint(v, space).back(a), numeric, atol=atol)


@pytest.mark.parametrize("space", [SPACE, BOUNDED, CAPPED], ids=["free", "bounded", "capped"])
def test_a_descent_finds_the_best_schedule(space: PhasedSpace) -> None:
    """Against many draws: of a linear function, whose optimum is a vertex of the space."""
    rng = np.random.default_rng(5)
    slope = rng.standard_normal(8)

    def function(root: np.ndarray) -> tuple[float, np.ndarray]:
        return float(slope @ root**2), 2 * slope * root

    starts = space.sample_mixed(rng, 6)
    found = descend(function, starts, space, iterations=200)
    assert np.all(space.contains(found))
    drawn = space.project(rng.dirichlet(np.full(8, 0.1), size=4000))
    assert float((found @ slope).min()) <= float((drawn @ slope).min()) + 1e-3


# --- the law -----------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [0.0, 1.5])
def test_a_law_of_schedules_is_a_plain_one_where_a_mixture_holds_throughout(effect: float) -> None:
    law, plain = PhasedLaw(effect=effect, domains=5, seed=2), MixingLaw(5, seed=2)
    w = plain.space.sample_mixed(np.random.default_rng(0), 20)
    np.testing.assert_allclose(law.score(law.space.constant(w)), plain.score(w))
    assert law.optimum()[1] <= plain.optimum()[1] + 1e-9
    drawn = law.space.sample_mixed(np.random.default_rng(1), 2000)
    assert law.optimum()[1] <= law.score(drawn).min() + 1e-9
    if not effect:
        np.testing.assert_allclose(law.score(drawn), plain.score(law.space.mean(drawn)))
        assert law.optimum()[1] == pytest.approx(plain.optimum()[1], abs=1e-9)
    else:
        assert law.optimum()[1] < plain.optimum()[1] - 1e-4


def test_the_optimum_of_a_law_of_schedules_is_certified() -> None:
    for seed, shares in itertools.product(range(3), [(0.8, 0.2), (0.3, 0.3, 0.4)]):
        law = PhasedLaw(shares, effect=2.0, domains=6, seed=seed)
        weights, value = law.optimum()
        assert bool(law.space.contains(weights)) and law._gap(weights) < 1e-8
        assert value == pytest.approx(float(law.score(weights[None])[0]))


def test_arms_of_an_ablation_search_a_law_of_schedules() -> None:
    options = {"effect": 2.0, "domains": 4}
    two = surface(Choice("phased-law", options))
    one = surface(Choice("phased-law", {**options, "throughout": True}))
    assert (len(two.space), len(one.space)) == (8, 4) and one.best == two.best
    law = PhasedLaw(effect=2.0, domains=4)
    assert two.regret(law.optimum()[0][None])[0] == pytest.approx(0.0, abs=1e-9)
    w = one.space.prior[None]
    assert one.regret(w)[0] == pytest.approx(two.regret(law.space.constant(w))[0])
    assert one.regret(law.plain.optimum()[0][None])[0] > 0  # one mixture cannot have the best


def test_a_law_of_schedules_is_an_objective() -> None:
    law = PhasedLaw(effect=1.0, domains=4)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(law.space.params(law.optimum()[0]))
    study.optimize(NoisyObjective(law, noise=0.1, components=True), n_trials=1)
    assert len(read_history(study, law.space)) == 1
