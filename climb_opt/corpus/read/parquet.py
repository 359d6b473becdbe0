"""Parquet: only the columns that are asked for are read, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from climb_opt.corpus.read.fields import column_names, columns_of, hint
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.corpus.read.values import rows_of
from climb_opt.errors import UserError, first_line
from climb_opt.extras import need
from climb_opt.unpacking import Damaged

# What a footer may hold; pyarrow's own limits refuse those of files with very many columns.
LIMITS = {"thrift_string_size_limit": 2**31 - 1, "thrift_container_size_limit": 2**31 - 1}


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The rows, with the wanted columns only.

    Raises:
        UserError: there is no column of the text.
    """
    parquet = need("pyarrow.parquet", f"Reading {source.name}", "climb-opt[corpus]")
    arrow = need("pyarrow", f"Reading {source.name}")
    try:
        with open(source.path, "rb") as raw, parquet.ParquetFile(raw, **LIMITS) as file:
            schema = file.schema_arrow
            if not columns_of(schema, [options.text_field], source.name):
                raise UserError(
                    f"{source.name} has no column {options.text_field!r}. "
                    f"{hint(options.text_field, column_names(schema))} "
                    "Name the text's with --text-field."
                )
            wanted = [options.text_field, options.id_field, *options.fields]
            columns = columns_of(schema, wanted, source.name)
            rows, total, row = max(1, file.metadata.num_rows), source.bytes, 0
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for record in rows_of(batch):
                    yield row, record
                    row += 1
                progress(total * row // rows)
    except (arrow.ArrowNotImplementedError, arrow.ArrowMemoryError) as error:
        raise Damaged(
            f"{source.name} is more than this pyarrow reads ({first_line(error)})"
        ) from None
    except (arrow.ArrowException, OSError) as error:
        reason = first_line(error)
        raise Damaged(f"{source.name} is damaged or not Parquet ({reason})") from None


def schema(source: Source) -> Any:
    """The columns, from the file's footer."""
    parquet = need("pyarrow.parquet", f"Reading {source.name}", "climb-opt[corpus]")
    arrow = need("pyarrow", f"Reading {source.name}")
    try:
        with open(source.path, "rb") as raw:
            return parquet.ParquetFile(raw, **LIMITS).schema_arrow
    except (arrow.ArrowException, OSError) as error:
        raise Damaged(str(error)) from None


PARQUET = Reader("Parquet, with a column of text", read, (".parquet", ".pq"), schema=schema)
