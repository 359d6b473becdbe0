"""Arrow's own files, streams and Feather, and ORC: the wanted columns, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from climb_opt.corpus.read.fields import column_names, columns_of, no_text
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.corpus.read.values import rows_of
from climb_opt.errors import first_line
from climb_opt.extras import need
from climb_opt.unpacking import Damaged

ROWS = 256  # at once


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The rows, with the wanted columns only.

    Raises:
        UserError: there is no column of the text.
    """
    with faults(source.name, "Arrow" if not _is_orc(source) else "ORC"):
        names = wanted(_schema(source), options, source.name)
        row = 0
        for part, parts, batch in _batches(source, names):
            for start in range(0, batch.num_rows, ROWS):
                for record in rows_of(batch.slice(start, ROWS)):
                    yield row, record
                    row += 1
            progress(source.bytes * (part + 1) // parts)


def wanted(schema: Any, options: ReadOptions, where: str) -> list[str]:
    """The columns to read.

    Raises:
        UserError: there is no column of the text.
    """
    if not columns_of(schema, [options.text_field], where):
        raise no_text(where, options.text_field, column_names(schema))
    return columns_of(schema, [options.text_field, options.id_field, *options.fields], where)


@contextmanager
def faults(name: str, kind: str) -> Iterator[None]:
    """Errors of pyarrow about the file `name` as its damage."""
    arrow = need("pyarrow", f"Reading {name}")
    try:
        yield
    except (arrow.ArrowNotImplementedError, arrow.ArrowMemoryError) as error:
        raise Damaged(f"{name} is more than this pyarrow reads ({first_line(error)})") from None
    except (arrow.ArrowException, OSError) as error:
        raise Damaged(f"{name} is damaged or not {kind} ({first_line(error)})") from None


def schema(source: Source) -> Any:
    """The columns, from the beginning or end of the file."""
    with faults(source.name, "Arrow" if not _is_orc(source) else "ORC"):
        return _schema(source)


def _is_orc(source: Source) -> bool:
    return source.path.lower().endswith(".orc")


def _schema(source: Source) -> Any:
    if _is_orc(source):
        return need("pyarrow.orc", f"Reading {source.name}").ORCFile(source.path).schema
    with need("pyarrow", f"Reading {source.name}").OSFile(source.path) as raw:
        return _opened(raw, source).schema


def _opened(raw: Any, source: Source) -> Any:
    ipc = need("pyarrow.ipc", f"Reading {source.name}")
    start = raw.read(6)
    raw.seek(0)
    return ipc.open_file(raw) if start == b"ARROW1" else ipc.open_stream(raw)


def _batches(source: Source, names: list[str]) -> Iterator[tuple[int, int, Any]]:
    if _is_orc(source):
        file = need("pyarrow.orc", f"Reading {source.name}").ORCFile(source.path)
        for i in range(file.nstripes):
            yield i, file.nstripes, file.read_stripe(i, names)
        return
    with need("pyarrow", f"Reading {source.name}").OSFile(source.path) as raw:
        file = _opened(raw, source)
        # Of a struct there is no part to be had.
        tops = [t for t in file.schema.names if any(f"{n}.".startswith(f"{t}.") for n in names)]
        count = getattr(file, "num_record_batches", 0)
        for i in range(count):
            yield i, count, file.get_batch(i).select(tops)
        for batch in file if not count else ():
            yield 0, 1, batch.select(tops)


ARROW = Reader(
    "Arrow, Feather and ORC, with a column of text",
    read,
    endings=(".arrow", ".feather", ".ipc", ".orc"),
    schema=schema,
    rank=1,
)
