"""The mixtures that need no search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import lookup
from climb_opt.baselines import fixed_mixture
from climb_opt.errors import UserError
from climb_opt.simplex import MixtureSpace

SPACE = MixtureSpace({"web": 70, "code": 20, "math": 9, "law": 1})


@settings(max_examples=30)
@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=8),
    st.sampled_from(sorted(set(lookup.KINDS["baseline"]) - {"given", "influence"})),
)
def test_every_fixed_mixture_is_a_mixture(amounts: list[float], name: str) -> None:
    space = MixtureSpace({f"d{i}": a for i, a in enumerate(amounts)})
    assert space.contains(fixed_mixture(space, name))


def test_temperature_lies_between_proportional_and_uniform() -> None:
    assert np.allclose(
        fixed_mixture(SPACE, "temperature", exponent=1.0), fixed_mixture(SPACE, "proportional")
    )
    assert np.allclose(
        fixed_mixture(SPACE, "temperature", exponent=0.0), fixed_mixture(SPACE, "uniform")
    )
    top = [fixed_mixture(SPACE, "temperature", exponent=e)[0] for e in (0.2, 0.5, 0.8)]
    assert top == sorted(top)


def test_unimax_is_uniform_but_for_the_poor() -> None:
    # Two epochs of everything with a budget of one pass: caps 1.4, .4, .18, .02.
    weights = fixed_mixture(SPACE, "unimax", epochs=2.0)
    assert np.allclose(weights, [0.4, 0.4, 0.18, 0.02])
    assert np.allclose(fixed_mixture(SPACE, "unimax", epochs=1e6), 0.25)
    assert np.allclose(fixed_mixture(SPACE, "unimax", epochs=1.0), SPACE.prior)


def test_bounds_hold_for_fixed_mixtures_too() -> None:
    space = MixtureSpace({"a": 9, "b": 1}, upper={"a": 0.6})
    assert np.allclose(fixed_mixture(space, "proportional"), [0.6, 0.4])


def test_a_mixture_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mixture.yaml"
    path.write_text("train:\n  train_web: 0.501\n  train_code: 0.5\nvalid: {x: 1}\n")
    weights = fixed_mixture(SPACE, "given", mixture=str(path), prefix="train_")
    assert np.allclose(weights, np.array([0.501, 0.5, 0, 0]) / 1.001)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unifrom", {}, "Did you mean 'uniform'"),
        ("temperature", {"exponent": 2.0}, "exponent must lie in"),
        ("unimax", {"epochs": 0.5}, "do not fill the budget"),
        ("unimax", {"epoch": 2}, "Known keys: epochs, supply"),
        ("given", {"mixture": {"wiki": 1.0}}, "Unknown domain 'wiki'"),
        ("given", {"mixture": "nowhere.yaml"}, "cannot be read"),
        ("given", {}, "missing key 'mixture'"),
        ("given", {"mixture": {"web": "half"}}, "must be a number, but is 'half'"),
        ("given", {"mixture": ["web"]}, "given.mixture"),
        ("given", {"mixture": {"web": 1}, "prefix": 5}, "'given': prefix: expected str"),
        ("temperature", {"exponent": "high"}, "'temperature': exponent: expected a number"),
        ("unimax", {"epochs": None}, "'unimax': epochs: expected float, but got None"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fixed_mixture(SPACE, name, **options)


def test_a_mixture_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"web: 0.5\ncaf\xe9: 0.5\n")
    with pytest.raises(UserError, match=r"latin\.yaml"):
        fixed_mixture(SPACE, "given", mixture=str(path))


@pytest.mark.parametrize("text", ["[1, 2]", "a: [1", "train: {a: b}", ""])
def test_a_file_that_holds_no_mixture_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        fixed_mixture(SPACE, "given", mixture=str(path))
