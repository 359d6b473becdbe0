"""JSON: a document a line, a list of documents, or documents over several lines; also compressed.

A file whose only object holds one list of objects, as `{"data": [...]}`, is read as that list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from climb_opt.corpus.documents import Bad
from climb_opt.corpus.read.fields import ABSENT, value_at
from climb_opt.corpus.read.json_values import CONTROL, TooLong, values
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.errors import UserError
from climb_opt.reading import is_control, parse_json
from climb_opt.streams import lines, unpacking, utf8
from climb_opt.unpacking import Damaged

PACKED = ("", ".gz", ".zst", ".zstd", ".bz2", ".xz")  # what a format's ending may be followed by
_BLANK = (b" ", b"\t", b"\r", b"\n")


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The objects of a file; a `Bad` for a line or an element that is none."""
    rows = _rows(source, progress)
    begin = list(islice(rows, 1))
    found = begin[0][1] if begin else None
    if isinstance(found, Mapping) and value_at(found, options.text_field) is ABSENT:
        begin += islice(rows, 1)
        if len(begin) == 1 and (inner := _list_in(found, source.name)):
            yield from enumerate(inner)
            return
    yield from chain(begin, rows)


def _rows(source: Source, progress: Progress) -> Iterator[Row]:
    with open(source.path, "rb") as raw:
        stream = utf8(raw, source.name)
        with unpacking(source.name):
            while (first := stream.read(1)) in _BLANK:
                pass
    if first == b"[" or (first == b"{" and _spans_lines(source)):
        with open(source.path, "rb") as raw:
            for row, found in enumerate(values(utf8(raw, source.name), source.name)):
                progress(raw.tell())
                yield row, found
        return
    with open(source.path, "rb") as raw:
        row = 0
        for line in lines(raw, source.name):
            if not line.strip():
                row += 1
                continue
            progress(raw.tell())
            for found in _of_line(line, f"{source.name}:{row + 1}"):
                yield row, found
                row += 1


def _of_line(line: bytes, where: str) -> list[Any]:
    """What a line holds: one record, or several, where lines of it end in \\r alone."""
    try:
        return [parse_json(line.decode("utf-8"))]
    except UnicodeDecodeError:
        return [Bad("not UTF-8", where)]
    except json.JSONDecodeError as error:
        parts = [part for part in line.split(b"\r") if part.strip()]
        if len(parts) > 1:
            return [record for part in parts for record in _of_line(part, where)]
        if is_control(error) and error.pos < len(error.doc.rstrip()):
            return [Bad(CONTROL, f"{where}, byte {len(error.doc[: error.pos].encode()) + 1}")]
        return [Bad("not JSON", where)]
    except ValueError as error:
        return [Bad(str(error), where)]


def _spans_lines(source: Source) -> bool:
    """Whether the first object goes on in the next line, and is whole."""
    with open(source.path, "rb") as raw:
        first = next((line for line in lines(raw, source.name) if line.strip()), b"")
    try:
        json.loads(first)
        return False
    except (ValueError, RecursionError) as error:
        if not isinstance(error, json.JSONDecodeError) or error.pos < len(error.doc.rstrip()):
            return False
    with open(source.path, "rb") as raw:
        try:
            return isinstance(next(values(utf8(raw, source.name), source.name)), Mapping)
        except TooLong:
            raise
        except Damaged:
            return False


def _list_in(record: Mapping[Any, Any], name: str, above: str = "") -> list[Any] | None:
    """The one list of objects that an object holds, however deep.

    Raises:
        UserError: there are several.
    """
    lists = {
        key: value
        for key, value in record.items()
        if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value)
    }
    if len(lists) > 1:
        raise UserError(
            f"{name} is one object with several lists of objects ({', '.join(map(repr, lists))}); "
            f"write the one that is meant as lines: "
            f"jq -c '.{above}[{json.dumps(next(iter(lists)))}][]' FILE > NEW.jsonl"
        )
    inner = {key: value for key, value in record.items() if isinstance(value, Mapping)}
    if not lists and len(inner) == 1:
        ((key, value),) = inner.items()
        return _list_in(value, name, f"{above}[{json.dumps(key)}]")
    return next(iter(lists.values()), None)


JSONL = Reader(
    "JSON lines, plain or .gz, .zst, .bz2, .xz",
    read,
    endings=(
        *(f"{end}{z}" for z in PACKED for end in (".jsonl", ".ndjson")),
        *(f".json{z}" for z in PACKED if z),  # as C4 has them
    ),
)
# Called .json: a list of documents, an object that holds one, or a document each.
JSON = Reader(
    "JSON: a list of documents, or a document over several lines", read, (".json",), rank=2
)
