"""Schedules on a ladder: the process of several rungs sees phases as that of one rung does."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from scipy.optimize import approx_fprime, check_grad

from climb_opt.emulator import PhasedLaw
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.fit import Fits
from climb_opt.gp.ladder import LadderProcess, Results
from climb_opt.gp.ladder_fit import LadderFits, Likelihood, fit_ladder
from climb_opt.gp.phased import PhaseView
from climb_opt.history import History

LAW = PhasedLaw((0.7, 0.3), effect=1.5, domains=4, seed=1)
VIEW = PhaseView((0.7, 0.3))


def results(counts: list[int], view: PhaseView | None = VIEW, seed: int = 0) -> Results:
    """So many trials on each rung of a law; rungs below the last double it."""
    x = LAW.space.sample_mixed(np.random.default_rng(seed), sum(counts))
    rungs = np.repeat(np.arange(len(counts)), counts)
    values = LAW.score(x) * np.where(rungs == len(counts) - 1, 1.0, 2.0)
    return Results(np.sqrt(x), values, rungs, len(counts), view)


@pytest.mark.parametrize("counts", [[9, 6], [8, 4, 5], [10, 0, 3], [12, 5, 0]])
def test_the_likelihood_s_gradient_is_its_own(counts: list[int]) -> None:
    problem = Likelihood(results(counts))
    theta = problem.starts(None)[0]
    theta = theta + 0.3 * np.random.default_rng(1).normal(size=len(theta))
    gap = check_grad(lambda t: problem(t)[0], lambda t: problem(t)[1], theta)
    assert gap < 1e-4 * np.linalg.norm(problem(theta)[1])
    assert len(problem.bounds()) == len(theta)


@pytest.mark.parametrize("n", [4, 18])
def test_results_of_the_target_alone_are_the_process_of_one_rung(n: int) -> None:
    given = results([0, 0, n])
    roots = np.sqrt(LAW.space.sample_mixed(np.random.default_rng(7), 20))
    ladder, plain = LadderFits().ladder(given), Fits().process(given.roots, given.values, VIEW)
    assert ladder.shape.plain == plain.shape.plain == 4
    for ours, theirs in zip(ladder.moments(roots), plain.moments(roots), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-6 * given.values.std())


def test_slopes_of_a_ladder_of_schedules_are_its_own() -> None:
    given = results([14, 6])
    process = LadderProcess(given, fit_ladder(given))
    root = np.sqrt(LAW.space.project(np.array([0.2, 0.1, 0.3, 0.1, 0.1, 0.1, 0.05, 0.05])))
    mean, std, by_mean, by_std = process.slope(root)
    found = process.moments(root[None])
    assert (mean, std) == (pytest.approx(found[0][0]), pytest.approx(found[1][0]))
    for place, slope in enumerate((by_mean, by_std)):
        numeric = approx_fprime(root, lambda r, p=place: process.moments(r[None])[p][0], 1e-6)
        assert slope == pytest.approx(numeric, abs=1e-4)


def test_cheap_trials_tell_the_target_what_phases_do() -> None:
    x = LAW.space.sample_mixed(np.random.default_rng(9), 300)

    def error(counts: list[int], view: PhaseView | None) -> float:
        given = results(counts, view)
        mean = LadderProcess(given, fit_ladder(given)).mean(np.sqrt(x))
        return float(np.sqrt(np.mean((mean - LAW.score(x)) ** 2)))

    assert error([40, 5], VIEW) < 0.5 * error([0, 5], VIEW)


def test_beliefs_of_a_ladder_see_phases() -> None:
    given = results([12, 5])
    trials = tuple(optuna.trial.create_trial(value=v) for v in given.values)
    history = History(
        given.roots**2, given.values, trials, rungs=given.rungs, target=1, shares=(0.7, 0.3)
    )
    problem = Beliefs(LAW.space).problem(history)
    assert problem is not None
    (process,) = problem.objectives
    assert isinstance(process, LadderProcess) and process.shape.plain == 4
    assert process.imagine(given.roots[:2], np.array([0, 1])).moments(given.roots)[1].sum() < (
        process.moments(given.roots)[1].sum()
    )
