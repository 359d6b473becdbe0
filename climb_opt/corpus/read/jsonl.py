"""JSON lines: a document a line, plain or compressed."""

from __future__ import annotations

import json
from collections.abc import Iterator

from climb_opt.corpus.documents import Bad
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.reading import lines, parse_json

_LINES = (".jsonl", ".ndjson", ".json")
_PACKED = (".gz", ".zst", ".zstd", ".bz2", ".xz")


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The lines that hold something; a `Bad` for one that is no JSON."""
    with open(source.path, "rb") as raw:
        for row, line in enumerate(lines(raw, source.name)):
            if not line.strip():
                continue
            progress(raw.tell())
            where = f"{source.name}:{row + 1}"
            try:
                yield row, parse_json(line.decode("utf-8"))
            except UnicodeDecodeError:
                yield row, Bad("not UTF-8", where)
            except json.JSONDecodeError:
                yield row, Bad("not JSON", where)
            except ValueError as error:
                yield row, Bad(str(error), where)


JSONL = Reader(
    "JSON lines, plain or .gz, .zst, .bz2, .xz",
    read,
    endings=(*_LINES[:2], *(f"{end}{z}" for z in _PACKED for end in _LINES)),
)
