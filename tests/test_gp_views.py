"""Mixtures seen by roots or by logarithms of their weights, as the results ask for it."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from scipy.optimize import approx_fprime

from climb_opt import SimplexGPSampler, best_mixture
from climb_opt.emulator import MixingLaw, NoisyObjective
from climb_opt.emulator.shapes import Interactions, Traces
from climb_opt.gp import fit
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.fit import Fits, process_of
from climb_opt.gp.model import GaussianProcess
from climb_opt.gp.views import TRACE, TraceView
from climb_opt.view import read_history

DOMAINS, RUNS = 6, 40


def drawn(law: Traces | MixingLaw | Interactions, n: int = RUNS) -> tuple[np.ndarray, np.ndarray]:
    """Roots (n, K) of mixed draws and their scores (n,)."""
    weights = law.space.sample_mixed(np.random.default_rng(1), n)
    return np.sqrt(weights), law.score(weights)


def errors(process: GaussianProcess, law: Traces) -> np.ndarray:
    """What it misses of fresh mixtures, in their spread."""
    weights = law.space.sample_mixed(np.random.default_rng(2), 200)
    true = law.score(weights)
    return (process.mean(np.sqrt(weights)) - true) / true.std()


def test_a_law_of_ratios_is_seen_by_logarithms_and_better_foretold() -> None:
    law = Traces(DOMAINS, seed=3)
    roots, scores = drawn(law)
    found = process_of(roots, scores)
    assert found.view == TraceView()
    by_roots = fit.fit(roots, scores)
    assert np.mean(errors(found, law) ** 2) < 0.5 * np.mean(errors(by_roots, law) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_other_laws_stay_seen_by_roots(seed: int) -> None:
    for law in (MixingLaw(DOMAINS, seed=seed), Interactions(DOMAINS, seed=seed)):
        found = process_of(*drawn(law))
        assert found.view is None
        assert np.array_equal(found.shape.log_lengths, fit.fit_shape(*drawn(law)).log_lengths)


def test_few_or_noisy_results_do_not_ask_for_logarithms() -> None:
    law = Traces(DOMAINS, seed=3)
    roots, scores = drawn(law)
    assert process_of(roots[:4], scores[:4]).view is None
    chance = np.random.default_rng(0).standard_normal((5, RUNS))
    assert all(process_of(roots, row).view is None for row in chance)


def test_a_fresh_memory_sees_growing_results_as_one_that_saw_them_grow() -> None:
    roots, scores = drawn(Traces(DOMAINS, seed=3))
    kept = Fits()
    for n in (8, 20, 29, RUNS - 3):
        grown, fresh = kept.process(roots[:n], scores[:n]), Fits().process(roots[:n], scores[:n])
        assert grown.view == fresh.view
        assert np.array_equal(grown.mean(roots), fresh.mean(roots))
    assert grown.view == TraceView()


@pytest.mark.parametrize("speck", [0.0, 1e-5, 0.1])
def test_slopes_are_those_of_the_roots(speck: float) -> None:
    found = process_of(*drawn(Traces(DOMAINS, seed=3)))
    assert found.view == TraceView()
    root = np.sqrt(np.array([speck, 0.3, 0.25, 0.2, 0.15, 0.1 - speck]))
    mean, std, by_mean, by_std = found.slope(root)
    for value, slope, place in ((mean, by_mean, 0), (std, by_std, 1)):

        def of(r: np.ndarray, place: int = place) -> float:
            return float(found.moments(r[None])[place][0])

        assert value == pytest.approx(of(root))
        # Central differences: near 0 a logarithm bends within one step of a forward one.
        forward, back = approx_fprime(root, of, 1e-5), approx_fprime(root, of, -1e-5)
        np.testing.assert_allclose(slope, (forward + back) / 2, rtol=2e-3, atol=1e-4)


def test_no_weight_at_all_has_a_feature_like_any_other() -> None:
    view = TraceView()
    assert view.features(np.zeros((1, 2))) == pytest.approx(np.log(TRACE))
    assert np.array_equal(view.pull(np.zeros(2), np.ones(2)), np.zeros(2))


def test_a_search_of_ratios_proposes_recommends_and_doubts_by_logarithms() -> None:
    law = Traces(4, seed=1)
    study = optuna.create_study(sampler=SimplexGPSampler(law.space, n_startup=16, seed=0))
    study.optimize(NoisyObjective(law), n_trials=24)
    history = read_history(study, law.space)
    problem = Beliefs(law.space).problem(history)
    assert problem is not None
    (belief,) = problem.objectives
    assert isinstance(belief, GaussianProcess) and belief.view == TraceView()
    best = best_mixture(study)
    assert best.predicted is not None
    assert law.score(law.space.weights(best)[None])[0] < history.values[:16].min()
