"""Progress: a bar at a terminal, elsewhere a line now and then."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from climb_opt.progress import EVERY, FIRST, Lines, counting, doing, progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_what_is_done_soon_is_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Lines(3, "demo", "trial", clock=clock) as lines:
        for _ in range(3):
            clock.now += FIRST / 4
            lines.update()
    assert said(capsys) == []


def test_a_line_now_and_then_says_the_rate_and_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Lines(40, "demo", "trial", initial=10, clock=clock) as lines:
        for _ in range(20):
            clock.now += 6.0
            lines.update()
    assert said(capsys) == [
        "demo: 12 of 40 trials, 10 trials a minute, 2 min 48 s left",
        "demo: 17 of 40 trials, 10 trials a minute, 2 min 18 s left",
        "demo: 22 of 40 trials, 10 trials a minute, 1 min 48 s left",
        "demo: 27 of 40 trials, 10 trials a minute, 1 min 18 s left",
        "demo: 30 of 40 trials, 10 trials a minute, 1 min 0 s left",
    ]


def test_an_end_is_told_where_lines_were_written(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Lines(4_000_000, "tokens", "byte", large=True, clock=clock) as lines:
        clock.now += FIRST
        lines.update(1_000_000)
        clock.now += 5.0
        lines.set_postfix_str("nearly", refresh=False)
        lines.update(3_000_000)
    assert said(capsys) == [
        "tokens: 1M of 4M bytes, 100k bytes a second, 30 s left",
        "tokens: 4M of 4M bytes, 267k bytes a second, nearly",
    ]


def test_slow_work_is_counted_by_the_hour(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Lines(None, "search", "trial", clock=clock) as lines:
        clock.now += 2 * 3600
        lines.update()
    assert said(capsys) == ["search: 1 trials, 0.5 trials an hour"]


@given(steps=st.lists(st.floats(0.0, 100.0), max_size=30))
def test_no_more_lines_than_there_is_time_for(steps: list[float]) -> None:
    clock, file, before = Clock(), io.StringIO(), sys.stderr
    sys.stderr = file
    try:
        with Lines(len(steps), "x", "step", clock=clock) as lines:
            for seconds in steps:
                clock.now += seconds
                lines.update()
    finally:
        sys.stderr = before
    written = file.getvalue().count("\n")
    assert written <= 2 + max(0.0, sum(steps) - FIRST) / EVERY
    assert (written > 0) == (sum(steps) >= FIRST)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress(10, "demo", "trial") as bar:
        assert isinstance(bar, tqdm)
        counting(bar)(4, 8)
        bar.refresh()
    assert "4/8" in terminal.getvalue()


def test_nobody_is_told_where_nothing_is_to_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(10, "demo", "trial", show=False) as bar:
        bar.update(3)
        bar.refresh()
    assert said(capsys) == []


def until_said(file: io.StringIO, text: str) -> None:
    end = time.monotonic() + 30
    while text not in file.getvalue():
        assert time.monotonic() < end, file.getvalue()
        time.sleep(0.005)


def soon(monkeypatch: pytest.MonkeyPatch, file: io.StringIO) -> io.StringIO:
    """`file` as standard error, where lines come after an instant."""
    for name in ("FIRST", "EVERY", "PULSE", "BRIEF"):
        monkeypatch.setattr(f"climb_opt.progress.{name}", 0.01)
    monkeypatch.setattr(sys, "stderr", file)
    return file


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_that_cannot_say_how_far_it_is_says_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = soon(monkeypatch, io.StringIO())
    before = threading.active_count()
    with doing("k-means"):
        until_said(file, "k-means: ")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert all(line.endswith(" so far") for line in file.getvalue().splitlines())


def test_of_steps_within_each_other_the_inner_one_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    file = soon(monkeypatch, io.StringIO())
    with progress(3, "runs", "run") as outer:
        until_said(file, "runs: 0 of 3 runs, ")
        with doing("a fit"):
            until_said(file, "a fit: ")
            written = file.getvalue().count("runs: ")
            time.sleep(0.05)
            assert file.getvalue().count("runs: ") == written
        outer.update()
        until_said(file, "runs: 1 of 3 runs")


def test_a_step_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    file = soon(monkeypatch, io.StringIO())
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), doing("an endless one"):
        raise KeyboardInterrupt
    assert threading.active_count() == before and file.getvalue() == ""


def test_a_step_of_a_moment_and_one_that_is_not_shown_are_silent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with doing("quick"):
        pass
    with doing("hidden", show=False):
        pass
    assert said(capsys) == []


def test_a_terminal_sees_that_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = soon(monkeypatch, Terminal())
    with doing("k-means"):
        until_said(terminal, "k-means: 00:0")


@pytest.mark.parametrize("outer", [False, None])
def test_a_bar_within_a_silent_one_ends_as_any_other(outer: bool | None) -> None:
    with progress(3, "trials", "trial", show=outer) as trials:
        with progress(None, "rules", "rule", show=None), doing("fitting", show=False):
            trials.update()
        assert trials.n == (0 if outer is False else 1)  # tqdm's own, where it is silent


def test_what_is_done_in_a_moment_writes_nothing_where_nobody_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Lines(9, "rules", "rule", brief=True, clock=clock) as lines:
        for _ in range(9):
            clock.now += 3.0
            lines.update()
    assert capsys.readouterr().err == ""
