"""Tables of text, parted by commas, semicolons or tabs, with the names of the columns above."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator

from climb_opt.corpus.documents import Bad
from climb_opt.corpus.read.fields import no_text, repeated
from climb_opt.corpus.read.jsonl import PACKED
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.reading import table
from climb_opt.streams import unpacking, utf8


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The rows below the header; an empty cell is no value.

    Raises:
        UserError: there is no column of the text, or a column is there twice.
    """
    with open(source.path, "rb") as raw, unpacking(source.name):
        # A byte that is no UTF-8 is the fault of one row.
        text = io.TextIOWrapper(utf8(raw, source.name), "utf-8", "surrogateescape", newline="")
        rows = table(text, source.name)
        _, header = next(rows, (0, []))
        names = [name.strip() for name in header]
        _check(names, options, source.name)
        for row, (line, cells) in enumerate(rows):
            progress(raw.tell())
            if len(cells) > len(names) and not any(cells[len(names) :]):
                cells = cells[: len(names)]
            if len(cells) == len(names):
                yield row, {n: cell or None for n, cell in zip(names, cells, strict=True)}
            elif cells:
                place = f"{source.name}:{row + 1} (line {line})"
                yield row, Bad("more or fewer cells than columns", place)


def _check(names: list[str], options: ReadOptions, where: str) -> None:
    wanted = (options.text_field, options.id_field, *options.fields)
    for name, count in Counter(names).items():
        if count > 1 and name in wanted:
            raise repeated(where, name, count)
    if options.text_field not in names:
        raise no_text(where, options.text_field, names)


TABLES = Reader(
    "CSV or TSV, with a column of text; plain or .gz, .zst, .bz2, .xz",
    read,
    endings=tuple(f"{end}{z}" for z in PACKED for end in (".csv", ".tsv")),
    rank=1,
)
