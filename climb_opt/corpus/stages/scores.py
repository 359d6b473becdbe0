"""Stage `score-NAME`: a number for each document, by a scorer that is named NAME=KIND:WHERE."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, read_block
from climb_opt.corpus.files import load_json, save_json
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage
from climb_opt.corpus.stages.ingest import MAX_BAD
from climb_opt.corpus.stages.roles import TRAIN
from climb_opt.corpus.stages.scorers import column_of, load_scorer, number_of
from climb_opt.errors import UserError
from climb_opt.shards import file_digest
from climb_opt.text import shorten

logger = logging.getLogger(__name__)

BATCH = 1024
LONGEST = 60  # characters of a value in a message


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
