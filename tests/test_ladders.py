"""Ladders that cost nothing: simulated, of several sources, and the rows of a table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import BaseSampler

from climb_opt import ClimbSampler, SimplexGPSampler, UserError, best_mixture
from climb_opt.attributes import RUNG
from climb_opt.emulator import (
    LadderObjective,
    LadderSource,
    MixingLaw,
    RowSpace,
    SimulatedLadder,
    SourceLadder,
    pool,
    read_runs,
)
from climb_opt.ladder import Ladder
from climb_opt.samplers import stock
from climb_opt.samplers.reach import within_evidence
from climb_opt.statistics import spearman

sys.path.insert(0, str(Path(__file__).parent / "bench"))
import bench_ladder as bench
import ladder_figures as figures

LAW = MixingLaw(8)
SHARED = Path(__file__).parents[2] / "shared" / "data" / "tables"


# --- simulated -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.95, 0.8, 0.2])
@pytest.mark.parametrize("law", [0, 1, 2])
def test_the_cheapest_rung_ranks_as_stated_and_the_others_better(rho: float, law: int) -> None:
    found = SimulatedLadder(MixingLaw(21, seed=law), correlation=rho).correlations
    assert found[0] == pytest.approx(rho, abs=0.03) and found[2] == pytest.approx(1.0)
    assert found[0] < found[1] < 1
    # Fresh draws rank alike: the stated correlation is no accident of those it was set on.
    fresh = LAW.space.sample(np.random.default_rng(5), 3000, temperature=0.5)
    source = SimulatedLadder(LAW, correlation=rho)
    assert spearman(source.truth(fresh, 0), source.truth(fresh)) == pytest.approx(rho, abs=0.12)


def test_each_rung_may_have_a_correlation_of_its_own() -> None:
    source = SimulatedLadder(LAW, correlation=(0.3, 0.9))
    assert source.correlations == pytest.approx((0.3, 0.9, 1.0), abs=0.005)
    alike = SimulatedLadder(LAW, correlation=(0.6, 0.6), scale=1.0, shift=0.0)
    draws = alike.reference()[:50]
    np.testing.assert_allclose(alike.truth(draws, 0), alike.truth(draws, 1))
    whole = SimulatedLadder(LAW, correlation=1.0, scale=1.0, shift=0.0)
    np.testing.assert_allclose(whole.truth(draws, 0), LAW.score(draws))


def test_a_cheaper_rung_scores_worse_and_drifts_on_from_the_one_above() -> None:
    source = SimulatedLadder(LAW, correlation=0.5, scale=1.0)
    draws = source.reference()
    scores = [source.truth(draws, r) for r in range(3)]
    assert scores[0].mean() > scores[1].mean() > scores[2].mean()
    np.testing.assert_array_equal(scores[2], LAW.score(draws))
    first, second = scores[1] - scores[2], scores[0] - scores[1]
    assert abs(np.corrcoef(first, second)[0, 1]) < 1e-6
    assert abs(np.corrcoef(first, scores[2])[0, 1]) < 1e-6
    wide = SimulatedLadder(LAW, correlation=0.999, scale=2.0)
    assert wide.truth(draws, 0).std() == pytest.approx(4 * LAW.score(draws).std(), rel=0.01)


def test_misleading_rungs_are_right_far_from_the_optimum_and_wrong_near_it() -> None:
    source = SimulatedLadder(LAW, correlation=0.93, misleads=True)
    assert source.correlations[:2] == pytest.approx((0.93, 0.93), abs=0.03)
    draws, (best, _) = source.reference(), source.optimum()
    small, large = source.truth(draws, 0), source.truth(draws)
    assert source.truth(best[None], 0)[0] > np.median(small)
    lured = draws[np.argmin(small)]
    assert np.abs(lured - best).sum() > 0.5
    assert source.truth(lured[None])[0] > np.quantile(large, 0.05)
    good = np.argsort(large)[: len(draws) // 20]
    assert spearman(small[good], large[good]) < 0.5
    assert "misleading" in source.quality()


@pytest.mark.parametrize(
    ("correlation", "misleads", "message"),
    [
        (0.0, False, "above 0 and at most at 1"),
        (1.2, False, "above 0 and at most at 1"),
        (-0.5, False, "above 0 and at most at 1"),
        ((0.5,), False, "one for each of the 2 rungs"),
        ((0.9, 0.5), False, "must not fall"),
        (0.2, True, "give one between"),
    ],
)
def test_a_correlation_that_cannot_be_is_refused(
    correlation: float | tuple[float, ...], misleads: bool, message: str
) -> None:
    source = SimulatedLadder(LAW, correlation=correlation, misleads=misleads)
    with pytest.raises(UserError, match=message):
        source.quality()


# --- any ladder ----------------------------------------------------------------------------------


def test_noise_is_in_spreads_of_the_target_and_a_function_of_the_seed() -> None:
    source = SimulatedLadder(LAW, noise=(0.5, 0.1, 0.0))
    best = np.repeat(source.optimum()[0][None], 4000, axis=0)
    for rung, noise in enumerate(source.noise):  # type: ignore[arg-type]
        measured = source.score(best, rung, 3) - source.truth(best, rung)
        assert measured.std() == pytest.approx(noise * source.sigma, rel=0.05)
        np.testing.assert_array_equal(source.score(best, rung, 3), source.score(best, rung, 3))
    assert not np.array_equal(source.score(best, 0, 3), source.score(best, 0, 4))
    np.testing.assert_array_equal(source.score(best, 0), source.truth(best, 0))
    for wrong in ((0.1, 0.1), -1.0, float("nan")):
        with pytest.raises(UserError, match="noise must be at least 0"):
            SimulatedLadder(LAW, noise=wrong).score(best, 0, 1)


def test_a_trial_is_scored_on_the_rung_it_names() -> None:
    source = SimulatedLadder(LAW, noise=0.1)
    study = optuna.create_study(sampler=SimplexGPSampler(LAW.space, seed=0))
    objective = LadderObjective(source, seed=1)
    for rung in (0, 1, None):
        trial = study.ask()
        if rung is not None:
            trial.set_user_attr(RUNG, rung)
        value = objective(trial)
        study.tell(trial, value)
        weights = np.array([list(trial.params.values())])
        expected = source.score(weights, rung, [1, trial.number])
        assert value == pytest.approx(float(expected[0]))
    assert source.ladder.spent(study.trials) == pytest.approx(21.0)


def test_a_ladder_of_sources_needs_one_for_each_rung_over_the_same_domains() -> None:
    small, large = MixingLaw(4, seed=0), MixingLaw(4, seed=1)
    source: LadderSource = SourceLadder((small, large), Ladder.of((1.0, 10.0)), noise=0.1)
    draws = source.reference()
    np.testing.assert_array_equal(source.truth(draws, 0), small.score(draws))
    np.testing.assert_array_equal(source.components(draws)[:, 0], large.score(draws))
    assert source.optimum()[1] == large.optimum()[1] and "0.1" in source.quality()
    assert not source.extrapolates(draws).any()
    with pytest.raises(UserError, match="2 rungs needs a source for each, but got 1"):
        SourceLadder((small,), Ladder.of((1.0, 10.0)))
    with pytest.raises(UserError, match="differ in their domains: 'd4'"):
        SourceLadder((MixingLaw(5), large), Ladder.of((1.0, 10.0)))


# --- rows ----------------------------------------------------------------------------------------


def rows_of(n: int, k: int = 3, seed: int = 0) -> RowSpace:
    rng = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(k)]
    return RowSpace([dict(zip(names, w, strict=True)) for w in rng.dirichlet(np.ones(k), n)])


def is_row(space: RowSpace, weights: np.ndarray) -> bool:
    gaps = np.abs(space.rows[:, None] - np.reshape(weights, (-1, len(space)))).sum(axis=2)
    return bool((gaps.min(axis=0) < 1e-12).all())


@given(n=st.integers(1, 30), k=st.integers(2, 6), seed=st.integers(0, 99))
def test_whatever_is_drawn_or_projected_is_a_row(n: int, k: int, seed: int) -> None:
    space, rng = rows_of(n, k, seed), np.random.default_rng(seed)
    near = rng.dirichlet(np.ones(k), 20)
    for weights in (space.sample(rng, 9, strength=0.1), space.sample_mixed(rng, 9)):
        assert weights.shape == (9, k) and is_row(space, weights)
    projected = space.project(near)
    distances = ((np.sqrt(near)[:, None] - np.sqrt(space.rows)) ** 2).sum(axis=2)
    np.testing.assert_allclose(
        ((np.sqrt(near) - np.sqrt(projected)) ** 2).sum(axis=1), distances.min(axis=1), atol=1e-12
    )
    np.testing.assert_array_equal(space.project(space.rows), space.rows)
    assert space.project(np.zeros(k)).shape == (k,) and space.contains(space.rows).all()


def test_draws_take_every_row_as_often() -> None:
    space = rows_of(10)
    drawn = space.nearest(space.sample_mixed(np.random.default_rng(0), 5000))
    assert np.bincount(drawn, minlength=10).min() > 400


def test_rows_that_are_no_space_are_refused() -> None:
    with pytest.raises(UserError, match="at least one mixture"):
        RowSpace([])
    with pytest.raises(UserError, match="Row 1 is a mixture that an earlier row holds"):
        RowSpace([{"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5}])
    with pytest.raises(UserError, match=r"Row 1.*sum to"):
        RowSpace([{"a": 0.5, "b": 0.5}, {"a": 0.7, "b": 0.7}])
    with pytest.raises(UserError, match=r"Row 0.*'b'"):
        RowSpace([{"a": 0.5, "b": 0.5}], prior={"a": 1.0, "c": 1.0})


@pytest.mark.parametrize(
    "make",
    [
        lambda space: SimplexGPSampler(space, seed=0, n_startup=6),
        lambda space: ClimbSampler(
            space, rounds=(8, 4), predictor="linear", pool_size=2000, seed=0
        ),
        lambda space: ClimbSampler(
            space, rounds=(8, 4), predictor="linear", pool_size=2000, preset="paper", seed=0
        ),
        lambda space: stock.random(space, seed=0),
    ],
)
def test_our_samplers_search_the_rows_as_they_are(make: object) -> None:
    space = rows_of(12)
    sampler = make(space)  # type: ignore[operator]
    assert isinstance(sampler, BaseSampler)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: (space.suggest(trial)["d1"] - 0.4) ** 2, n_trials=12)
    tried = np.array([list(t.params.values()) for t in study.trials])
    assert is_row(space, tried) and len(np.unique(tried, axis=0)) > 4
    found = best_mixture(study, space=space)
    assert is_row(space, np.array(list(found.mixture.values())))


def test_what_was_tried_bounds_the_rows_that_can_be_recommended() -> None:
    space = RowSpace([{"a": 1.0}, {"a": 0.8, "b": 0.2}, {"a": 0.4, "b": 0.1, "c": 0.5}])
    tried = within_evidence(space, space.rows[:2])
    assert isinstance(tried, RowSpace)
    np.testing.assert_array_equal(tried.rows, space.rows[:2])
    assert within_evidence(space, space.rows) is space


# --- tables of runs ------------------------------------------------------------------------------

HEADER = "run,weight_web,weight_code,model_size,n_tokens,loss,piqa\n"


def written(path: Path, lines: list[str]) -> Path:
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three mixtures on two sizes; the small model's second point of the last lacks its loss."""
    lines = []
    for i, web in enumerate((0.2, 0.5, 0.8)):
        for size, points in ((10, (95, 200)), (100, (990, 1000))):
            for tokens in points:
                loss = "" if (i, tokens) == (2, 200) else 10 / size + 1 / tokens + (web - 0.4) ** 2
                lines.append(f"r{i},{web},{1 - web},{size},{tokens},{loss},{web}")
    return written(tmp_path / "runs.csv", lines)


def test_a_pool_takes_the_nearest_point_of_each_run_and_counts_its_flops(runs: Path) -> None:
    read = read_runs(runs)
    assert read.domains == ("web", "code") and read.names == ("loss", "piqa") and len(read) == 12
    source = pool(read, [(10, 100), (100, 1000)], ["loss"], noise=0.1)
    assert source.ladder.costs.tolist() == [6 * 10 * 95, 6 * 100 * 1000]
    assert source.ladder.rungs[0].tokens == 95 and source.ladder.rungs[1].parameters == 100
    assert len(source.space.rows) == 3 and source.label == "loss"
    best, value = source.optimum()
    assert source.space.mixture(best)["web"] == 0.5
    assert value == pytest.approx(0.1 + 1e-3 + 0.01)
    assert source.truth(best[None], 0)[0] == pytest.approx(1 + 1 / 95 + 0.01)
    assert source.sigma == pytest.approx(np.std([0.04, 0.01, 0.16]))
    assert source.correlations == (1.0, 1.0) and "3 real runs" in source.quality()


def test_a_mixture_without_its_result_on_a_rung_is_no_row(runs: Path) -> None:
    read = read_runs(runs)
    assert len(pool(read, [(10, 200), (100, 1000)], ["loss"]).space.rows) == 2
    assert len(pool(read, [(10, 200), (100, 1000)], {"piqa": -1.0}).space.rows) == 3
    both = pool(read, [(10, 95), (100, 1000)])
    assert both.label == "2 results"


@pytest.mark.parametrize(
    ("rungs", "score", "message"),
    [
        ([(20, 95), (100, 1000)], None, "No run of 20 parameters in the table; it has"),
        ([(10, 150), (100, 1000)], None, "No run of 150 tokens in the table; it has"),
        ([(100, 1000), (10, 95)], None, "in order of cost"),
        ([(10, 95), (100, 1000)], ["los"], "No result 'los'.*loss"),
        ([(10, 95), (100, 1000)], [], "at least one result"),
    ],
)
def test_a_pool_that_cannot_be_says_what_there_is(
    runs: Path, rungs: list[tuple[float, float]], score: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        pool(read_runs(runs), rungs, score)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("r,0.5,0.6,10,100,1,1", "weights of line 3 sum to 1.1"),
        ("r,0.5,0.5,0,100,1,1", "line 3, column 'model_size' must lie above 0"),
        ("r,0.5,0.5,10,-1,1,1", "line 3, column 'n_tokens' must lie above 0"),
        ("r,0.5,0.5,,100,1,1", "line 3, column 'model_size': '' is not a finite"),
        ("r,0.5,0.5,10,100,x,1", "line 3, column 'loss': 'x' is not a finite"),
        ("r,0.5,0.5,10,100,nan,1", "line 3, column 'loss': 'nan' is not a finite"),
        ("r,0.5,0.5,10,100,1", "line 3: 6 cells under 7 columns"),
    ],
)
def test_a_bad_line_of_runs_is_refused_with_its_place(
    tmp_path: Path, line: str, message: str
) -> None:
    path = written(tmp_path / "runs.csv", ["r,0.2,0.8,10,100,1,1", line])
    with pytest.raises(UserError, match=message):
        read_runs(path)


def test_columns_are_found_by_their_beginning_or_by_name(runs: Path) -> None:
    named = read_runs(runs, weights=["weight_web", "weight_code"])
    assert named.domains == ("weight_web", "weight_code") and named.names == ("loss", "piqa")
    assert read_runs(runs, ignore=["run", "piqa"]).names == ("loss",)
    assert read_runs(runs, ignore="run").names == ("loss", "piqa")
    for options, message in (
        ({"weights": "share_"}, "columns of weights are none"),
        ({"weights": ["weight_web", "weight_maths"]}, "no column 'weight_maths'"),
        ({"size": "params"}, "no column 'params'"),
        ({"ignore": ["run", "loss", "piqa"]}, "has no result"),
    ):
        with pytest.raises(UserError, match=message):
            read_runs(runs, **options)  # type: ignore[arg-type]
    runs.write_text("\n".join(runs.read_text().splitlines()[:2]))
    with pytest.raises(UserError, match=r"one row, line 2: nothing varies, .* at least two runs"):
        read_runs(runs)


@pytest.mark.skipif(not (SHARED / "dmsl").is_dir(), reason="needs the table of real runs")
def test_a_ladder_of_real_runs_ranks_as_its_page_says() -> None:
    read = read_runs(SHARED / "dmsl" / "dmsl.csv")
    score = [name for name in read.names if name != "openhermes_loss"]
    source = pool(read, [(122e6, 4e9), (310e6, 6e9), (937e6, 35.3e9)], score)
    assert len(source.space.rows) == 40
    assert source.correlations[0] == pytest.approx(0.92, abs=0.01)
    assert source.ladder.shares[0] * 40 == pytest.approx(0.59, abs=0.01)


# --- the benchmark -------------------------------------------------------------------------------


def curve(*points: tuple[float, float]) -> figures.Points:
    return [{"flops": flops, "auto": regret} for flops, regret in points]


def test_flops_to_a_regret_are_counted_to_where_it_stays() -> None:
    left = curve((1, 0.05), (2, 0.3), (3, 0.1), (4, 0.0))
    assert figures.settled(left, 0.1) == 3 and figures.settled(left[:2], 0.1) == float("inf")
    assert figures.settled(left, 0.1, "own") == float("inf")
    assert figures.nine_of_ten([9.0, 1, 2, 3, 4, 5, 6, 7, 8, float("inf")]) == 9
    late = [curve((1, 0.3), (2, 0.0))] * 9 + [curve((1, 0.0), (5, 0.0))]
    assert figures.nine_at_once(late, 0.1) == 2
    assert figures.at(left, 2.5) == 0.3 and figures.at(left, 0.5) == float("inf")


def test_a_ratio_of_flops_is_that_of_the_medians() -> None:
    slow = [curve((1, 1.0), (8, 0.5), (16, 0.2)) for _ in range(5)]
    fast = [curve((1, 0.6), (4, 0.2)) for _ in range(5)]
    found = figures.ratio(fast, slow, lambda curves: 0.2)
    assert found.startswith("0.250 [0.250, 0.250]")
    assert figures.reached(slow, 0.1) == float("inf")


@pytest.mark.parametrize("name", ["gp", "climb-ladder"])
def test_the_benchmark_counts_what_its_arms_spend(
    name: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "ROUNDS", (4, 2, 1))
    monkeypatch.setitem(bench.ARMS, "gp", bench.Arm(bench.ARMS["gp"].make, rows=4))
    monkeypatch.setattr(bench, "climb_pick", lambda space, *_, **__: space.rows[0])
    source = pool(read_runs(runs), [(10, 95), (100, 1000)], ["loss"])
    found = bench.run(source, name, 0)
    last = found["curve"][-1]  # type: ignore[index]
    assert found["rungs"] == ([0, 4] if name == "gp" else [4, 3]) and last["auto"] >= 0
    assert last["flops"] <= np.dot(found["rungs"], source.ladder.shares)  # type: ignore[arg-type]
