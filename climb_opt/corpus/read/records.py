"""Sources -> documents: a reader gives rows, `read` makes `Document | Bad` of them.

What cannot be read is a `Bad` with its reason; stages/ingest.py counts them and decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from climb_opt import lookup
from climb_opt.corpus.documents import DOMAIN_FIELD, Bad, Document
from climb_opt.corpus.read.fields import ABSENT, value_at
from climb_opt.corpus.read.readers import reader_of
from climb_opt.corpus.read.source import Progress, ReadOptions, Record, Row, Source
from climb_opt.corpus.read.values import Spelled, is_nothing, plain
from climb_opt.errors import Interrupted, UserError, first_line
from climb_opt.text import shorten
from climb_opt.tokenizer import load_tokenizer
from climb_opt.unpacking import Damaged

LONGEST = 60  # characters of a value in a message
EMPTY = "empty"  # the reason of a document without text, however that is said


def read(
    source: Source, options: ReadOptions, progress: Progress = lambda _: None
) -> Iterator[Record]:
    """The records of a source. `progress` is told how many bytes of the input were consumed.

    Raises:
        Damaged: the file cannot be read further.
        UserError: the options cannot fit the file (no such column).
    """
    sides = {name: _side(name, file) for name, file in source.extra.get("sides", {}).items()}
    rows = 0
    for row, found in rows_in(source, options, progress):
        ready = isinstance(found, (Document, Bad))
        record: Record = found if ready else document_from(found, source, row, options)
        if isinstance(record, Document) and (sides or source.fields):
            added = _side_values(sides, row, source)
            record = replace(record, fields={**record.fields, **added, **source.fields})
        yield record
        rows = row + 1
    for name, values in sides.items():
        if rows != len(values):
            raise UserError(_unequal(source, name, values, f"{rows} documents"))


def rows_in(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """What a source's reader gives, before documents are made of it.

    Raises:
        Damaged, UserError: as `read`.
    """
    reader = reader_of(source.kind)
    assert reader.read is not None  # or it would have given no source of its own kind
    ours = source.kind in lookup.KINDS["reader"]
    read = reader.read if ours else partial(_checked, reader.read)
    try:
        yield from read(source, options, progress)
    except OSError as error:  # no permission, gone meanwhile, a disk that fails
        reason = error.strerror or first_line(error)
        raise Damaged(f"{source.name} cannot be read ({reason})") from None


def _checked(
    read: Callable[..., Any], source: Source, options: ReadOptions, progress: Progress
) -> Iterator[Row]:
    """The rows of someone else's reader; whatever it does wrong is said with its name."""
    where = f"Reader {source.kind!r}"
    count, last = 0, -1
    try:
        for row in read(source, options, progress):
            if not _is_row(row):
                raise UserError(
                    f"{where} must yield pairs of a number and a mapping of fields, or a Bad, but "
                    f"yielded {shorten(repr(row), LONGEST)} from {source.name}."
                )
            if row[0] <= last:  # documents without an id are called by it
                came = f"{row[0]} came after {last}" if count else f"the first is {row[0]}"
                raise UserError(
                    f"{where} must number its rows from 0 upwards, each with a number of its own, "
                    f"but {came} in {source.name}. `enumerate` does it."
                )
            yield row
            count, last = count + 1, row[0]
    except (UserError, Interrupted, OSError):
        raise
    except (Exception, SystemExit) as error:  # the user's own code: anything
        raise UserError(
            f"{where} raised {error!r} in {source.name}, after {count} documents."
        ) from error


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, tuple)
        and len(row) == 2
        and isinstance(row[0], int)
        and isinstance(row[1], (Mapping, Bad, Document))
    )


def document_from(record: Any, source: Source, row: int, options: ReadOptions) -> Record:
    """A document from a mapping of fields, or what is wrong with it."""
    where = f"{source.name}:{row + 1}"
    if not isinstance(record, Mapping):
        return Bad("not a JSON object", where)
    text = value_at(record, options.text_field)
    if text is ABSENT:
        return Bad(f"no field {options.text_field!r}", where)
    if is_nothing(text):
        return Bad(EMPTY, where)
    if options.detokenize is not None:
        text = _detokenised(text, options.detokenize)
    if not isinstance(text, str) or isinstance(text, Spelled):
        kind = getattr(text, "kind", type(text).__name__)
        return Bad(f"field {options.text_field!r} is {kind}, not text", where)
    if not text.strip():
        return Bad(EMPTY, where)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair
        return Bad("not UTF-8", where)
    kept: dict[str, Any] = {}
    for name in (options.id_field, *options.fields):
        value = value_at(record, name)
        try:
            if value is not ABSENT:
                kept[name] = plain(value)
        except TypeError as error:
            return Bad(f"field {name!r} is {error}, which JSON cannot hold", where)
        except RecursionError:
            return Bad(f"field {name!r} is nested too deeply", where)
    identity = kept.get(options.id_field)
    if options.id_field not in options.fields:
        kept.pop(options.id_field, None)
    named = identity is not None and identity != ""
    return Document(str(identity) if named else where, text, kept, named)


def _side(name: str, file: str) -> np.ndarray:
    try:
        values: np.ndarray = np.load(file, mmap_mode="r")
        if values.ndim == 1:
            return values
        reason = f"it has the shape {values.shape}"
    except (OSError, ValueError, EOFError) as error:
        reason = first_line(error)
    raise UserError(f"Side file {file!r} ({name}) does not hold one value a document: {reason}.")


def _side_values(sides: Mapping[str, Any], row: int, source: Source) -> dict[str, Any]:
    added = {}
    for name, values in sides.items():
        if row >= len(values):
            raise UserError(_unequal(source, name, values, "more documents"))
        value = plain(values[row].item())
        added[name] = str(value) if name == DOMAIN_FIELD and value is not None else value
    return added


def _unequal(source: Source, name: str, values: Any, there: str) -> str:
    return (
        f"{source.name}: its side file {name} holds {len(values)} values, but there are {there}: "
        "they do not belong together."
    )


def _detokenised(tokens: Any, tokenizer: str) -> Any:
    """The text of tokens (ClimbLab ships GPT-2's); anything else is returned as it is."""
    listed = hasattr(tokens, "__len__") and not isinstance(tokens, str)
    if not listed or not all(isinstance(token, int) for token in tokens):
        return tokens
    try:
        return _tokenizer(tokenizer).decode(list(tokens), skip_special_tokens=True)
    except OverflowError:  # negative, or beyond 32 bits
        return tokens


_tokenizer = lru_cache(maxsize=2)(load_tokenizer)
