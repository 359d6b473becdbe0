"""What is believed of hyper-parameters: of a search, and of what is to be said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest
from scipy.optimize import approx_fprime

from climb_opt.emulator import MixingLaw, NoisyObjective
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.fit import Fits
from climb_opt.gp.mixed import Mixed
from climb_opt.gp.model import GaussianProcess, Shape
from climb_opt.gp.penalties import JUDGING, SEARCHING, Penalties
from climb_opt.samplers.stock import random
from climb_opt.selection import best_mixture
from climb_opt.selection.choosing import evidence_of, learnt


@pytest.mark.parametrize("penalties", [SEARCHING, JUDGING])
@pytest.mark.parametrize("level", [-1.5, 0.6, 2.0])
@pytest.mark.parametrize("plain", [0, 3])
def test_the_gradient_of_a_penalty_is_its_own(
    penalties: Penalties, level: float, plain: int
) -> None:
    lengths = level + np.array([0.1, -0.2, 0.3, 0.0, 0.2, -0.1])
    theta = np.array([*lengths, -1.0, 0.5, *([-2.0] if plain else [])])
    own = replace(penalties, plain=plain)
    numeric = approx_fprime(theta, lambda t: own(t)[0], 1e-7)
    np.testing.assert_allclose(own(theta)[1], numeric, atol=1e-5)


def test_what_is_judged_may_be_noisier_and_is_less_rough() -> None:
    rough, noisy = np.array([-1.2] * 5 + [-4.0, 0.0]), np.array([0.6] * 5 + [0.0, 0.0])
    for penalties, wins in ((SEARCHING, rough), (JUDGING, noisy)):
        lost = rough if wins is noisy else noisy
        assert penalties(wins)[0] < penalties(lost)[0]


def noises(domains: int, seed: int, trials: int) -> tuple[float, float]:
    """Noise that a process finds of the true 1, of a random search: judging it, and searching."""
    law = MixingLaw(domains, seed=seed)
    objective = NoisyObjective(law, noise=1.0, seed=seed)
    study = optuna.create_study(sampler=random(law.space, seed=seed))
    study.optimize(objective, n_trials=trials)
    view, space, history = learnt(study, law.space)
    evidence = evidence_of(view, space, history, False, 0)
    searching = Beliefs(space).problem(history)
    assert evidence is not None and searching is not None
    assert best_mixture(study, space=space).noise == evidence.promise.noise
    assert isinstance(evidence.promise, Mixed) and len(evidence.promise.parts) == 2
    found = (evidence.problem.objectives[0].noise, searching.objectives[0].noise)
    return found[0] / objective.sigma, found[1] / objective.sigma


def test_scores_that_are_mostly_noise_are_not_taken_for_a_rough_function() -> None:
    """Where a search may, what is said of it does not."""
    cases = [(6, 2, 32), (6, 3, 32), (12, 2, 40), (8, 0, 40), (6, 5, 32)]
    found = np.array([noises(*case) for case in cases])
    assert (found[:, 0] > 0.6).all() and (found[:, 0] < 1.4).all()
    assert (found[:3, 1] < 0.5).all() and (found[3:, 1] > 0.6).all()


def test_a_function_without_noise_is_none_for_either() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 60)
    smooth = np.sqrt(weights) @ np.array([1.0, -1.0, 0.5, 0.0]) + weights[:, 0] ** 2
    for penalties in (SEARCHING, JUDGING):
        assert Fits(penalties).process(np.sqrt(weights), smooth).noise < 0.02 * smooth.std()


def test_mixed_beliefs_have_the_moments_of_draws_from_either() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), 30)
    values = weights[:, 0] + 0.1 * rng.standard_normal(30)
    shapes = [Shape(np.full(4, level), noise, 0.0) for level, noise in ((-1.0, -4.0), (0.5, 0.0))]
    parts = [GaussianProcess(np.sqrt(weights), values, shape) for shape in shapes]
    mixed, roots = Mixed(parts), np.sqrt(rng.dirichlet(np.ones(4), 3))
    drawn = np.concatenate([rng.multivariate_normal(*p.joint(roots), 200_000) for p in parts])
    mean, covariance = mixed.joint(roots)
    np.testing.assert_allclose(mean, drawn.mean(axis=0), atol=0.01 * values.std())
    np.testing.assert_allclose(covariance, np.cov(drawn.T), atol=0.02 * values.var())
    np.testing.assert_allclose(mixed.mean(roots), mean)
    np.testing.assert_allclose(mixed.moments(roots), [mean, np.sqrt(np.diag(covariance))])
    assert min(p.noise for p in parts) < mixed.noise < max(p.noise for p in parts)
    assert mixed.spread == pytest.approx(values.std())
    assert mixed.imagine(roots).moments(roots)[1].max() < mixed.moments(roots)[1].max()
    found = mixed.slope(roots[0])
    assert found[:2] == pytest.approx([m[0] for m in mixed.moments(roots[:1])])
    for i in (0, 1):
        numeric = approx_fprime(roots[0], lambda r, i=i: mixed.moments(r[None])[i][0], 1e-7)
        np.testing.assert_allclose(found[2 + i], numeric, atol=1e-5)
