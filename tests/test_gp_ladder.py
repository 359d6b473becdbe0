"""The process of several rungs: its gradient, its limits, what cheap trials teach of the target."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.trial import create_trial
from scipy.optimize import check_grad
from scipy.stats import norm

from climb_opt import MixtureSpace
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.fit import Fits
from climb_opt.gp.ladder import LadderProcess, Results
from climb_opt.gp.ladder_fit import ALONE, LadderFits, Likelihood, fit_ladder
from climb_opt.gp.model import draw
from climb_opt.gp.penalties import JUDGING, SEARCHING, Penalties
from climb_opt.gp.proposal import Problem
from climb_opt.gp.rungs import choose, fresh, recommended
from climb_opt.history import History

SPACE = MixtureSpace(dict.fromkeys("abcdef", 1.0))
CENTRE = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])


def truth(weights: np.ndarray) -> np.ndarray:
    return np.asarray(((np.sqrt(weights) - np.sqrt(CENTRE)) ** 2).sum(axis=1))


def other(weights: np.ndarray) -> np.ndarray:
    """What says nothing of `truth`: optima at another corner, with waves."""
    return np.asarray(np.sin(9 * weights[:, 5]) + np.cos(7 * weights[:, 3] + 1))


def results(counts: list[int], cheap: float = 1.0, seed: int = 0, noise: float = 0.0) -> Results:
    """So many trials on each rung; rungs below the last hold the truth by a share of `cheap`."""
    rng = np.random.default_rng(seed)
    weights = SPACE.sample_mixed(rng, sum(counts))
    rungs = np.repeat(np.arange(len(counts)), counts)
    below = 3.0 + 2.0 * (cheap * truth(weights) + (1 - cheap) * 0.3 * other(weights))
    values = np.where(rungs == len(counts) - 1, truth(weights), below)
    return Results(
        np.sqrt(weights), values + noise * rng.standard_normal(len(values)), rungs, len(counts)
    )


def error(process: LadderProcess) -> float:
    """Root mean square error at the target, in its standard deviations."""
    weights = SPACE.sample_mixed(np.random.default_rng(99), 300)
    real = truth(weights)
    return float(np.sqrt(np.mean((process.mean(np.sqrt(weights)) - real) ** 2)) / real.std())


@pytest.mark.parametrize("counts", [[8, 6, 4], [12, 6, 0], [9, 0, 0], [0, 5, 4], [6, 6]])
@pytest.mark.parametrize(("penalties", "spread"), [(SEARCHING, 0.3), (JUDGING, 2.0)])
def test_the_gradient_of_the_likelihood_is_its_slope(
    counts: list[int], penalties: Penalties, spread: float
) -> None:
    problem = Likelihood(results(counts, noise=0.1), penalties)
    theta = problem.starts(None)[0]
    theta = theta + spread * np.random.default_rng(1).normal(size=len(theta))
    gap = check_grad(lambda t: problem(t)[0], lambda t: problem(t)[1], theta)
    assert gap < 1e-4 * np.linalg.norm(problem(theta)[1])
    assert len(problem.bounds()) == len(theta)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 25))
def test_results_of_the_target_alone_are_the_process_of_one_rung(seed: int, n: int) -> None:
    given_ = results([0, 0, n], seed=seed)
    roots = np.sqrt(SPACE.sample_mixed(np.random.default_rng(seed + 1), 20))
    ladder, plain = LadderFits().ladder(given_), Fits().process(given_.roots, given_.values)
    assume(plain.view is None)  # a ladder sees roots, whatever its results ask for
    for ours, theirs in zip(vars(ladder.shape).values(), vars(plain.shape).values(), strict=True):
        assert np.array_equal(ours, theirs)
    spread = given_.values.std()
    for ours, theirs in zip(ladder.moments(roots), plain.moments(roots), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-6 * spread)
    assert np.isclose(ladder.noise, plain.noise, rtol=1e-6)


def test_a_perfect_cheap_rung_teaches_the_target_what_it_has_not_seen() -> None:
    alone, cheap = results([0, 0, 6]), results([60, 0, 6])
    without, with_it = (LadderProcess(r, fit_ladder(r)) for r in (alone, cheap))
    assert error(with_it) < 0.3 * error(without)
    assert with_it.correlation(0) > 0.95 and with_it.correlation(2) == 1.0
    assert with_it.correlation(0) <= with_it.correlation(1) <= 1.0


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_results_are_foretold_as_by_a_process_without_them(noise: float) -> None:
    given_ = results([12, 4, 5], noise=noise)
    process = LadderProcess(given_, fit_ladder(given_))
    total = 0.0
    for row in range(16, 21):
        other = np.arange(21) != row
        matrix = process._kernel(process._x, process._x) * process._links[
            np.ix_(given_.rungs, given_.rungs)
        ] + np.diag(process._noises[given_.rungs] + 1e-9)
        means = process._means[np.searchsorted(process._seen, given_.rungs)]
        left = given_.values / process._units[given_.rungs] - means
        weights = np.linalg.solve(matrix[np.ix_(other, other)], matrix[other, row])
        std = np.sqrt(process.scale * (matrix[row, row] - weights @ matrix[other, row]))
        total += norm.logpdf(left[row], weights @ left[other], std)
    assert process._units[2] == 1.0 and process.foretold() == pytest.approx(total, abs=1e-3)


def test_what_the_rungs_below_say_is_told_in_nats() -> None:
    fits = LadderFits()
    good, bad = (fits.ladder(results([30, 0, 8], cheap=share)) for share in (1.0, 0.0))
    assert fits.told(good) > 3.0 > 0.5 > fits.told(bad)
    for counts in ([0, 0, 8], [8, 0, 0], [8, 4, 1]):  # nothing to compare with
        assert fits.told(fits.ladder(results(counts))) == 0.0


def test_a_rung_that_says_nothing_does_little_harm() -> None:
    alone, misled = results([0, 0, 30]), results([60, 0, 30], cheap=0.0)
    without, with_it = (LadderProcess(r, fit_ladder(r)) for r in (alone, misled))
    assert with_it.correlation(0) < 0.6
    assert error(with_it) < error(without) + 0.1


def test_without_target_results_it_ranks_by_what_there_is_and_is_less_sure() -> None:
    given_ = results([40, 0, 0])
    process = LadderProcess(given_, fit_ladder(given_))
    roots = np.sqrt(SPACE.sample_mixed(np.random.default_rng(3), 200))
    mean, std = process.moments(roots)
    assert np.corrcoef(mean, truth(roots**2))[0, 1] > 0.95
    below_mean, below_std = process.at(0).moments(roots)
    share = process.correlation(0)
    assert 0.7 < share < 0.85  # two steps of which nothing is known
    centre = process.constant
    assert np.allclose(mean - centre, share * (below_mean - process.at(0).constant))
    assert np.median(std / below_std) > 1.0


def test_what_a_trial_would_show_is_the_joint_posteriors_share() -> None:
    given_ = results([20, 6, 6], noise=0.05)
    process = LadderProcess(given_, fit_ladder(given_))
    roots = np.sqrt(SPACE.sample_mixed(np.random.default_rng(4), 6))
    std, covariance = process.measured(roots, 2, roots)
    _, joint = process.joint(roots)
    assert np.allclose(covariance, joint)
    assert np.allclose(std**2, np.diag(joint) + process.noise**2)
    # A result that comes out as expected moves no mean, and what it would have told is known.
    after = process.imagine(roots[:1], np.array([2]))
    assert np.allclose(after.mean(roots), process.mean(roots))
    expected = np.diag(joint) - covariance[:, 0] ** 2 / std[0] ** 2
    assert np.allclose(after.moments(roots)[1] ** 2, np.maximum(expected, 0), rtol=1e-4, atol=1e-9)
    lower = process.measured(roots, 0, roots)
    again = process.imagine(roots[:1], np.array([0])).measured(roots, 0, roots)
    assert (again[0] <= lower[0] + 1e-12).all() and process.imagine(roots[:0]) is process
    samples = draw(process, roots, np.random.default_rng(0).standard_normal((64, 6)))
    assert samples.shape == (64, 6)


def test_aligned_values_are_on_the_targets_scale() -> None:
    given_ = results([60, 0, 8])
    process = LadderProcess(given_, fit_ladder(given_))
    values, importance = process.aligned()
    assert np.allclose(values[-8:], given_.values[-8:]) and (importance[-8:] == 1).all()
    real = truth(given_.roots**2)
    assert np.abs(values - real).max() < 0.25 * real.std()
    assert ((importance > 0) & (importance <= 1)).all()


def test_fits_are_a_pure_function_of_the_rows() -> None:
    given_, fits = results([20, 4, 3]), LadderFits()
    first = fits.ladder(given_)
    fits.ladder(given_.rows(slice(9)))
    fresh_one = LadderFits().ladder(given_)
    roots = given_.roots[:5]
    assert np.array_equal(first.mean(roots), fresh_one.mean(roots))
    assert np.array_equal(fits.ladder(given_).mean(roots), first.mean(roots))


@pytest.mark.parametrize(("cheap", "own"), [(0.0, ALONE), (0.0, ALONE - 1), (1.0, ALONE)])
def test_results_of_the_target_that_suffice_are_taken_without_rungs_that_mislead(
    cheap: float, own: int
) -> None:
    given_ = results([30, 0, own], cheap=cheap, noise=0.05)
    fits = LadderFits()
    process, problem = fits.ladder(given_), problem_of(given_)
    misled = cheap == 0.0 and own == ALONE
    assert (fits.alone(process, fits.told(process)) is not None) == misled
    assert isinstance(problem, Problem) and (problem.alone is not None) == misled
    trials = tuple(create_trial(value=v) for v in given_.values)
    history = History(given_.roots**2, given_.values, trials, rungs=given_.rungs, target=2)
    promised = Beliefs(SPACE).promise(history, SPACE.prior[None])
    for believed in (promised, problem.trusted.objectives[0]):
        assert isinstance(believed, LadderProcess)
        assert (believed.results.rungs == 2).all() == misled
        assert len(believed.results.values) == (own if misled else 30 + own)


# --- which trial is next -------------------------------------------------------------------------


def problem_of(given_: Results, pending: np.ndarray | None = None) -> object:
    trials = tuple(create_trial(value=v) for v in given_.values)
    history = History(given_.roots**2, given_.values, trials, rungs=given_.rungs, target=2)
    none = np.empty((0, 6)) if pending is None else pending
    found = Beliefs(SPACE).problem(history, none, np.zeros(len(none), dtype=int))
    assert found is not None
    return found


COSTS = np.array([1.0, 4.0, 16.0])


def test_what_ranks_alike_is_bought_cheap() -> None:
    rng = np.random.default_rng(0)
    good = problem_of(results([6, 4, 4]))
    assert choose(good, COSTS**3, range(3), rng).rung == 0  # type: ignore[arg-type]


def test_no_trial_is_bought_again_on_its_rung_or_below() -> None:
    given_ = results([12, 6, 4])
    running = SPACE.sample_mixed(np.random.default_rng(8), 2)
    problem = problem_of(given_, running)
    known = given_.roots**2
    on_0, on_1, on_2 = (fresh(known, problem, rung) for rung in range(3))  # type: ignore[arg-type]
    assert on_0.tolist() == [] and on_1.tolist() == [*range(12)]
    assert on_2.tolist() == [*range(18)]
    assert fresh(running, problem, 0).tolist() == []  # type: ignore[arg-type]
    choice = choose(problem, COSTS, [1], np.random.default_rng(0))  # type: ignore[arg-type]
    assert choice.rung == 1 and choice.gain > 0 and SPACE.contains(choice.weights)
    best = recommended(problem, np.random.default_rng(0))  # type: ignore[arg-type]
    assert truth(best[None])[0] < np.median(truth(known))


def test_a_mixture_that_may_go_on_is_bought_at_the_price_of_the_rest() -> None:
    given_ = results([12, 6, 4])
    problem, known = problem_of(given_), given_.roots**2

    def chosen(going_on: np.ndarray | None) -> np.ndarray:
        rng = np.random.default_rng(0)
        return choose(problem, COSTS, [1], rng, going_on).weights  # type: ignore[arg-type]

    def begun(weights: np.ndarray) -> bool:
        return bool(np.abs(known[:12] - weights).sum(axis=1).min() < 1e-9)

    assert np.array_equal(chosen(None), chosen(COSTS))
    assert not begun(chosen(None)) and begun(chosen(np.array([1.0, 1e-3, 16.0])))


def test_a_process_that_doubts_is_as_sure_of_the_target_and_less_sure_elsewhere() -> None:
    process = LadderFits().ladder(results([30, 0, 6], cheap=0.9))
    doubting = process.doubting(16.0)
    assert doubting.correlation(2) == 1.0 == process.correlation(2)
    for rung in (0, 1):
        eta = process.correlation(rung) ** -2 - 1
        assert doubting.correlation(rung) == pytest.approx((1 + 16 * eta) ** -0.5)
    own, others = process.results.of_target, process.results.rows(slice(30))
    sure, unsure = (p.moments(others.roots)[1] / p.spread for p in (process, doubting))
    assert np.all(unsure > sure) and np.median(unsure / sure) > 1.5
    assert np.abs(doubting.mean(own.roots) - own.values).max() < 0.2 * own.values.std()
    np.testing.assert_allclose(process.doubting(1.0).mean(others.roots), process.mean(others.roots))
