"""Stage `score-NAME`: a number for each document, by a scorer that is named NAME=KIND:WHERE.

fasttext:model.bin       labels __label__-1 .. __label__5, as NVIDIA publishes them
sklearn:model.joblib     a pipeline of scikit-learn; unpickling runs code: trust it
column:int_score         a field the documents already have
my_package.scorers:fn    a function of a list of texts that returns a number for each
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import lookup
from climb_opt.corpus.documents import Block, Document, read_block
from climb_opt.corpus.files import load_json, save_json
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage
from climb_opt.corpus.stages.ingest import MAX_BAD
from climb_opt.corpus.stages.roles import TRAIN
from climb_opt.errors import UserError, first_line
from climb_opt.extras import need
from climb_opt.shards import file_digest
from climb_opt.text import shorten
from climb_opt.written import float_or_nan

logger = logging.getLogger(__name__)

FILES = ("fasttext", "sklearn")  # kinds whose WHERE is a file
BATCH = 1024
LONGEST = 60  # characters of a value in a message
LARGEST = float(np.finfo(np.float32).max)

Scorer = Callable[[Sequence[Document]], Any]


def parse_scorer(text: str) -> tuple[str, str]:
    """`NAME=KIND:WHERE` -> name and specification."""
    name, sign, spec = text.partition("=")
    if not sign or not name.isidentifier() or ":" not in spec:
        raise UserError(
            f"--score {text!r}: expected NAME=KIND:WHERE, e.g. quality=fasttext:model.bin, "
            "quality=sklearn:model.joblib, quality=column:int_score, quality=my_module:function."
        )
    return name, spec


def identity(spec: str) -> list[str]:
    """What scores depend on: the specification, and a model file's content."""
    file = Path(spec.partition(":")[2])
    return [spec, file_digest(file)] if file.is_file() else [spec]


def score(
    stage: Stage, documents: Stage, blocks: Sequence[Block], keep: Stage, name: str, spec: str
) -> None:
    """Write `<block>.npy`: float32 scores, NaN for documents that are not trained on or have none.

    Raises:
        UserError: the scorer cannot be loaded, or returns something other than a number per text;
            more than a tenth of the documents hold something else in the column.
    """
    task = _Scoring(stage.path, documents.path, keep.path, name, spec)
    stage.over(blocks, task, marker=".npy", how=How(processes=True))
    if column_of(spec) is not None:
        _tell_odd(stage, blocks, f"--score {name}={spec}")


def _tell_odd(stage: Stage, blocks: Sequence[Block], option: str) -> None:
    files = [stage.file(f"{block.name}.odd.json") for block in blocks]
    odd = [value for file in files if file.exists() for value in load_json(file)]
    documents = sum(block.documents for block in blocks)
    said = f"{len(odd)} of {documents} documents hold no number, e.g. {odd[0]!r}" if odd else ""
    if len(odd) > MAX_BAD * documents:
        raise UserError(f"{option}: {said}. Name a field of numbers.")
    if odd:
        logger.warning("%s: %s; the means are of the others.", option, said)


@dataclass(frozen=True)
class _Scoring:
    """The task of a block."""

    folder: Path
    documents: Path
    keep: Path
    name: str
    spec: str

    def __call__(self, block: Block, advance: Advance) -> np.ndarray:
        scorer = load_scorer(self.spec)
        roles = np.load(self.keep / f"{block.name}.role.npy")
        scores = np.full(block.documents, np.nan, dtype=np.float32)
        rows = np.flatnonzero(roles == TRAIN)
        trained = read_block(self.documents, block.name, roles == TRAIN)
        field, odd = column_of(self.spec), []
        for low in range(0, len(rows), BATCH):
            batch = list(islice(trained, BATCH))
            found = _numbers(scorer(batch), len(batch), self.name, self.spec)
            scores[rows[low : low + BATCH]] = found
            advance(len(batch))
            values = [d.fields.get(field) for d in batch] if field is not None else []
            odd += [v for v in values if v is not None and math.isnan(number_of(v))]
        if odd:
            shown = [shorten(str(v), LONGEST) for v in odd]
            save_json(self.folder / f"{block.name}.odd.json", shown)
        return scores


def _numbers(values: Any, count: int, name: str, spec: str) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise ValueError
        array = array.astype(np.float32)
    except (ValueError, TypeError):
        sample = repr(values[0] if isinstance(values, Sequence) and values else values)
        raise UserError(
            f"Scorer {name}={spec} must return a number for each text, but returned {sample}."
        ) from None
    if array.shape != (count,):
        raise UserError(
            f"Scorer {name}={spec} returned {array.shape} values for {count} texts; "
            f"({count},) are needed."
        )
    unscored = np.isnan(array) & (column_of(spec) is not None)  # documents without the field
    if not (np.isfinite(array) | unscored).all():
        raise UserError(f"Scorer {name}={spec} returned scores that are not finite.")
    return array


# --- what gives the numbers -----------------------------------------------------------------------


def column_of(spec: str) -> str | None:
    """The document field that a specification reads, if it is a column."""
    kind, _, where = spec.partition(":")
    return where if kind == "column" else None


def check_scorer(spec: str) -> None:
    """Raise a `UserError` where a scorer's file or function is not there; no model is loaded."""
    kind, _, where = spec.partition(":")
    if kind in FILES and not Path(where).is_file():
        raise UserError(f"Scorer {spec!r}: no file {where!r}.")
    if kind not in ("column", *FILES):
        lookup.find("scorer", spec)


@lru_cache(maxsize=8)  # models are large and blocks are many
def load_scorer(spec: str) -> Scorer:
    """The scorer of a specification KIND:WHERE."""
    check_scorer(spec)
    kind, _, where = spec.partition(":")
    if kind == "column":
        return partial(_column, where)
    if kind in FILES:
        return _fasttext(where) if kind == "fasttext" else _sklearn(where)
    return partial(_called, spec, lookup.find("scorer", spec))


def _called(spec: str, function: Callable[[list[str]], Any], documents: Sequence[Document]) -> Any:
    try:
        return function([d.text for d in documents])
    except (Exception, SystemExit) as error:  # the user's own code: anything
        raise UserError(
            f"Scorer {spec!r} raised {error!r}, on documents {documents[0].id!r} to "
            f"{documents[-1].id!r}."
        ) from error


def _column(name: str, documents: Sequence[Document]) -> list[float]:
    return [number_of(d.fields.get(name)) for d in documents]


def number_of(value: Any) -> float:
    """The value as a number that a score can be, or NaN."""
    number = float_or_nan(value)
    return number if abs(number) <= LARGEST else math.nan


def _fasttext(path: str) -> Scorer:
    fasttext = need("fasttext", "A fastText scorer", "fasttext-numpy2")
    try:
        model = fasttext.load_model(path)
    except ValueError as error:
        raise UserError(f"Scorer fasttext:{path} is not a fastText model: {error}") from None

    def scores(documents: Sequence[Document]) -> list[float]:
        # A list, always: with numpy 2 a single text raises (docs/notes/corpus.md#scores).
        labels = model.predict([fasttext_text(d.text) for d in documents])[0]
        return [_label_value(found[0]) for found in labels]

    return scores


def fasttext_text(text: str) -> str:
    """A text as NVIDIA's classifiers expect it: one line, spaced punctuation, lower case."""
    text = text.strip().replace("\n", " <newline> ")
    text = re.sub(r"([.!?,'/()])", r" \1 ", text).lower()
    return re.sub(r" +", " ", text).strip()


def _label_value(label: str) -> float:
    value = label.removeprefix("__label__")
    if math.isnan(number_of(value)):
        raise UserError(
            f"A fastText scorer's labels must be numbers (__label__3), but one is {label!r}."
        )
    return float(value)


def _sklearn(path: str) -> Scorer:
    joblib = need("joblib", "A scikit-learn scorer")
    try:
        model = joblib.load(path)
    except Exception as error:  # unpickling runs whatever code the file names
        raise UserError(
            f"Scorer sklearn:{path} cannot be loaded: {first_line(error)}. Is it a whole file of "
            "joblib.dump, made with the scikit-learn that is installed?"
        ) from None

    def scores(documents: Sequence[Document]) -> Any:
        texts = [d.text for d in documents]
        if hasattr(model, "predict_proba") and len(getattr(model, "classes_", [])) == 2:
            return model.predict_proba(texts)[:, 1]  # probability of the class that sorts last
        return model.predict(texts)

    return scores
