"""Shares in whole numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from climb_opt.apportion import apportion

WEIGHTS = st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda w: sum(w) > 1e-6)


@given(WEIGHTS, st.integers(0, 10**6))
def test_they_sum_to_the_total_and_none_is_further_than_one_from_its_share(
    weights: list[float], total: int
) -> None:
    exact = np.array(weights) / sum(weights) * total
    found = apportion(exact, total)
    assert found.sum() == total
    assert np.all(np.abs(found - exact) < 1 + 1e-6)


def test_what_is_left_goes_to_the_largest_remainders_and_then_to_the_earlier() -> None:
    assert apportion(np.array([1.2, 1.7, 1.1]), 4).tolist() == [1, 2, 1]
    assert apportion(np.array([0.5, 0.5, 1.0]), 2).tolist() == [1, 0, 1]


def test_each_row_is_a_whole_of_its_own() -> None:
    rows = np.array([[0.5, 1.5], [1.5, 0.5], [1.0, 1.0]])
    assert apportion(rows, 2).tolist() == [[1, 1], [2, 0], [1, 1]]


def test_whole_numbers_beyond_floats_are_shared_out_to_the_last_one() -> None:
    total = 10**18 + 1
    parts = np.array([333_333 * total, 333_333 * total, 333_334 * total], dtype=object)
    exact = [333_333 * total // 10**6, 333_333 * total // 10**6, 333_334 * total // 10**6]
    found = apportion(parts, total, 10**6)
    assert found.sum() == total
    assert all(0 <= f - e <= 1 for f, e in zip(found.tolist(), exact, strict=True))
    assert found[2] == exact[2] + 1  # remainders 333333, 333333, 333334 of a million
