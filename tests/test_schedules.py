"""Schedules: phases of a run, read, averaged, and their borders in whole steps."""

from __future__ import annotations

import json
import logging
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from climb_opt.errors import UserError
from climb_opt.mixtures import read_schedule, schedule_from
from climb_opt.proxy.job import Job
from climb_opt.schedules import (
    Phase,
    check_shares,
    constant,
    mean_mixture,
    schedule_data,
    step_borders,
)

TWO = (Phase(0.75, {"web": 0.6, "code": 0.4}), Phase(0.25, {"code": 0.2, "math": 0.8}))
Shares = st.lists(st.integers(1, 1000), min_size=1, max_size=6).map(
    lambda parts: [part / sum(parts) for part in parts]
)


def test_the_mean_of_a_schedule_weighs_phases_by_their_tokens() -> None:
    mean = mean_mixture(TWO)
    assert list(mean) == ["web", "code", "math"]
    assert mean == pytest.approx({"web": 0.45, "code": 0.35, "math": 0.2})
    assert mean_mixture(constant({"web": 1.0})) == {"web": 1.0}


def test_a_job_without_a_schedule_has_one_phase() -> None:
    assert Job("slot-0", {"web": 1.0}, seed=0).phases == (Phase(1.0, {"web": 1.0}),)
    assert Job("slot-0", mean_mixture(TWO), seed=0, schedule=TWO).phases == TWO


@given(Shares, st.integers(1, 5000))
@example([0.1, 0.2, 0.7], 10)
@example([1 / 3, 1 / 3, 1 / 3], 3)
def test_phases_fill_the_run_in_whole_steps_each_border_at_its_nearest(
    shares: list[float], steps: int
) -> None:
    if min(shares) * steps < 1 - 1e-9:
        with pytest.raises(UserError, match="less than one"):
            step_borders(shares, steps)
        return
    borders = step_borders(shares, steps)
    assert borders[0] == 0 and borders[-1] == steps
    assert all(first < last for first, last in pairwise(borders))
    for border, share in zip(borders[1:], (math.fsum(shares[: p + 1]) for p in range(9))):  # noqa: B905
        assert abs(border - share * steps) <= 0.5 + 1e-6


def test_a_border_half_way_between_two_steps_goes_up() -> None:
    assert step_borders([0.5, 0.5], 5) == [0, 3, 5]
    assert step_borders([0.1, 0.2, 0.7], 15) == [0, 2, 5, 15]  # .1 + .2 is not quite .3
    assert step_borders([1.0], 7) == [0, 7]


def test_a_phase_shorter_than_a_step_is_refused_with_what_it_needs() -> None:
    with pytest.raises(
        UserError, match=r"Phase 2 of 2 is 0\.01 of 50 steps: less than one\. .*0\.02"
    ):
        step_borders([0.99, 0.01], 50)


@given(Shares)
def test_what_is_written_is_read_as_it_was(shares: list[float]) -> None:
    mixtures = [{"web": 1 / 3, "code": 1 / 3, "math": 1 / 3}, {"math": 1.0}]
    schedule = tuple(Phase(share, mixtures[p % 2]) for p, share in enumerate(shares))
    assert schedule_from(json.loads(json.dumps(schedule_data(schedule))), "a file") == schedule


def test_a_file_of_phases_is_read_and_a_file_of_weights_is_one_phase(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "phases:\n- share: 75%\n  mixture: {web: 0.6, code: 0.4}\n"
        "- {share: 0.25, mixture: {code: 20%, math: 0.8}}\n"
    )
    assert read_schedule(file) == TWO
    file.write_text("{web: 0.6, phases: 0.4}\n")  # a domain may be called so
    assert read_schedule(file) == constant({"web": 0.6, "phases": 0.4})
    file.write_text(json.dumps({"phases": schedule_data(TWO)}))
    assert schedule_from(json.loads(file.read_text()), "a file", "w") == (
        Phase(0.75, {"eb": 0.6, "code": 0.4}),
        Phase(0.25, {"code": 0.2, "math": 0.8}),
    )


def test_printed_shares_and_weights_are_scaled_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        thirds = check_shares([0.33, 0.33, 0.33], "thirds")
        (phase,) = schedule_from([{"share": 1, "mixture": dict.fromkeys("abc", 0.33)}], "one")
    assert phase.mixture == pytest.approx(dict.fromkeys("abc", 1 / 3))
    assert thirds == pytest.approx((1 / 3,) * 3) and math.fsum(thirds) == pytest.approx(
        1, abs=1e-12
    )
    assert "thirds: the shares sum to 0.99, scaled to 1." in caplog.text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "expected a list of shares"),
        (
            [{"share": 0.5, "mixture": {"a": 1}}],
            "the shares sum to 0.5, not to 1. Is a phase missing",
        ),
        ([{"share": 0, "mixture": {"a": 1}}], r"phase 1 must be in \(0, 1\], but is 0"),
        ([{"share": "x", "mixture": {"a": 1}}], "the share of phase 1 must be a number"),
        ([{"share": "nan", "mixture": {"a": 1}}], r"phase 1 must be in \(0, 1\]"),
        ([{"share": 1, "mixture": {"a": 0.5}}], "phase 1: the weights sum to 0.5"),
        (
            [{"share": 1, "mixture": {"a": -1, "b": 2}}],
            "phase 1: the weight of 'a' must be at least 0",
        ),
        ([{"share": 1, "mixture": {"a": "inf"}}], "phase 1: the weight of 'a' .* finite"),
        ([{"share": 1, "mixture": []}], "phase 1: a mixture is a mapping"),
        ([{"share": 1}], "phase 1: missing key 'mixture'"),
        ([{"share": 1, "weights": {"a": 1}}], "phase 1: unknown key 'weights'.*Known keys: share"),
        (["a"], "phase 1: a phase has a share and a mixture"),
        ({"phases": [], "web": 1}, "unknown key 'web' beside 'phases'"),
        ("web", "a mixture is a mapping"),
    ],
)
def test_what_is_no_schedule_is_refused_in_one_line(data: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        schedule_from(data, "two.yaml")
    assert str(caught.value).startswith("two.yaml") and "\n" not in str(caught.value)
