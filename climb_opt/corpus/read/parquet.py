"""Parquet: only the columns that are asked for are read, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from climb_opt.corpus.read.arrow import ROWS, faults, wanted
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.corpus.read.values import rows_of
from climb_opt.extras import need

# What a footer may hold; pyarrow's own limits refuse those of files with very many columns.
LIMITS = {"thrift_string_size_limit": 2**31 - 1, "thrift_container_size_limit": 2**31 - 1}


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The rows, with the wanted columns only.

    Raises:
        UserError: there is no column of the text.
    """
    parquet = need("pyarrow.parquet", f"Reading {source.name}", "climb-opt[corpus]")
    with (
        faults(source.name, "Parquet"),
        open(source.path, "rb") as raw,
        parquet.ParquetFile(raw, **LIMITS) as file,
    ):
        columns = wanted(file.schema_arrow, options, source.name)
        rows, total, row = max(1, file.metadata.num_rows), source.bytes, 0
        for batch in file.iter_batches(batch_size=ROWS, columns=columns):
            for record in rows_of(batch):
                yield row, record
                row += 1
            progress(total * row // rows)


def schema(source: Source) -> Any:
    """The columns, from the file's footer."""
    parquet = need("pyarrow.parquet", f"Reading {source.name}", "climb-opt[corpus]")
    with faults(source.name, "Parquet"), open(source.path, "rb") as raw:
        return parquet.ParquetFile(raw, **LIMITS).schema_arrow


PARQUET = Reader("Parquet, with a column of text", read, (".parquet", ".pq"), schema=schema)
