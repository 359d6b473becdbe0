"""What docs/measure.py counts, on a package of three small files."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"

A = '''"""Said."""  # one

import p.b


def told(a, b, c, d, e, f):
    """Said, on
    two lines."""
    return a  # two


def _private():
    import p.c
'''
B = """class Silent:
    def __init__(self, a, b, c, d, e):
        pass

    def method(self):
        from p import a
"""


@pytest.fixture
def measure() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "measure.py"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    folder.mkdir()
    for name, text in {"__init__": "", "a": A, "b": B, "c": "from p import b\n"}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def test_files_functions_docstrings_and_comments_are_counted(
    measure: dict[str, Any], package: Path
) -> None:
    found = measure["figures"](package, None)
    assert found["files / lines"] == "4 / 20"
    assert found["file median / p90 / longest"] == "1 / 13 / 13"
    assert found["functions"] == "4"
    assert found["function median / p90 / longest"] == "2 / 4 / 4"
    assert found["public things documented"] == "29%"  # a, told; not p, b, c, Silent, method
    assert found["lines of docstrings"] == "15.0%"
    assert found["comments a line"] == "10.0%"
    assert found["functions of more than five parameters"] == "1 (25.0%)"


def test_circles_through_late_imports_are_found(measure: dict[str, Any], package: Path) -> None:
    early, late = (measure["needs"](package, late) for late in (False, True))
    assert measure["circles"](early) == []
    assert measure["circles"](late) == [["p.a", "p.b", "p.c"]]


def test_the_page_has_a_row_for_every_measure(measure: dict[str, Any], package: Path) -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    inside = page.partition(measure["MARKS"][0])[2].partition("| room |")[0]
    filled = measure["table"](measure["figures"](package, package), inside)
    rows = filled.splitlines()[2:]
    width = filled.splitlines()[0].count("|")
    assert len(rows) == 10 and all(row.count("|") == width for row in rows)
    assert all(row.partition(" | ")[0] in inside for row in rows)
