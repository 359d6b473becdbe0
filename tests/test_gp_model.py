"""The Gaussian process against closed forms, references and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import norm

from climb_opt.gp import hypervolume, improvement, optima
from climb_opt.gp import optimise as sphere
from climb_opt.gp.candidates import around, between, candidates
from climb_opt.gp.fit import Fits, _loss, fit, fit_shape
from climb_opt.gp.mixed import WeightedSum
from climb_opt.gp.model import GaussianProcess, Shape, draw, frame
from climb_opt.gp.proposal import Problem, gains, propose
from climb_opt.simplex import MixtureSpace
from climbing import volume_below


def space_of(k: int, **bounds: object) -> MixtureSpace:
    return MixtureSpace({f"d{i:02d}": 1.0 / (i + 1) for i in range(k)}, **bounds)  # type: ignore[arg-type]


def data(k: int = 6, n: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(k) * 0.7, n)
    return weights, np.exp(-np.sqrt(weights) @ rng.random(k)) + 0.01 * rng.standard_normal(n)


def process(k: int = 6, n: int = 30) -> GaussianProcess:
    weights, y = data(k, n)
    return GaussianProcess(np.sqrt(weights), y, Shape(np.linspace(-0.5, 0.8, k), -4.0, -0.5))


# --- posterior -----------------------------------------------------------------------------------


def test_the_posterior_is_the_textbooks() -> None:
    weights, y = data()
    gp = process()
    centre, width = frame(np.sqrt(weights))
    x = (np.sqrt(weights) - centre) / width
    new = np.sqrt(data(seed=1)[0][:5])
    z = (new - centre) / width

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        gap = (a[:, None] - b[None]) / np.exp(gp.shape.log_lengths)
        d = np.sqrt((gap**2).sum(2))
        matern = (1 + np.sqrt(5) * d + 5 / 3 * d**2) * np.exp(-np.sqrt(5) * d)
        return matern + np.exp(gp.shape.log_linear) * a @ b.T

    noisy = kernel(x, x) + (np.exp(gp.shape.log_noise) + 1e-9) * np.eye(len(x))
    inverse = np.linalg.inv(noisy)
    constant = inverse.sum(0) @ y / inverse.sum()
    scale = (y - constant) @ inverse @ (y - constant) / len(y)
    mean = constant + kernel(z, x) @ inverse @ (y - constant)
    covariance = scale * (kernel(z, z) - kernel(z, x) @ inverse @ kernel(x, z))
    got_mean, got_std = gp.moments(new)
    np.testing.assert_allclose(got_mean, mean, rtol=1e-9)
    np.testing.assert_allclose(got_std, np.sqrt(np.diag(covariance)), rtol=1e-6)
    joint_mean, joint = gp.joint(new)
    np.testing.assert_allclose(joint_mean, mean, rtol=1e-9)
    np.testing.assert_allclose(joint, covariance, rtol=1e-6, atol=1e-12)


def test_the_posterior_agrees_with_scikit_learns() -> None:
    kernels = pytest.importorskip("sklearn.gaussian_process.kernels")
    sklearn = pytest.importorskip("sklearn.gaussian_process")
    weights, y = data()
    gp = GaussianProcess(np.sqrt(weights), y, Shape(np.full(6, 0.3), -3.0, -30.0))
    centre, width = frame(np.sqrt(weights))
    kernel = kernels.Matern(np.exp(0.3), "fixed", nu=2.5) + kernels.WhiteKernel(
        np.exp(-3.0), "fixed"
    )
    reference = sklearn.GaussianProcessRegressor(kernel, alpha=1e-9)
    reference.fit((np.sqrt(weights) - centre) / width, y - gp.constant)
    new = np.sqrt(data(seed=2)[0])
    expected, spread = reference.predict((new - centre) / width, return_std=True)
    mean, std = gp.moments(new)
    np.testing.assert_allclose(mean, expected + gp.constant, rtol=1e-7)
    # scikit-learn's spread is that of an observation, at scale 1.
    np.testing.assert_allclose(std**2 / gp.scale + np.exp(-3.0), spread**2, rtol=1e-6, atol=1e-9)


def test_slopes_of_mean_and_spread_match_finite_differences() -> None:
    weights, y = data()
    other = GaussianProcess(np.sqrt(weights), y**2, Shape(np.full(6, 0.2), -3.0, 0.0))
    for surrogate in (process(), WeightedSum([process(), other], np.array([0.3, -1.2]))):
        root = np.sqrt(data(seed=3)[0][0])
        mean, std, mean_slope, std_slope = surrogate.slope(root)
        assert mean == pytest.approx(surrogate.moments(root[None])[0][0])
        assert std == pytest.approx(surrogate.moments(root[None])[1][0])
        numeric = approx_fprime(root, lambda r, s=surrogate: s.moments(r[None])[0][0], 1e-7)
        np.testing.assert_allclose(mean_slope, numeric, atol=1e-5)
        numeric = approx_fprime(root, lambda r, s=surrogate: s.moments(r[None])[1][0], 1e-7)
        np.testing.assert_allclose(std_slope, numeric, atol=1e-5)


def test_imagined_results_change_the_spread_as_real_expected_ones_would() -> None:
    gp = process()
    extra, new = np.sqrt(data(seed=4)[0][:3]), np.sqrt(data(seed=5)[0][:4])
    imagined = gp.imagine(extra)
    mean, std = gp.moments(new)
    after_mean, after_std = imagined.moments(new)
    np.testing.assert_allclose(after_mean, mean, rtol=1e-9)
    assert np.all(after_std < std)
    # With the noise left out, conditioning again on the same place leaves no doubt there.
    _, before = gp.joint(np.concatenate([new, extra]))
    gain = before[:4, 4:] @ np.linalg.solve(
        before[4:, 4:] + gp.noise**2 * np.eye(3), before[4:, :4]
    )
    np.testing.assert_allclose(after_std**2, std**2 - np.diag(gain), rtol=1e-5)
    assert gp.imagine(np.empty((0, 6))) is gp


def test_left_out_predictions_are_those_of_a_process_without_the_row() -> None:
    weights, y = data(k=3, n=8)
    gp = GaussianProcess(np.sqrt(weights), y, Shape(np.zeros(3), -2.0, -30.0))
    mean, std = gp.left_out()
    centre, width = frame(np.sqrt(weights))
    x = (np.sqrt(weights) - centre) / width
    d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    matrix = (1 + np.sqrt(5) * d + 5 / 3 * d**2) * np.exp(-np.sqrt(5) * d)
    matrix += (np.exp(-2.0) + 1e-9) * np.eye(8)
    rest = np.arange(8) != 3
    solved = np.linalg.solve(matrix[np.ix_(rest, rest)], matrix[rest, 3])
    assert mean[3] == pytest.approx(gp.constant + solved @ (y[rest] - gp.constant), rel=1e-8)
    expected = gp.scale * (matrix[3, 3] - solved @ matrix[rest, 3])
    assert std[3] == pytest.approx(np.sqrt(expected), rel=1e-8)


def test_joint_samples_have_the_posteriors_moments() -> None:
    gp = process()
    roots = np.sqrt(data(seed=6)[0][:3])
    samples = draw(gp, roots, np.random.default_rng(0).standard_normal((40_000, 3)))
    mean, covariance = gp.joint(roots)
    error = np.abs(samples.mean(0) - mean) / np.sqrt(np.diag(covariance))
    assert np.all(error < 0.03)
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.03 * covariance.max())


def test_joint_samples_survive_repeated_points() -> None:
    gp = process()
    roots = np.repeat(np.sqrt(data(seed=6)[0][:2]), 20, axis=0)
    samples = draw(gp, roots, np.random.default_rng(0).standard_normal((5, 40)))
    np.testing.assert_allclose(samples[:, 0], samples[:, 10], rtol=1e-2)


def test_a_thousand_identical_rows_leave_a_usable_posterior() -> None:
    weights = np.tile([0.5, 0.3, 0.2], (1000, 1))
    y = np.random.default_rng(0).standard_normal(1000)
    gp = fit(np.sqrt(weights), y)
    mean, std = gp.moments(np.sqrt([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]))
    assert np.all(np.isfinite(mean)) and np.all(std > 0)
    assert mean[0] == pytest.approx(y.mean(), abs=0.05)


@pytest.mark.parametrize("y", [[0.3], [1.0, 1.0, 1.0], [0.0, 0.0]])
def test_few_or_equal_values_leave_a_finite_posterior(y: list[float]) -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(4), len(y))
    gp = fit(np.sqrt(weights), np.array(y))
    mean, std = gp.moments(np.sqrt(np.random.default_rng(1).dirichlet(np.ones(4), 5)))
    np.testing.assert_allclose(mean, y[0], atol=1e-9)
    assert np.all(np.isfinite(std))


# --- hyper-parameters ----------------------------------------------------------------------------


def test_the_likelihoods_gradient_matches_finite_differences() -> None:
    weights, y = data()
    centre, width = frame(np.sqrt(weights))
    x, z = (np.sqrt(weights) - centre) / width, (y - y.mean()) / y.std()
    theta = np.random.default_rng(0).standard_normal(8) * 0.5
    numeric = approx_fprime(theta, lambda t: _loss(t, x, z)[0], 1e-6)
    np.testing.assert_allclose(_loss(theta, x, z)[1], numeric, atol=1e-4)


def test_the_fit_finds_noise_where_there_is_some() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), 120)
    smooth = np.sqrt(weights) @ np.array([1.0, -1.0, 0.5, 0.0]) + weights[:, 0] ** 2
    quiet = fit(np.sqrt(weights), smooth)
    noisy = fit(np.sqrt(weights), smooth + 0.1 * rng.standard_normal(120))
    assert quiet.noise < 0.01
    assert noisy.noise == pytest.approx(0.1, rel=0.3)


def test_the_fit_ignores_scale_and_offset_of_the_values() -> None:
    weights, y = data()
    one, other = fit_shape(np.sqrt(weights), y), fit_shape(np.sqrt(weights), 1e4 * y - 7e5)
    np.testing.assert_allclose(one.log_lengths, other.log_lengths, atol=1e-3)


def test_refits_do_not_depend_on_what_was_fitted_before() -> None:
    weights, y = data(n=27)
    roots = np.sqrt(weights)
    followed = Fits()
    for n in range(2, 27):
        followed.process(roots[:n], y[:n])
    fresh = Fits().process(roots, y).shape
    kept = followed.process(roots, y).shape
    np.testing.assert_array_equal(fresh.log_lengths, kept.log_lengths)


# --- on the simplex ------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(2, 12), st.integers(0, 10_000), st.booleans())
def test_descent_stays_in_the_space(k: int, seed: int, bounded: bool) -> None:
    space = space_of(k, lower=0.3 / k, upper=min(1.0, 2.0 / k)) if bounded else space_of(k)
    rng = np.random.default_rng(seed)
    target = rng.standard_normal(k)

    def function(root: np.ndarray) -> tuple[float, np.ndarray]:
        return float(target @ root), target

    found = sphere.descend(function, space.sample_mixed(rng, 2), space)
    assert np.all(space.contains(found))


@pytest.mark.parametrize("upper", [None, 0.4])
def test_descent_finds_the_constrained_minimum(upper: float | None) -> None:
    space = space_of(5, upper=upper)
    goal = np.array([0.7, 0.2, 0.1, 0.0, 0.0])

    def function(root: np.ndarray) -> tuple[float, np.ndarray]:
        gap = root**2 - goal
        return float(gap @ gap), 4 * gap * root

    found = sphere.descend(function, np.full((1, 5), 0.2), space, iterations=200)[0]
    if upper is None:
        np.testing.assert_allclose(found, goal, atol=1e-3)
    else:  # 0.3 of the first domain's share is spread evenly: the nearest point of the capped space
        best = function(np.sqrt([0.4, 0.275, 0.175, 0.075, 0.075]))[0]
        assert function(np.sqrt(found))[0] <= best + 1e-5


@pytest.mark.parametrize("bounds", [{}, {"upper": 0.35}, {"lower": 0.05, "upper": 0.5}])
def test_slopes_through_the_sphere_match_finite_differences(bounds: dict[str, float]) -> None:
    space = space_of(6, **bounds)
    a = np.random.default_rng(0).standard_normal(6)
    v = np.array([1.2, 0.9, 0.4, 0.3, 0.2, 0.1])
    root, free, factor = sphere.sphere_point(v, space)
    assert bool(space.contains(root**2))
    slope = sphere.pull_back(a, v, free, factor)
    numeric = approx_fprime(v, lambda u: float(a @ sphere.sphere_point(u, space)[0]), 1e-7)
    np.testing.assert_allclose(slope, numeric, atol=1e-5)


@settings(max_examples=50)
@given(st.integers(2, 30), st.integers(0, 10_000))
def test_settling_is_the_spaces_projection(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = space_of(k, lower=rng.random() / k, upper=min(1.0, (1 + 2 * rng.random()) / k))
    weights = rng.dirichlet(np.ones(k))
    settled, _ = sphere.settle(weights, space)
    np.testing.assert_allclose(settled, space.project(weights), atol=1e-9)


def test_candidates_lie_in_the_space_and_near_their_centres() -> None:
    space, rng = space_of(8, upper=0.6), np.random.default_rng(0)
    best = space.sample_mixed(rng, 8)
    for rows in (candidates(rng, best, space), between(rng, best, 50, space)):
        assert np.all(space.contains(rows))
    close = around(rng, best[:1], 200, space, (2000.0,))
    assert np.abs(close - best[0]).sum(1).mean() < 0.1


# --- improvement ---------------------------------------------------------------------------------


def test_log_improvement_is_the_log_of_expected_improvement() -> None:
    u = np.array([-6.0, -2.0, -1.0, -0.99, 0.0, 1.0, 5.0])
    direct = np.log(norm.pdf(u) + u * norm.cdf(u))
    got = improvement.log_improvement(-2.0 * u, np.full(7, 2.0), 0.0)
    np.testing.assert_allclose(got, np.log(2.0) + direct, rtol=1e-6)


def test_log_improvement_is_finite_and_rising_far_below() -> None:
    u = -np.geomspace(1e6, 1.0, 400)
    value = improvement.log_improvement(-u, np.ones(400), 0.0)
    assert np.all(np.isfinite(value)) and np.all(np.diff(value) > 0)


@pytest.mark.parametrize("incumbent", [0.5, 0.2, None])
def test_slope_of_improvement_and_feasibility_matches_finite_differences(
    incumbent: float | None,
) -> None:
    gp = process()
    weights, y = data()
    guard = GaussianProcess(np.sqrt(weights), y - 0.4, Shape(np.full(6, 0.2), -3.0, 0.0))
    function = improvement.negative_improvement(gp, incumbent, [guard])
    root = np.sqrt(data(seed=7)[0][0])
    numeric = approx_fprime(root, lambda r: function(r)[0], 1e-7)
    np.testing.assert_allclose(function(root)[1], numeric, rtol=1e-4, atol=1e-4)
    function = improvement.mean_of(gp, [guard], caution=0.7)
    numeric = approx_fprime(root, lambda r: function(r)[0], 1e-7)
    np.testing.assert_allclose(function(root)[1], numeric, rtol=1e-4, atol=1e-4)


# --- proposals and optima ------------------------------------------------------------------------


def problem(k: int = 6, n: int = 30, **more: object) -> Problem:
    weights, y = data(k, n)
    gp = fit(np.sqrt(weights), y)
    return Problem(space_of(k), [gp], weights, **more)  # type: ignore[arg-type]


def test_gains_match_the_closed_form_without_noise_or_running_trials() -> None:
    weights, y = data(n=20)
    gp = GaussianProcess(np.sqrt(weights), y, Shape(np.zeros(6), -13.0, -3.0))
    pool = data(seed=8)[0][:6]
    many = [
        gains(Problem(space_of(6), [gp], weights), pool, np.random.default_rng(i))
        for i in range(20)
    ]
    mean, std = gp.moments(np.sqrt(pool))
    expected = np.exp(improvement.log_improvement(mean, std, float(y.min())))
    np.testing.assert_allclose(np.mean(many, 0), expected, rtol=0.15, atol=2e-4)


def test_a_running_mixture_is_not_proposed_again() -> None:
    first = propose(problem(), np.random.default_rng(0))
    second = propose(problem(pending=first[None]), np.random.default_rng(0))
    assert np.abs(first - second).sum() > 1e-3


def test_proposals_respect_bounds_and_explore() -> None:
    weights, y = data()
    space = space_of(6, lower=0.02, upper=0.5)
    weights = space.project(weights)
    tight = Problem(space, [fit(np.sqrt(weights), y)], weights)
    for explore in (0.0, 1.0):
        found = propose(tight, np.random.default_rng(1), explore)
        assert bool(space.contains(found))


def test_optima_of_a_known_function_are_found_by_every_rule() -> None:
    goal = np.array([0.5, 0.3, 0.2, 0.0])
    space, rng = space_of(4), np.random.default_rng(0)
    weights = space.sample_mixed(rng, 80)
    y = ((np.sqrt(weights) - np.sqrt(goal)) ** 2).sum(1)
    known = Problem(space, [fit(np.sqrt(weights), y)], weights)
    for found in (
        optima.lowest_mean(known, rng),
        optima.lowest_mean(known, rng, caution=1.0),
        optima.mean_optimum(known, rng),
    ):
        np.testing.assert_allclose(found, goal, atol=0.05)
    assert np.abs(optima.mean_of_top(known, rng) - goal).sum() < 0.3


# --- hypervolume ---------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 8), st.integers(0, 10_000))
def test_improvement_is_the_difference_of_hypervolumes(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, extra, reference = rng.random((n, m)), rng.random((3, m)), np.full(m, 0.9)
    grid = rng.random((20_000, m)) * 0.9
    gained = hypervolume.improvement(extra, points, reference)
    for new, volume in zip(extra, gained, strict=True):
        fresh = np.all(grid >= new, 1) & ~np.any(np.all(grid[:, None] >= points[None], 2), 1)
        assert volume == pytest.approx(fresh.mean() * 0.9**m, abs=0.02)


def test_hypervolume_agrees_with_a_hand_calculation() -> None:
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0]])
    assert volume_below(points, np.array([4.0, 4.0])) == pytest.approx(6.0)
    assert hypervolume.front(points).tolist() == [True, True, True, False]
    assert hypervolume.front(np.zeros((3, 2))).tolist() == [True, False, False]


def test_hypervolume_agrees_with_optunas() -> None:
    theirs = pytest.importorskip("optuna._hypervolume")
    points = np.random.default_rng(0).random((12, 3))
    reference = np.ones(3)
    expected = theirs.compute_hypervolume(points, reference)
    assert volume_below(points, reference) == pytest.approx(expected)
