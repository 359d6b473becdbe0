"""What to measure under noise: the knowledge gradient, and the searches that use it."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from climb_opt import SimplexGPSampler
from climb_opt.emulator import MixingLaw, NoisyObjective
from climb_opt.gp.fit import fit
from climb_opt.gp.knowledge import improvements, most_told
from climb_opt.gp.proposal import Problem
from climb_opt.measures import distance
from climb_opt.phases import PhasedSpace
from climb_opt.samplers.gp import DRAWS
from climb_opt.simplex import MixtureSpace

LAW = MixingLaw(6, 3, seed=1)
SPACE = LAW.space


def problem(noise: float, space: MixtureSpace = SPACE, pending: int = 0, n: int = 24) -> Problem:
    rng = np.random.default_rng(0)
    rows = space.sample_mixed(rng, n + pending)
    value = SPACE.project(rows[:, : len(SPACE)])
    score = LAW.score(value)[:n] + noise * LAW.score(value).std() * rng.standard_normal(n)
    return Problem(space, [fit(np.sqrt(rows[:n]), score)], rows[:n], pending=rows[n:])


@settings(max_examples=50, deadline=None)
@given(
    arrays(float, 6, elements=st.floats(-3, 3)), arrays(float, (6, 4), elements=st.floats(-2, 2))
)
def test_a_measurement_never_makes_the_recommendation_worse(
    level: np.ndarray, moved: np.ndarray
) -> None:
    assert improvements(level, moved).min() >= -1e-9


def test_what_moves_all_alike_tells_nothing_and_what_moves_one_its_closed_form() -> None:
    level = np.array([0.0, 0.0])
    alike = np.array([[1.0, 0.0], [1.0, 1.0]])
    together, alone = improvements(level, alike)
    assert together == pytest.approx(0.0, abs=1e-12)
    # E[max(-z, 0)] = 1 / sqrt(2 pi), of 24 equally likely outcomes.
    assert alone == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.02)


def test_a_measurement_tells_more_than_one_of_a_known_mixture_would() -> None:
    known = problem(0.6)
    process = known.objectives[0]
    pool = np.concatenate([known.evaluated, most_told(known, np.random.default_rng(1))[None]])
    mean, covariance = process.joint(np.sqrt(pool))
    std = np.sqrt(np.diag(covariance) + process.noise**2)
    worth = improvements(mean, covariance / std)
    assert worth[-1] >= np.median(worth[:-1])


def test_what_runs_already_is_not_measured_again() -> None:
    first = most_told(problem(0.6), np.random.default_rng(0))
    known = problem(0.6)
    running = Problem(SPACE, known.objectives, known.evaluated, pending=first[None])
    second = most_told(running, np.random.default_rng(0))
    assert distance(first, second) > 1e-3


@pytest.mark.parametrize(
    "space",
    [
        MixtureSpace(dict(zip(SPACE.domains, SPACE.prior, strict=True)), lower=0.05, upper=0.4),
        PhasedSpace(dict(zip(SPACE.domains, SPACE.prior, strict=True)), (0.8, 0.2)),
    ],
)
def test_proposals_are_of_their_space(space: MixtureSpace) -> None:
    rng, rows = np.random.default_rng(0), space.sample_mixed(np.random.default_rng(0), 20)
    score = LAW.score(SPACE.project(rows[:, : len(SPACE)])) + 0.1 * rng.standard_normal(20)
    known = Problem(space, [fit(np.sqrt(rows), score)], rows)
    assert bool(space.contains(most_told(known, rng)[None])[0])


def test_under_noise_trials_go_where_they_tell_most_and_without_it_where_the_best_is() -> None:
    def far(noise: float, explore: bool) -> float:
        sampler = SimplexGPSampler(SPACE, seed=3, explore=explore)
        study = optuna.create_study(sampler=sampler)
        study.optimize(NoisyObjective(LAW, noise=noise), n_trials=26)
        late = np.array([SPACE.weights_of(t) for t in study.trials[DRAWS[0] :]])
        return float(distance(late, LAW.optimum()[0]).mean())

    assert far(3.0, True) > 1.3 * far(0.0, True)
    assert far(0.0, True) == far(0.0, False)
