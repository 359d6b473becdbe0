"""Noise that differs between mixtures: the process that knows it, and how a search gets to know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

import climb_opt
import studying
from climb_opt.attributes import FACTS, REPEATED, SEED, SLOT, WEIGHTS
from climb_opt.emulator import MixingLaw
from climb_opt.emulator.objective import spread
from climb_opt.gp.fit import Fits, _loss
from climb_opt.gp.mixed import Mixed, WeightedSum
from climb_opt.gp.model import GaussianProcess, Shape
from climb_opt.gp.penalties import SEARCHING
from climb_opt.gp.tilted import Tilted
from climb_opt.gp.uneven import OtherSeeds, Uneven, growth_of, uneven_over
from climb_opt.phases import PhasedSpace
from climb_opt.recipes import StudyRecipe
from climb_opt.reports.draw.terminal import listing
from climb_opt.reports.parts.noise import blocks
from climb_opt.retrain.noise import Repeated, noise_of, work_on
from climb_opt.retrain.repeats import Terms, begin, subject
from climb_opt.retrain.sibling import run_by
from climb_opt.samplers.stock import random
from climb_opt.selection import Estimate
from climb_opt.selection.choosing import evidence_of, learnt
from climb_opt.selection.promise import Promise
from climb_opt.selection.reached import learnt_from
from climb_opt.selection.recommendation import WIDTH
from climb_opt.storages import open_storage
from climb_opt.study import open_study
from climb_opt.view import StudyView, all_trials, read_history

recipe, journal = studying.recipe, studying.journal  # fixtures

SPACE = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
PRIOR = SPACE.project(SPACE.prior)
SHAPE = Shape(np.array([0.3, 0.5, 0.7]), -2.0, -1.0)


def rows(n: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Roots (n, K) of mixtures, and scores (n,)."""
    rng = np.random.default_rng(seed)
    weights = SPACE.sample_mixed(rng, n)
    return np.sqrt(weights), weights[:, 1] ** 2 + 0.1 * rng.standard_normal(n)


def test_the_noise_variance_grows_with_the_share_of_tokens_that_differ() -> None:
    uneven = Uneven(PRIOR, 3.0)
    corner = np.eye(3)[2]  # nine tenths of the tokens differ
    found = uneven.factors(np.sqrt(np.stack([PRIOR, corner])))
    assert found == pytest.approx([1.0, np.exp(3.0 * 0.9)])
    roots, _ = rows()
    over = uneven_over(roots, PRIOR, 3.0)
    assert over is not None and over.factors(roots).mean() == pytest.approx(1.0)
    assert uneven_over(roots, PRIOR, 0.0) is None


def test_schedules_differ_by_what_they_read_in_all() -> None:
    space = PhasedSpace({"web": 7, "code": 3}, (0.5, 0.5))
    prior = space.mean(space.prior)
    apart = np.array([0.35, 0.15, 0.35, 0.15]), np.array([0.5, 0.0, 0.2, 0.3])
    roots = np.sqrt(np.stack(apart))  # the second one keeps the mean, the order differs
    assert Uneven(prior, 2.0).factors(roots) == pytest.approx([1.0, 1.0])


def test_the_posterior_is_that_of_results_of_which_some_are_noisier() -> None:
    roots, values = rows()
    uneven = uneven_over(roots, PRIOR, 4.0)
    assert uneven is not None
    process = GaussianProcess(roots, values, SHAPE, uneven=uneven)
    x = process._inputs(roots)
    matrix = process._kernel(x, x) + np.diag(np.exp(-2.0) * uneven.factors(roots))
    inverse = np.linalg.inv(matrix)
    constant = inverse.sum(axis=0) @ values / inverse.sum()
    at = np.sqrt(SPACE.sample_mixed(np.random.default_rng(5), 4))
    cross = process._kernel(process._inputs(at), x)
    mean, std = process.moments(at)
    assert mean == pytest.approx(constant + cross @ inverse @ (values - constant), rel=1e-6)
    own = process._kernel(process._inputs(at), process._inputs(at)) - cross @ inverse @ cross.T
    assert std == pytest.approx(np.sqrt(process.scale * np.diag(own)), rel=1e-5)
    assert process.noise_at(roots) ** 2 == pytest.approx(
        process.scale * np.exp(-2.0) * uneven.factors(roots)
    )
    m, s, by_m, by_s = process.slope(at[0])
    assert (m, s) == pytest.approx((mean[0], std[0]))
    for slope, part in ((by_m, 0), (by_s, 1)):
        numeric = approx_fprime(at[0], lambda r, p=part: process.moments(r[None])[p][0], 1e-7)
        assert slope == pytest.approx(numeric, abs=1e-4)


def test_a_noisy_trial_that_is_imagined_tells_less_than_a_quiet_one() -> None:
    roots, values = rows()
    process = GaussianProcess(roots, values, SHAPE, uneven=Uneven(PRIOR, 6.0))
    even = GaussianProcess(roots, values, SHAPE)
    corner = np.sqrt(np.array([[0.02, 0.03, 0.95]]))
    left = [
        p.imagine(corner).moments(corner)[1][0] / p.moments(corner)[1][0] for p in (process, even)
    ]
    assert left[0] > left[1] + 0.1


def test_what_is_made_of_processes_tells_their_noise() -> None:
    roots, values = rows()
    process = GaussianProcess(roots, values, SHAPE, uneven=Uneven(PRIOR, 2.0))
    own = process.noise_at(roots)
    assert np.ptp(own) > 0
    assert Mixed([process, process]).noise_at(roots) == pytest.approx(own)
    assert WeightedSum([process, process], np.array([3.0, 4.0])).noise_at(roots) == pytest.approx(
        5 * own
    )
    assert Tilted(process, np.zeros(3), 1.0).noise_at(roots) == pytest.approx(own)
    assert GaussianProcess(roots, values, SHAPE).noise_at(roots) == pytest.approx(
        np.full(12, GaussianProcess(roots, values, SHAPE).noise)
    )


def test_the_likelihood_has_the_gradient_it_states() -> None:
    roots, values = rows(20)
    x, z = roots - roots.mean(axis=0), (values - values.mean()) / values.std()
    penalties = replace(SEARCHING, factors=Uneven(PRIOR, 3.0).factors(roots))
    theta = np.array([0.3, 0.5, 0.7, -1.0, -0.5])
    numeric = approx_fprime(theta, lambda t: _loss(t, x, z, penalties)[0], 1e-6)
    assert _loss(theta, x, z, penalties)[1] == pytest.approx(numeric, abs=1e-3)


def test_fits_of_the_same_rows_differ_by_what_is_known_of_the_noise() -> None:
    roots, values = rows(21)
    fits = Fits()
    even = fits.process(roots, values)
    told = fits.process(roots, values, uneven=uneven_over(roots, PRIOR, 4.0))
    again = fits.process(roots, values)
    assert told.shape.log_noise != even.shape.log_noise == again.shape.log_noise
    many, scores = rows(430, seed=1)  # of which the fit takes 400
    assert fits.process(many, scores, uneven=uneven_over(many, PRIOR, 4.0)).noise > 0


RUNS = st.tuples(st.floats(1e-3, 10), st.integers(2, 10))


@given(RUNS, RUNS, st.floats(0.1, 1))
def test_few_runs_are_drawn_to_no_difference(
    one: tuple[float, int], other: tuple[float, int], apart: float
) -> None:
    found = growth_of({"a": one, "b": other}, "a", "b", apart)
    seen = 2 * np.log(other[0] / one[0]) / apart
    back = growth_of({"a": one, "b": other}, "b", "a", apart)
    assert found == pytest.approx(-back, abs=1e-2)
    more = {"a": (one[0], 400), "b": (other[0], 400)}
    if abs(seen * apart) > 2:  # what is seen is not chance alone
        assert 0 < found / seen < 1.0
        assert abs(growth_of(more, "a", "b", apart)) > abs(found)


@pytest.mark.parametrize("runs", [{}, {"a": (1.0, 6)}, {"a": (1.0, 6), "b": (2.0, 1)},
                                  {"a": (0.0, 6), "b": (2.0, 6)}])  # fmt: skip
def test_without_runs_that_differ_nothing_is_known(runs: dict[str, tuple[float, int]]) -> None:
    assert growth_of(runs, "a", "b", 0.9) == 0.0


# --- on a study -----------------------------------------------------------------------------------


def score(trial: optuna.Trial) -> float:
    """The share of code, with ten times the prior's noise where all is math."""
    _, code, math = (trial.suggest_float(f"w/{name}", 0, 1) for name in ("web", "code", "math"))
    slot = str(trial.user_attrs.get(SLOT))
    rng = np.random.default_rng([int(trial.user_attrs.get(SEED, 0)), len(slot)])
    std = 0.01 * 10.0 ** ((math - 0.1) / 0.9)
    return (code - 0.5) ** 2 + std * float(rng.standard_normal())


def space_of(study: optuna.Study) -> climb_opt.MixtureSpace:
    """The space that the study stores."""
    space = StudyView(study).space
    assert space is not None
    return space


def test_a_search_under_way_is_told_of_its_noise(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    found = climb_opt.noise(study, objective=score, repeats=8, corner=8)
    assert found.repeated.growth > 2  # of log 100 = 4.6
    assert study.user_attrs[REPEATED] == found.repeated._asdict()
    text = " ".join(listing(*blocks(found)).split())
    times = np.exp(found.repeated.growth / 2)
    assert f"Noise is taken to be {times:.2g} times the prior's where all tokens differ" in text
    assert "by 8 runs of the prior and 8 of the corner" in text

    climb_opt.work(study, objective=score)
    assert read_history(study, space_of(study)).growth == 0.0  # of what a sampler learns from
    view, space, history = learnt(study, None)
    evidence = evidence_of(view, space, history, False, 0)
    assert evidence is not None
    near, far = evidence.promise.noise_at(np.sqrt(np.stack([space.prior, np.eye(3)[2]])))
    assert far / near == pytest.approx(np.exp(found.repeated.growth * 0.9 / 2), rel=0.15)
    best = climb_opt.best_mixture(study)
    own = evidence.promise.noise_at(np.sqrt(space.weights(best))[None])
    assert best.noise == pytest.approx(float(own[0]))


def test_a_search_is_told_what_the_runs_of_the_prior_and_of_the_corner_differ_by(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    found = climb_opt.noise(study, objective=score, repeats=5, corner=2)
    space = space_of(study)
    beside = optuna.load_study(study_name="x-noise", storage=open_storage(journal))
    of: dict[str, list[optuna.trial.FrozenTrial]] = {"prior": [], "corner": []}
    for trial in all_trials(beside):
        of.get(trial.user_attrs[SLOT].rpartition("/")[0], []).append(trial)
    stds = {name: float(np.std([t.values for t in runs], ddof=1)) for name, runs in of.items()}
    ends = [space.weights_of(runs[0]) for runs in of.values()]
    apart = float(np.abs(np.subtract(*ends)).sum()) / 2
    seen = {"prior": (stds["prior"], 5), "corner": (stds["corner"], 2)}
    assert found.repeated.std == pytest.approx(stds["prior"])
    assert found.repeated.freedom == 4
    assert found.repeated.growth == pytest.approx(growth_of(seen, "prior", "corner", apart))
    assert found.repeated.growth != 0.0


def test_a_search_that_begins_later_is_told_by_runs_of_its_recipe_alone(
    recipe: StudyRecipe, journal: str
) -> None:
    sibling = begin(subject(recipe, journal, "x"), Terms(6, 6, 0))
    work_on(sibling, run_by(score))
    found = noise_of(sibling)
    assert found.repeated.growth > 1
    same = open_study(recipe, storage=journal, study_name="x")
    assert same.user_attrs[REPEATED] == found.repeated._asdict()

    begin(subject(recipe, journal, "y"), Terms(6, 6, 0))
    sibling = optuna.load_study(study_name="y-noise", storage=open_storage(journal))
    work_on(sibling, run_by(score))
    other = open_study(replace(recipe, direction="maximize"), storage=journal, study_name="y")
    assert REPEATED in sibling.user_attrs and REPEATED not in other.user_attrs


def test_no_runs_at_a_corner_tell_nothing(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    found = climb_opt.noise(study, objective=score, corner=0)
    assert found.repeated.growth == 0.0 and "where all tokens differ" not in listing(*blocks(found))
    assert WEIGHTS not in study.user_attrs and study.user_attrs[REPEATED]["growth"] == 0.0


# --- one seed for all trials ----------------------------------------------------------------------


def test_what_other_seeds_score_is_counted_of_both_mixtures() -> None:
    roots, values = rows(24)
    evaluated, pick = roots**2, np.array([0.05, 0.9, 0.05])
    plain = Promise(GaussianProcess(roots, values, SHAPE), pick, evaluated)
    seeds = OtherSeeds(0.3, Uneven(PRIOR, -1.0))
    wide = replace(plain, seeds=seeds)
    at = seeds.at(np.sqrt(np.stack([pick, PRIOR])))
    assert at[1] == pytest.approx(0.3) and at[0] < 0.3

    def added(before: Estimate, after: Estimate) -> float:
        assert before.mean == after.mean
        return float(np.sqrt(after.half**2 - before.half**2)) / WIDTH

    assert added(plain.score(1.0), wide.score(1.0)) == pytest.approx(at[0])
    assert added(plain.gain(PRIOR), wide.gain(PRIOR)) == pytest.approx(np.hypot(*at))
    assert wide.gain(PRIOR, picked=True) == plain.gain(PRIOR, picked=True)
    few = replace(plain, evaluated=evaluated[:8])  # intervals twice as wide, not what was measured
    assert few.widening == 2
    assert added(few.score(1.0), replace(few, seeds=seeds).score(1.0)) == pytest.approx(at[0])
    methods = plain.gain_over_score(0.1), wide.gain_over_score(0.1)
    assert added(*methods) == pytest.approx(np.sqrt(2) * at[0])


def searched(law: MixingLaw, seed: int, shared: bool, deviation: float) -> optuna.Study:
    """A search of which one seed adds a smooth function of the mixture to every score."""
    tilt = np.random.default_rng(seed).standard_normal(len(law.space))

    def objective(trial: optuna.Trial) -> float:
        weights = law.space.weights(law.space.suggest(trial))
        trial.set_user_attr(FACTS, {"seed": 0 if shared else trial.number})
        return float(
            law.score(weights[None])[0] + deviation * tilt @ weights / np.linalg.norm(weights)
        )

    study = optuna.create_study(sampler=random(law.space, seed=seed))
    study.optimize(objective, n_trials=24)
    return study


def test_nine_of_ten_intervals_of_searches_with_one_seed_hold_where_its_noise_is_known() -> None:
    """A coverage far off fails; tests/bench/bench_proxies.py measures it."""
    held: dict[bool, list[bool]] = {False: [], True: []}
    for seed in range(10):
        law = MixingLaw(5, seed=seed)
        std = 0.5 * spread(law)
        study = searched(law, seed, shared=True, deviation=std)
        for told in held:
            if told:  # the study says so to whoever reads it from here on
                study.set_user_attr(REPEATED, Repeated(0.0, std, 5)._asdict())
            best = climb_opt.best_mixture(study, space=law.space)
            pick, prior = law.score(np.stack([law.space.weights(best), law.space.prior]))
            for estimate, truth in ((best.predicted, pick), (best.gain, prior - pick)):
                assert estimate is not None
                held[told].append(bool(estimate.low <= truth <= estimate.high))
    assert np.mean(held[True]) >= 0.8 > 0.7 > np.mean(held[False])


def test_whether_other_seeds_are_counted_with_is_said() -> None:
    law = MixingLaw(4, seed=1)
    study = searched(law, 1, shared=True, deviation=0.1)
    unknown = climb_opt.best_mixture(study, space=law.space)
    assert [w for w in unknown.warnings if "no interval here knows" in w and "climb-opt noise" in w]
    study.set_user_attr(REPEATED, Repeated(0.0, 0.1, 5)._asdict())
    known = climb_opt.best_mixture(study, space=law.space)
    assert [w for w in known.warnings if "intervals count with the others" in w]
    assert known.predicted is not None and unknown.predicted is not None
    assert known.predicted.half > unknown.predicted.half
    many = searched(law, 1, shared=False, deviation=0.1)
    plain = climb_opt.best_mixture(many, space=law.space)
    many.set_user_attr(REPEATED, Repeated(0.0, 0.1, 5)._asdict())
    told = climb_opt.best_mixture(many, space=law.space)
    assert told.predicted == plain.predicted and not any("one seed" in w for w in told.warnings)


def test_a_deviation_of_few_runs_is_taken_for_larger_as_it_may_have_come_out_small() -> None:
    study = searched(MixingLaw(4, seed=1), 1, shared=True, deviation=0.1)
    _, space, history = learnt(study, MixingLaw(4, seed=1).space)
    found = []
    for freedom in (1, 5, 10**6):
        study.set_user_attr(REPEATED, Repeated(0.0, 0.1, freedom)._asdict())
        found.append(learnt_from(StudyView(study), space, history).other_seeds)
    assert found == pytest.approx([0.1 * 6.314 / WIDTH, 0.1 * 2.015 / WIDTH, 0.1], rel=1e-3)
