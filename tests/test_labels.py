"""Labels of evaluation rows: what can mean one choice only is understood, the rest refused."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")
from climb_opt.errors import UserError
from climb_opt.evaluators.file_task import read_rows


@pytest.mark.parametrize(
    ("label", "place", "how"),
    [
        (1, 1, ""), (1.0, 1, "with a decimal point"), ("1", 1, "numbers as text"),
        ("1.0", 1, "as text"), ("B", 1, "letters"), ("c", 2, "letters"),
        (" dog ", 1, "texts of choices"), ("0", 0, "as text"),
    ],
)  # fmt: skip
def test_labels_that_can_mean_one_choice_only_are_understood_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, label: Any, place: int, how: str
) -> None:
    caplog.set_level(logging.INFO)
    row = {"query": "Who barks?", "choices": ["cat", "dog", "cow"], "label": label}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert read_rows(tmp_path / "a.jsonl", "who")[0]["label"] == place
    if how:
        assert re.search(rf"task who, a\.jsonl: 1 of 1 labels are .*{how}", caplog.text)
    else:
        assert "labels" not in caplog.text


def test_rows_of_arc_are_read_as_they_are(tmp_path: Path) -> None:
    choices = {"text": ["a cat", "a dog"], "label": ["1", "2"]}
    row = {"id": "x", "question": "Who barks?", "choices": choices, "answerKey": "2"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    expected = [{"query": "Who barks?", "choices": ["a cat", "a dog"], "label": 1}]
    assert read_rows(tmp_path / "a.jsonl") == expected
    (tmp_path / "a.json").write_text(json.dumps([row, row], indent=1))  # one list
    assert read_rows(tmp_path / "a.json") == expected * 2


def test_true_and_false_are_labels_of_such_choices_only(tmp_path: Path) -> None:
    for choices, label, place in ((["Yes", "No"], True, 0), (["false", "true"], True, 1)):
        row = {"query": "q", "choices": choices, "label": label}
        (tmp_path / "a.jsonl").write_text(json.dumps(row))
        assert read_rows(tmp_path / "a.jsonl")[0]["label"] == place


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": 2}, "'label' must be a number from 0 to 1, a letter from A to B, or .* is 2"),
        ({"label": 0.5}, "must be a number from 0 to 1.*but is 0.5"),
        ({"label": -1}, "must be a number from 0 to 1.*but is -1"),
        ({"label": "C"}, "must be a number from 0 to 1, a letter from A to B.*but is 'C'"),
        ({"label": float("nan")}, "must be a number from 0 to 1.*but is nan"),
        ({"label": [1]}, r"must be a number from 0 to 1.*but is \[1\]"),
        ({"label": True}, "may be true or false where the choices are true and false, or yes and"),
        ({"choices": ["1", "2"], "label": "1"}, r"may mean the places 0 \(texts.*1 \(numbers as"),
        ({"choices": ["B", "A"], "label": "A"}, r"may mean the places 1 \(texts.*0 \(letters"),
        ({"choices": ["x", "x"], "label": "x"}, "must be a number from 0 to 1"),
        (
            {"choices": {"text": ["a", "b"], "label": ["1", "2"]}, "label": 1},
            r"may mean the places 0 \(what their choices are called\) and 1",
        ),
        (
            {"choices": {"text": ["a", "b"], "label": ["A", "B"]}, "label": "D"},
            r"or a choice's own label \('A', 'B'\), but is 'D'",
        ),
        ({"choices": {"text": ["a", "b"], "label": ["A"]}}, r"has 2 texts, but the labels \['A'\]"),
        ({"query": "tab\there"}, "JSON has it escaped; write the file anew.*python3 -c"),
    ],
)
def test_labels_that_mean_none_or_two_are_refused_with_row_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    good = {"query": "q", "choices": ["a", "b"], "label": 0}
    lines = [json.dumps(good), json.dumps({**good, **changes}).replace("\\t", "\t")]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"^lm-eval: task t, a\.jsonl, line 2: .*{said}"):
        read_rows(tmp_path / "a.jsonl", "t")
