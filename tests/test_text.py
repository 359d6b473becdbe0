"""Names as those of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from climb_opt.text import file_name

NAMES = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=300)


@pytest.mark.parametrize("name", ["demo", "a b", "é😀", "x.y-1", ".hidden", "x" * 200])
def test_a_name_that_a_file_can_have_stays(name: str) -> None:
    assert file_name(name) == name


@given(NAMES)
@example("..")
@example("../x")
@example("\ud800")
@example("😀" * 300)
def test_a_file_lies_where_it_should_whatever_its_name(name: str) -> None:
    made = file_name(name)
    assert made not in (".", "..") and "/" not in made
    assert len(made.encode()) < 250 and (Path("runs") / made).parent == Path("runs")


def test_no_two_names_get_one_file() -> None:
    names = ["a/b", "a-b", ".", "..", "./", "x" * 300, "x" * 301]
    assert len({file_name(n) for n in names}) == len(names)
