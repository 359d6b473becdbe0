"""Mixtures as people write them: the reader and the rule for sums."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from climb_opt.baselines import fixed_mixture
from climb_opt.errors import UserError
from climb_opt.mixtures import mixture_from, read_mixture
from climb_opt.simplex import MixtureSpace
from climb_opt.sums import MOST, sum_problem, tolerance

SPACE = MixtureSpace({"web": 5, "code": 3, "math": 2})
Parts = st.lists(st.floats(0.001, 1), min_size=2, max_size=40)


@settings(max_examples=100)
@given(Parts, st.integers(2, 6))
@example([0.25, 0.001222610473632815, 0.00115776062011719], 2)  # 0.99, 0.0, 0.0
def test_what_rounding_makes_of_a_mixture_is_taken(parts: list[float], digits: int) -> None:
    weights = np.array(parts) / sum(parts)
    rounded = [round(w, digits) for w in weights]
    significant = [float(f"{w:.{digits}g}") for w in weights]
    for printed in (rounded, significant):
        if abs(sum(printed) - 1) <= MOST and any(printed):
            assert sum_problem(printed) is None


@settings(max_examples=100)
@given(Parts, st.floats(0.06, 50))
def test_what_rounding_cannot_explain_is_refused(parts: list[float], off: float) -> None:
    weights = np.array(parts) / sum(parts) * (1 + off)
    assert "not to 1" in str(sum_problem(weights))


def test_few_digits_allow_more_and_many_digits_less() -> None:
    assert tolerance([0.33, 0.33, 0.33]) == pytest.approx(0.015)
    assert tolerance([0.3333333, 0.66]) == pytest.approx(0.005)
    assert tolerance([0.5, 0.4]) == MOST
    assert sum_problem([0.33, 0.33, 0.33]) is None
    assert sum_problem([0.6, 0.35]) is not None
    assert sum_problem([0.5, 0.4]) is not None


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ({"web": 50, "code": 30, "math": 20}, "sum to 100, not to 1. Percentages?"),
        ({"web": 50.1, "code": 30, "math": 20}, "sum to 100.1, not to 1. Percentages?"),
        ({"web": 10, "code": 20}, "sum to 30, not to 1. Is a domain missing?"),
        ({"web": 0.5148, "code": 0.2, "math": 0.1}, "divide each weight by 0.8148"),
        ({"web": 1e-9}, "sum to 1e-09"),
        ({"web": 0.0}, "sum to 0, not to 1"),
        ({"Web": 0.5, "code": 0.5}, "Unknown domain 'Web'. Did you mean 'web'"),
        ({"web": "half", "code": 0.5}, "must be a number, but is 'half'"),
        ({"web": float("nan"), "code": 0.5}, "must be finite and not negative, but 'web'"),
        ({"web": 1.5, "code": -0.5}, "must be finite and not negative, but 'code'"),
    ],
)
def test_every_way_in_refuses_with_the_same_words(
    mixture: dict[str, float], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        SPACE.weights(mixture)
    with pytest.raises(UserError, match=said):
        fixed_mixture(SPACE, "given", mixture=mixture)
    path = tmp_path / "m.yaml"
    path.write_text("".join(f"{name}: {weight}\n" for name, weight in mixture.items()))
    with pytest.raises(UserError, match=said):
        SPACE.weights(read_mixture(path))


def test_scaling_is_said_once_and_rounding_of_floats_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            weights = SPACE.weights({"web": 0.5, "code": 0.333, "math": 0.166}, what="table 3")
        SPACE.weights({"web": 0.1 + 0.2, "code": 0.3, "math": 0.4})
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert [r.getMessage() for r in caplog.records] == [
        "table 3: the weights sum to 0.999, scaled to 1."
    ]


@pytest.mark.parametrize(
    "text",
    [
        "web: 50%\ncode: 30 %\nmath: '20%'",
        "web: .5\ncode: 3e-1\nmath: 0.2",
        "train: {train_web: 0.5, train_code: 0.3, train_math: 0.2}\nvalid: {valid_web: 1}",
        "{train_web: 0.5, train_code: 0.3, math: 0.2}",
    ],
)
def test_people_write_the_same_mixture_in_many_ways(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    weights = SPACE.weights(read_mixture(path, prefix="train_"))
    assert weights.tolist() == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_pipe_may_bring_any_unicode(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BytesIO("caf\u00e9: 100%".encode(encoding)), "ascii")
    monkeypatch.setattr("sys.stdin", piped)
    assert read_mixture("-") == {"caf\u00e9": 1.0}


def test_a_closed_pipe_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="standard input is closed"):
        read_mixture("-")


def test_a_pipe_in_another_encoding_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BytesIO(b"caf\xe9: 1"), "ascii", "surrogateescape")
    monkeypatch.setattr("sys.stdin", piped)
    with pytest.raises(UserError, match=r"standard input: .*UTF-8"):
        read_mixture("-")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"weights": {"web": 1}}, "'weights' holds a mapping"),
        ({"train_web": 0.5, "web": 0.5}, "there are two domains 'web'"),
        ({}, "mapping of domains to weights, but this is an empty one"),
        (None, "but this is empty"),
        (["web"], "but this is a list"),
        ({"web": True}, "must be a number, but is True"),
        ({"web": None}, "must be a number, but is None"),
    ],
)
def test_what_is_no_mixture_is_named(data: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        mixture_from(data, "m.yaml", prefix="train_")


def test_a_name_is_never_matched_to_another_that_looks_the_same() -> None:
    space = MixtureSpace({"caf\u00e9": 1, "Web": 1, "web": 1})
    for name in ("Web", "web"):
        assert space.mixture(space.weights({name: 1}))[name] == 1
    with pytest.raises(UserError, match="in another Unicode form"):
        space.weights({"cafe\u0301": 1})
