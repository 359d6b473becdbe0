"""Arrow files, streams and Feather, ORC and Parquet: the wanted columns, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from climb_opt.corpus.read.fields import column_names, columns_of, no_text
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.corpus.read.values import rows_of
from climb_opt.errors import first_line
from climb_opt.extras import need
from climb_opt.unpacking import Damaged

Batches = Iterator[tuple[float, Any]]  # each with the part of the file that it ends

ROWS = 256  # at once
# What a footer of Parquet may hold; pyarrow's own limits refuse those of very many columns.
LIMITS = {"thrift_string_size_limit": 2**31 - 1, "thrift_container_size_limit": 2**31 - 1}


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The rows, with the wanted columns only.

    Raises:
        UserError: there is no column of the text.
    """
    row = 0
    with _opened(source) as (columns, batches):
        for part, batch in batches(wanted(columns, options, source.name)):
            for start in range(0, batch.num_rows, ROWS):
                for record in rows_of(batch.slice(start, ROWS)):
                    yield row, record
                    row += 1
            progress(int(source.bytes * part))


def schema(source: Source) -> Any:
    """The columns, from the beginning or end of the file."""
    with _opened(source) as (columns, _):
        return columns


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


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Any, Callable[[list[str]], Batches]]]:
    """The columns of a file, and what gives its batches of some of them."""
    name, path, purpose = source.name, source.path, f"Reading {source.name}"
    if source.kind == "parquet":
        parquet = need("pyarrow.parquet", purpose)
        with faults(name, "Parquet"), open(path, "rb") as raw:
            file = parquet.ParquetFile(raw, **LIMITS)
            yield file.schema_arrow, partial(_of_parquet, file)
    elif path.lower().endswith(".orc"):
        with faults(name, "ORC"):
            file = need("pyarrow.orc", purpose).ORCFile(path)
            yield file.schema, partial(_of_orc, file)
    else:
        with faults(name, "Arrow"), need("pyarrow", purpose).OSFile(path) as raw:
            ipc, start = need("pyarrow.ipc", purpose), raw.read(6)
            raw.seek(0)
            file = ipc.open_file(raw) if start == b"ARROW1" else ipc.open_stream(raw)
            yield file.schema, partial(_of_arrow, file)


def _of_parquet(file: Any, names: list[str]) -> Batches:
    rows, row = max(1, file.metadata.num_rows), 0
    for batch in file.iter_batches(batch_size=ROWS, columns=names):
        row += batch.num_rows
        yield row / rows, batch


def _of_orc(file: Any, names: list[str]) -> Batches:
    for i in range(file.nstripes):
        yield (i + 1) / file.nstripes, file.read_stripe(i, names)


def _of_arrow(file: Any, names: list[str]) -> Batches:
    # Of a struct there is no part to be had.
    tops = [t for t in file.schema.names if any(f"{n}.".startswith(f"{t}.") for n in names)]
    count = getattr(file, "num_record_batches", None)  # None of a stream, 0 of an empty file
    for i, batch in enumerate(file if count is None else map(file.get_batch, range(count)), 1):
        yield i / (count or i), batch.select(tops)


ARROW = Reader(
    "Arrow, Feather and ORC, with a column of text",
    read,
    endings=(".arrow", ".feather", ".ipc", ".orc"),
    schema=schema,
    rank=1,
)
PARQUET = Reader("Parquet, with a column of text", read, (".parquet", ".pq"), schema=schema)
