"""What a study holds: each stored name once, and its table true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from climb_opt import attributes
from climb_opt.attributes import ATTRIBUTES

PACKAGE = Path(attributes.__file__).parent
CONSTANTS = {
    value: name
    for name, value in vars(attributes).items()
    if name.isupper() and isinstance(value, str)
}
FILES = {str(p.relative_to(PACKAGE).with_suffix("")): p.read_text() for p in PACKAGE.rglob("*.py")}


def test_no_other_file_spells_a_stored_name() -> None:
    # Examples in docstrings speak as people do.
    spelt = re.compile(r"(?m)^(?!.*>>>).*" + r"\"(?:climb/|climb:|simplex:|simplex_gp:)[\w-]+\"")
    assert {file for file, text in FILES.items() if spelt.search(text)} == {"attributes"}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_files_said_to_write_and_read_it_name_it(name: str) -> None:
    about = ATTRIBUTES[name]
    assert about.written
    for file in (*about.written, *about.read):
        assert re.search(rf"\b{CONSTANTS[name]}\b", FILES[file]), f"{file} does not name {name}"
