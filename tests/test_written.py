"""YAML and numbers as people write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt.errors import UserError, did_you_mean
from climb_opt.written import flag, number
from climb_opt.yamls import parse_yaml, read_yaml

# What YAML 1.1 takes for something else than text.
ODD = ["no", "on", "yes", "null", "~", "1.50", "12:30", "010", "1_000", "0x10", "1e3", "2024-01-01"]
ODD += [".inf", ".nan", "=", "true", "0b1", "0o17", "190:20:30", "-1", "+1", "1."]


@pytest.mark.parametrize("name", ODD)
def test_a_key_is_the_text_that_was_typed(name: str) -> None:
    assert parse_yaml(f"outer: {{{name}: 0.5}}\n{name}: [{name}, x]", "f", text_values=True) == {
        "outer": {name: "0.5"},
        name: [name, "x"],
    }
    assert list(parse_yaml(f"{name}: 0.5", "f")) == [name]
    assert parse_yaml(f"{name}: 0.5", "f")[name] == 0.5


def test_powers_of_ten_are_numbers_and_what_stands_in_quotes_is_text() -> None:
    text = "rungs: [[150e6, 15e9], [-2E+3, .5e-1]]\nname: '1e3'\ntag: 1e3x\ncommit: 12e4567"
    found = {"rungs": [[150e6, 15e9], [-2e3, 0.05]], "name": "1e3"}
    assert parse_yaml(text, "f") == found | {"tag": "1e3x", "commit": "12e4567"}


@settings(max_examples=60)
@given(st.dictionaries(st.text(min_size=1), st.integers(0, 9), min_size=1))
def test_quoted_keys_come_back_whatever_they_are(data: dict[str, int]) -> None:
    import yaml

    assert parse_yaml(yaml.safe_dump(data), "f") == data


def test_merge_keys_and_anchors_still_work() -> None:
    text = "base: &b {no: 1, web: 2}\nown: {<<: *b, web: 3}\n"
    assert parse_yaml(text, "f")["own"] == {"no": 1, "web": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: 0.5\nweb: 0.5", "key 'web' is there twice"),
        ("1.0: 0.5\n'1.0': 0.5", "key '1.0' is there twice"),
        ("{[a]: 1}", "a key must be text"),
        ("a: [", "not readable as YAML"),
        ("when: 2024-02-31", "not readable as YAML"),
        ("a: !!python/object:os.system x", "not readable as YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"odd\.yaml.*{said}"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("value", "meant"),
    [("0.3", 0.3), ("3e-3", 3e-3), ("1_000", 1000.0), ("30%", 0.3), (" 12.3 % ", 0.123), (2, 2.0)],
)
def test_a_number_is_read_as_it_is_typed(value: object, meant: float) -> None:
    assert number(value, "weight") == meant


@pytest.mark.parametrize("value", ["half", "", "1/3", "0,5", "%", "12:30", True, None, [1], 1j])
def test_what_is_no_number_is_named(value: object) -> None:
    with pytest.raises(UserError, match="the weight must be a number, but is"):
        number(value, "the weight")


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("Web", ["web", "wet"], "'web'"),
        ("cafe", ["café", "care"], "'café'"),
        ("WEB", ["web", "Web", "wet"], "'web' or 'Web'"),
        ("cafe\u0301", ["caf\u00e9"], r"in another Unicode form \('caf\\xe9'\)"),
        ("wbe", ["code", "web"], "'web'"),
    ],
)
def test_a_name_that_is_nearly_known_is_asked_after(name: str, known: list[str], hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        raise UserError(did_you_mean(name, known))


def test_nothing_is_asked_where_nothing_is_near() -> None:
    assert did_you_mean("law", ["web", "code"]) == ""


def test_a_decimal_comma_is_told_from_other_words() -> None:
    with pytest.raises(UserError, match=r"but is '0,5' \(with a decimal point: 0\.5\)\.$"):
        number("0,5", "the weight")
    with pytest.raises(UserError, match=r"but is '1,000,000'\.$"):
        number("1,000,000", "the weight")


@pytest.mark.parametrize("value", ["no", None, 2, np.array([True, False]), np.ones((2, 2))])
def test_what_is_neither_true_nor_false_is_told(value: object) -> None:
    with pytest.raises(UserError, match=r"^explore must be True or False, but is "):
        flag(value, "explore")


def test_true_and_false_are_taken_as_programs_have_them() -> None:
    assert [flag(value, "x") for value in (True, 1, np.True_, np.array([1]))] == [True] * 4
    assert [flag(value, "x") for value in (False, 0, np.False_)] == [False] * 3
