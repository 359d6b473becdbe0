"""A local file of multiple-choice rows as an lm-eval task, checked before any training.

One JSON object a line (or a list of them): {"id": ..., "query": str, "choices": [str, ...],
"label": index of the right choice}. A label may also be the choice's letter or text, and ARC's rows
are read as they are: {"question", "choices": {"text": [...], "label": [...]}, "answerKey"}.
"""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask
from lm_eval.utils import apply_template

from climb_opt.errors import UserError, within
from climb_opt.evaluators.labels import BadRow, place_of
from climb_opt.reading import AS_LINES, json_remedy, parse_json, read_text
from climb_opt.text import shorten, storable

log = logging.getLogger(__name__)

Row = dict[str, Any]

# The prompts of lm-eval's own tasks of these names (0.4.13), so that scores compare with theirs.
_QUESTION = "Question: {{query}}\nAnswer:"
PROMPTS = {"arc_": _QUESTION, "piqa": _QUESTION, "hellaswag": "{{query}}"}

_SPLITS = {"test": "test", "train": "train"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "validation"
)


class FileTask(ConfigurableTask):  # type: ignore[misc]
    """lm-eval's multiple-choice task over rows in memory: accuracy, plain and by length.

    Args:
        name: names its components; its beginning chooses the prompt.
        prompt: another prompt, in lm-eval's Jinja.
        file: where the rows come from, for messages.
    """

    def __init__(
        self, name: str, rows: list[Row], prompt: str | None = None, *, file: Path | None = None
    ) -> None:
        known = (text for start, text in PROMPTS.items() if name.startswith(start))
        self._rows, self.file = rows, file
        config = {
            "task": name,
            "output_type": "multiple_choice",
            "validation_split": "validation",
            "doc_to_text": prompt or next(known, _QUESTION),
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True}
                for metric in ("acc", "acc_norm")
            ],
            "metadata": {"version": 1.0},
        }
        super().__init__(config=config)

    def download(self, dataset_kwargs: Any = None, **kwargs: Any) -> None:
        """The rows are at hand: nothing to fetch, nothing cached."""
        self.dataset = {"validation": datasets.Dataset.from_list(self._rows)}

    def doc_to_text(self, doc: Any, doc_to_text: Any = None) -> str:
        """The prompt: text even where all of it is a number, which lm-eval takes for a label."""
        template = doc_to_text or self.config.doc_to_text
        return str(doc[template] if template in doc else apply_template(template, doc))


def read_rows(path: Path, task: str = "", *, skip_bad: bool = False) -> list[Row]:
    """The rows of a file; choices lose the spaces around them (the prompt brings its own).

    Args:
        task: whose rows they are, for messages.
        skip_bad: leave out bad rows, and say how many, instead of raising.

    Raises:
        UserError: no such file, not JSON lines, or a row without question, answers or a label
            among them; the message names the line.
    """
    if not path.is_file():
        raise UserError(f"lm-eval: no evaluation file {str(path)!r}.")
    place = f"task {task}, {path.name}" if task else path.name
    rows: list[Row] = []
    bad: list[str] = []
    written: Counter[str] = Counter()
    for where, record in _records(read_text(path), place):
        try:
            with within(f"lm-eval: {where}"):
                row, how = _row(record)
            rows.append(row)
            written[how] += 1
        except UserError as error:
            if not skip_bad:
                raise
            bad.append(str(error))
    if not rows:
        raise UserError(bad[0] if bad else f"lm-eval: {str(path)!r} holds no rows.")
    if bad:
        log.warning("%s %d of %d rows are left out.", bad[0], len(bad), len(bad) + len(rows))
    for how, count in written.items():
        if how:
            log.info("lm-eval: %s: %d of %d labels are %s.", place, count, len(rows), how)
    return rows


def _records(text: str, place: str) -> Iterator[tuple[str, Any]]:
    """Where each row stands, and its text; of a file that is one list, the row itself."""
    if text.lstrip().startswith("["):
        try:
            yield from ((f"{place}, row {i}", row) for i, row in enumerate(parse_json(text), 1))
            return
        except ValueError:
            pass  # lines that are lists, or a list that is damaged: told line by line
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield f"{place}, line {number}", line


def _shown(value: Any) -> str:
    return shorten(repr(value), 80)


def split_of(path: Path) -> str:
    """The split that a file's name states: "train", "validation", "test", or "unstated"."""
    for word in reversed(re.split(r"[^a-z]+", path.name.lower())):
        if word in _SPLITS:
            return _SPLITS[word]
    return "unstated"


def _row(record: Any) -> tuple[Row, str]:
    """A row, and how its label was written if not as a place."""
    row = record
    if isinstance(record, str):
        try:
            row = parse_json(record)
        except ValueError as error:
            raise UserError(f"not JSON ({error}). {json_remedy(error)}") from None
    if not isinstance(row, dict):
        raise UserError(f"{_shown(row)} is not a JSON object. {AS_LINES}")
    found = {"query": _given(row, "query", "question"), "choices": row.get("choices")}
    found["label"] = _given(row, "label", "answerKey")
    for key, value in found.items():
        if value is None:
            raise UserError(f"{key!r} is missing; every row needs an answer.")
    query, choices, label = found.values()
    marks = None
    if isinstance(choices, dict) and {*choices} == {"text", "label"}:  # as ARC has them
        choices, marks = choices["text"], choices["label"]
    if not isinstance(query, str) or not query.strip():
        raise UserError(f"'query' must be text, but is {_shown(query)}.")
    texts = isinstance(choices, list) and all(isinstance(c, str) and c.strip() for c in choices)
    if not texts or len(choices) < 2:
        raise UserError(f"'choices' must be two or more texts, but is {_shown(choices)}.")
    choices = [c.strip() for c in choices]
    if marks is not None and (not isinstance(marks, list) or len(marks) != len(choices)):
        raise UserError(f"'choices' has {len(choices)} texts, but the labels {_shown(marks)}.")
    if any(storable(text) != text for text in (query, *choices)):
        raise UserError("it spells half a character (\\ud800 to \\udfff).")
    try:
        place, how = place_of(label, choices, marks)
    except BadRow as bad:
        raise UserError(f"'label' {bad}, but is {_shown(label)}.") from None
    return {"query": query.strip(), "choices": choices, "label": place}, how


def _given(row: Row, *keys: str) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)
