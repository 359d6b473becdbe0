"""Intervals cover what they claim, tests are exact, corrections correct."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt.statistics import (
    MIN_SEEDS,
    bootstrap_interval,
    compare,
    holm,
    rank_interval,
    sign_flip,
    spearman,
    summarise,
)


@pytest.mark.parametrize("n", [MIN_SEEDS, 10])
def test_intervals_cover_about_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(loc=0.3, size=n))
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 200 <= 1.0


def test_too_few_seeds_give_no_interval_and_no_small_p() -> None:
    arm, reference = {0: 0.0, 1: 0.1, 2: 0.2}, {0: 1.0, 1: 1.1, 2: 1.2}
    result = compare(arm, reference)
    assert result.interval is None
    assert result.p == pytest.approx(2 / 2**3)
    assert (result.n, result.wins) == (3, 3)


def test_only_seeds_that_both_finished_are_paired() -> None:
    result = compare({0: 1.0, 1: float("nan"), 2: 3.0}, {0: 2.0, 1: 2.0, 3: 0.0})
    assert (result.n, result.difference, result.wins) == (1, -1.0, 1)
    nothing = compare({}, {0: 1.0})
    assert nothing.n == 0 and nothing.interval is None and np.isnan(nothing.p)


def test_equal_arms_are_not_told_apart() -> None:
    values = {s: float(s) for s in range(8)}
    result = compare(values, values)
    assert result.difference == 0.0 and result.p == 1.0
    assert result.interval == (0.0, 0.0)


def test_sign_flips_are_uniform_when_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    p = [sign_flip(rng.normal(size=8)) for _ in range(300)]
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.09
    many = sign_flip(rng.normal(size=40) + 1.0)
    assert many < 0.01


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_its_definition(p: list[float]) -> None:
    adjusted = holm([*p, float("nan")])
    assert np.isnan(adjusted[-1])
    order = np.argsort(p, kind="stable")
    expected = np.maximum.accumulate([min(1, (len(p) - i) * p[j]) for i, j in enumerate(order)])
    assert np.allclose(np.array(adjusted)[order], expected)
    assert all(a >= b for a, b in zip(adjusted[:-1], p, strict=True))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(v, dtype=float) for v in zip(*pairs, strict=True))
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert np.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_rank_intervals_shrink_with_items() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=60)
    b = a + rng.normal(size=60)
    few, many = rank_interval(a[:8], b[:8]), rank_interval(a, b)
    assert many[0] < spearman(a, b) < many[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_a_summary_leaves_lost_runs_out_and_counts_them() -> None:
    summary = summarise([1.0, 2.0, float("nan"), 3.0])
    assert (summary.n, summary.median) == (3, 2.0)
    assert summarise([]).n == 0


def test_two_fixed_mixtures_are_compared_once() -> None:
    fixed, other = dict.fromkeys(range(10), 0.25), dict.fromkeys(range(10), 0.75)
    paired = compare(fixed, other)
    assert (paired.n, paired.wins, paired.difference) == (1, 1, -0.5)
    assert paired.p == 1.0 and paired.interval is None
    searched = {seed: 0.5 + 0.01 * seed for seed in range(10)}
    assert compare(fixed, searched).n == 10
