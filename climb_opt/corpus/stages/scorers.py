"""What gives a document a number, by its specification KIND:WHERE.

fasttext:model.bin       labels __label__-1 .. __label__5, as NVIDIA publishes them
sklearn:model.joblib     a pipeline of scikit-learn; unpickling runs code: trust it
column:int_score         a field the documents already have
my_package.scorers:fn    a function of a list of texts that returns a number for each
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import lookup
from climb_opt.corpus.documents import Document
from climb_opt.errors import UserError, first_line
from climb_opt.extras import need

Scorer = Callable[[Sequence[Document]], Any]
LARGEST = float(np.finfo(np.float32).max)


def column_of(spec: str) -> str | None:
    """The document field that a specification reads, if it is a column."""
    kind, _, where = spec.partition(":")
    return where if kind == "column" else None


@lru_cache(maxsize=8)  # models are large and blocks are many
def load_scorer(spec: str) -> Scorer:
    """The scorer of a specification KIND:WHERE."""
    kind, _, where = spec.partition(":")
    if kind == "column":
        return partial(_column, where)
    if kind in ("fasttext", "sklearn"):
        if not Path(where).is_file():
            raise UserError(f"Scorer {spec!r}: no file {where!r}.")
        return _fasttext(where) if kind == "fasttext" else _sklearn(where)
    return partial(_called, spec, lookup.find("scorer", spec))


def _called(spec: str, function: Callable[[list[str]], Any], documents: Sequence[Document]) -> Any:
    try:
        return function([d.text for d in documents])
    except Exception as error:  # the user's own code: anything
        raise UserError(
            f"Scorer {spec!r} raised {error!r}, on documents {documents[0].id!r} to "
            f"{documents[-1].id!r}."
        ) from error


def _column(name: str, documents: Sequence[Document]) -> list[float]:
    return [number_of(d.fields.get(name)) for d in documents]


def number_of(value: Any) -> float:
    """The value as a number that a score can be, or NaN."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
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
