"""Arrow files, streams and Feather, ORC and Parquet: the wanted columns, a few rows at a time."""

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
# What a footer of Parquet may hold; pyarrow's own limits refuse those of very many columns.
LIMITS = {"thrift_string_size_limit": 2**31 - 1, "thrift_container_size_limit": 2**31 - 1}


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


@contextmanager
def _parquet(source: Source) -> Iterator[Any]:
    parquet = need("pyarrow.parquet", f"Reading {source.name}")
    with (
        faults(source.name, "Parquet"),
        open(source.path, "rb") as raw,
        parquet.ParquetFile(raw, **LIMITS) as file,
    ):
        yield file


def read_parquet(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The rows, with the wanted columns only.

    Raises:
        UserError: there is no column of the text.
    """
    with _parquet(source) as file:
        columns = wanted(file.schema_arrow, options, source.name)
        rows, row = max(1, file.metadata.num_rows), 0
        for batch in file.iter_batches(batch_size=ROWS, columns=columns):
            for record in rows_of(batch):
                yield row, record
                row += 1
            progress(source.bytes * row // rows)


def parquet_schema(source: Source) -> Any:
    """The columns, from the file's footer."""
    with _parquet(source) as file:
        return file.schema_arrow


ARROW = Reader(
    "Arrow, Feather and ORC, with a column of text",
    read,
    endings=(".arrow", ".feather", ".ipc", ".orc"),
    schema=schema,
    rank=1,
)
PARQUET = Reader(
    "Parquet, with a column of text", read_parquet, (".parquet", ".pq"), schema=parquet_schema
)
