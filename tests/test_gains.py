"""From the influence of domains to a mixture: TiKMiX's program, and S in a file."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import MixtureSpace, UserError
from climb_opt.gains.program import SLACK, Program, _cost, solve, units
from climb_opt.gains.table import Gains, is_gains, read_gains

EXAMPLE = Gains(
    {"a/bpb": {"web": 0.1, "code": 0.3}, "b/acc": {"web": 0.2, "code": -0.1}},
    {"a/bpb": 2.0, "b/acc": -1.0},
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[MixtureSpace, np.ndarray, int]:
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    k, n = draw(st.integers(2, 12)), draw(st.integers(1, 5))
    tokens = {f"d{i}": float(x) + 1e-3 for i, x in enumerate(rng.dirichlet(np.ones(k)))}
    upper = draw(st.sampled_from([1.0, 0.6, 1.5 / k]))
    lower = draw(st.sampled_from([0.0, 0.2 / k]))
    space = MixtureSpace(tokens, lower=lower, upper=max(upper, 1.2 / k))
    return space, rng.normal(size=(n, k)) * 10.0 ** rng.integers(-8, 4), seed


@settings(max_examples=30)
@given(problems())
def test_the_program_has_no_better_feasible_mixture(
    problem: tuple[MixtureSpace, np.ndarray, int],
) -> None:
    space, gains, seed = problem
    solved = solve(space, gains)
    prior, scaled = space.project(space.prior), gains / units(gains)[:, None]
    assert space.contains(solved.weights)
    assert np.all(scaled @ solved.weights >= scaled @ prior - 2 * SLACK)
    rng = np.random.default_rng(seed)
    draws = space.sample_mixed(rng, 400)
    draws = np.concatenate([draws, prior + rng.random((400, 1)) * (draws - prior), prior[None]])
    allowed = draws[np.all(scaled @ draws.T >= (scaled @ prior)[:, None] - 1e-12, axis=0)]
    costs = [_cost(w, scaled, np.ones(len(gains)), Program())[0] for w in allowed]
    assert _cost(solved.weights, scaled, np.ones(len(gains)), Program())[0] <= min(costs) + 1e-4


@given(problems())
def test_the_programs_slope_is_that_of_its_objective(
    problem: tuple[MixtureSpace, np.ndarray, int],
) -> None:
    space, gains, seed = problem
    rng = np.random.default_rng(seed)
    w, shares = rng.dirichlet(np.full(len(space), 5.0)) + 1e-3, rng.random(len(gains)) + 0.1
    scaled = gains / units(gains)[:, None]
    step = 1e-6 * rng.normal(size=len(space))
    args = (scaled, shares, Program(0.7, 1.3, 0.4))
    up, down = _cost(w + step, *args)[0], _cost(w - step, *args)[0]
    assert up - down == pytest.approx(2 * _cost(w, *args)[1] @ step, rel=1e-3, abs=1e-9)


def test_more_weight_goes_to_what_helps_every_task() -> None:
    space = MixtureSpace({"web": 8, "code": 1, "math": 1})
    found = solve(space, np.array([[0.0, 1.0, 0.1], [0.1, 1.0, 0.0]])).weights
    assert found[1] > 0.4 and found[1] == found.max()


def test_a_task_that_the_uniform_mixture_harms_is_kept_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = MixtureSpace({"web": 98, "code": 1, "math": 1})
    gains = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # only the largest domain serves the first
    with caplog.at_level(logging.INFO):
        solved = solve(space, gains)
    assert not solved.uniform and "uniform" in caplog.text
    assert solved.weights[0] >= 0.98 - 1e-5
    assert solve(space, gains[1:]).uniform


def test_a_task_that_no_domain_helps_is_not_turned_into_gain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = MixtureSpace({"web": 1, "code": 1})
    solved = solve(space, np.array([[-1.0, -3.0]]), program=Program(entropy=0.0))
    assert solved.weights[0] > 0.99, "the least harm"
    assert "No domain helps 1 of 1 tasks" in caplog.text


def test_a_measurement_without_any_effect_keeps_the_prior_feasible() -> None:
    space = MixtureSpace({"web": 3, "code": 1})
    solved = solve(space, np.zeros((2, 2)))
    assert solved.weights == pytest.approx([0.5, 0.5], abs=1e-4), "only the entropy is left"


@pytest.mark.parametrize("shares", [None, [2.0, 2.0], [3.0, 1.0]])
def test_components_count_by_their_share_of_the_score(shares: list[float] | None) -> None:
    space = MixtureSpace({"web": 8, "code": 1, "math": 1})
    gains = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    given = None if shares is None else np.array(shares)
    found = solve(space, gains, shares=given, program=Program(spread=0.0))
    # With the entropy alone beside them, weights are in proportion to exp of what they gain.
    exact = np.exp([0.0, 1.5, 0.5] if shares == [3.0, 1.0] else [0.0, 1.0, 1.0])
    assert found.weights == pytest.approx(exact / exact.sum(), abs=1e-4) and not found.failed


def test_a_task_must_not_lose_though_the_score_has_nothing_of_it() -> None:
    space = MixtureSpace({"web": 1, "code": 1})
    found = solve(space, np.eye(2), shares=np.array([1.0, 0.0]), program=Program(spread=0.0))
    assert found.weights == pytest.approx([0.5, 0.5], abs=1e-4)


def test_gains_are_oriented_by_the_score() -> None:
    rows, shares = EXAMPLE.tasks(["code", "web"])
    assert shares.tolist() == [2.0, 1.0]
    assert rows.tolist() == [[0.3, 0.1], [0.1, -0.2]], "a component with -1 should rise"
    assert EXAMPLE.of_score(["code", "web"]).tolist() == pytest.approx([0.7, 0.0])
    up = replace(EXAMPLE, score={"b/acc": 1.0}, direction="maximize")
    assert up.of_score(["web", "code"]).tolist() == pytest.approx([-0.2, 0.1])


def test_a_measurement_survives_its_file(tmp_path: Path) -> None:
    EXAMPLE.write(tmp_path / "influence.json")
    assert read_gains(tmp_path / "influence.json") == EXAMPLE
    assert is_gains((tmp_path / "influence.json").read_text()) and not is_gains('{"score": 1}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "expected a mapping"),
        (json.dumps({"lowers": {}, "score": {"a": 1.0}}), "its score names 'a'"),
        (json.dumps({"lowers": {"a": {"web": None}}, "score": {}}), "web"),
        (json.dumps({"lowers": {"a": {"web": "x"}}, "score": {}}), "web"),
        (json.dumps({"rows": {}}), "unknown key 'rows'"),
        ('{"lowers": {"a": {"web": 1e999}}, "score": {"a": 1}}', "web"),
    ],
)
def test_a_file_that_holds_no_measurement_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "influence.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_gains(path)
    with pytest.raises(UserError, match=r"gone\.json"):
        read_gains(tmp_path / "gone.json")


def test_a_domain_or_component_without_data_is_refused() -> None:
    with pytest.raises(UserError, match="no data of domain 'math' on 'a/bpb'; there is some of"):
        EXAMPLE.of_score(["web", "math"])
    with pytest.raises(UserError, match="the score has no component"):
        replace(EXAMPLE, score={}).of_score(["web"])
