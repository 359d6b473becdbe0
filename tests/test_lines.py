"""What docs/lines.py finds again, in two packages of a few lines."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"

KEPT = '''"""Said."""
import math

HALF = 0.5  # a comment


def area(radius, part):
    """Said."""
    whole = math.pi * radius * radius

    return part * whole + HALF * part
'''
GONE = """def forgotten():
    return 1
"""
MOVED = KEPT.replace("whole", "all_of_it").replace("HALF", "SHARE")
NEW = """def climbing(steps):
    for step in steps:
        yield step ** 2
"""


@pytest.fixture
def lines() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "lines.py"))


def test_a_function_is_found_again_where_it_moved_and_what_is_new_is_named_by_its_place(
    lines: dict[str, Any],
) -> None:
    then = {"circle.py": KEPT, "old.py": GONE}
    found = lines["count"](then, {"shapes/round.py": MOVED, "ladder/steps.py": NEW})
    assert found.then == (3, 2, 2) and found.now == (3, 0, 2)
    assert dict(found.features) == {"rungs: ladders of proxies, budgets": 3}
    text = lines["table"](found)
    assert "| **files of then** | 7 | 5 |" in text and "| **all** | 7 | 8 |" in text


def test_what_a_file_of_then_holds_more_counts_as_its_own(lines: dict[str, Any]) -> None:
    found = lines["count"]({"circle.py": KEPT}, {"circle.py": f"{KEPT}\n\n{NEW}"})
    assert found.then == (3, 0, 2) and found.now == (3, 3, 2)
    assert not found.features
    assert found.lengths == ((0, 0, 0), (1, 3, 3), (0, 0, 0))


def test_functions_that_grew_are_told_from_those_that_shrank(lines: dict[str, Any]) -> None:
    grown = KEPT.replace("    return part", "    assert part\n    return part")
    found = lines["count"]({"a.py": grown, "b.py": GONE}, {"a.py": KEPT, "b.py": GONE})
    assert found.lengths == ((1, 4, 3), (1, 2, 2), (0, 0, 0))
    assert "| – of them 1 shorter | 4 | 3 |" in lines["table"](found)


def test_lines_for_users_are_told_from_what_a_function_did(lines: dict[str, Any]) -> None:
    grown = KEPT.replace("    return part", "    assert part\n    return part")
    told = {"round.py": {10, 99}}
    found = lines["count"]({"a.py": KEPT}, {"round.py": grown}, lambda file: told[file])
    assert found.for_users == 0  # line 10 is empty
    told["round.py"] = {11, 12}
    found = lines["count"]({"a.py": KEPT}, {"round.py": grown}, lambda file: told[file])
    assert found.for_users == 2
    assert "| – of all, not for users | 3 | 2 |" in lines["table"](found)


def test_the_page_holds_the_table(lines: dict[str, Any]) -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    inside = page.partition(lines["MARKS"][0])[2].partition(lines["MARKS"][1])[0]
    assert "| **files of then** | 19,375 |" in inside
