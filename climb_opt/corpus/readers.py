"""Inputs -> documents: one function per format gives rows, `read` makes `Document | Bad` of them.

    docs/*.jsonl.zst            JSON lines, plain or compressed (.gz, .zst, .bz2, .xz)
    web/*.parquet               a text column
    notes/                      text files (.txt, .md, .rst): one document each
    hf:name@config#split        a Hugging Face dataset of the hub (streamed), or hf:folder on disk
    domains:folder              one sub-folder per domain; Curator's `centroid=N/` is recognised
    weborganizer:folder#clusters-k24    documents/ with side files beside it
    installed:                  text that Python installations hold (corpus/installed.py)

What cannot be read is a `Bad` with its reason; ingest.py counts them and decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from climb_opt.corpus.detokenise import detokenise
from climb_opt.corpus.documents import DOMAIN_FIELD, Bad, Document
from climb_opt.corpus.fields import ABSENT, column_names, columns_of, hint, value_at
from climb_opt.corpus.need import need
from climb_opt.errors import UserError
from climb_opt.reading import Damaged, decode, lines, parse_json
from climb_opt.text import storable, storable_value

Record = Document | Bad
Row = tuple[int, Any]  # its number from 0, and its fields, a Bad, or a ready Document


@dataclass(frozen=True)
class ReadOptions:
    """Where the text, the id and further fields of a document are (see corpus/fields.py)."""

    text_field: str = "text"
    id_field: str = "id"
    fields: tuple[str, ...] = ()  # kept beside the text: for targets, scorers, labels
    detokenize: str | None = None  # the tokenizer, where the text field holds tokens


@dataclass(frozen=True)
class Source:
    """One input that is read by one process from start to end.

    `fields` are added to every one of its documents.
    """

    kind: str
    path: str
    name: str  # what its documents are called when they have no id, and messages call it
    bytes: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)  # what the kind's reader needs
    version: str = ""  # changes when the input changes

    @property
    def documents(self) -> int:
        """Not known before it is read."""
        return 0


def read(
    source: Source, options: ReadOptions, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Record]:
    """The records of a source. `progress` is told how many bytes of the input were consumed.

    Raises:
        Damaged: the file cannot be read further.
        UserError: the options cannot fit the file (no such column).
    """
    sides = {name: _side(name, file) for name, file in source.extra.get("sides", {}).items()}
    rows = 0
    for row, found in READERS[source.kind](source, options, progress):
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


def document_from(record: Any, source: Source, row: int, options: ReadOptions) -> Record:
    """A document from a mapping of fields, or what is wrong with it."""
    where = f"{source.name}:{row + 1}"
    if not isinstance(record, Mapping):
        return Bad("not a JSON object", where)
    text = value_at(record, options.text_field)
    if text is ABSENT:
        return Bad(f"no field {options.text_field!r}", where)
    if options.detokenize is not None:
        text = detokenise(text, options.detokenize)
    if not isinstance(text, str):
        return Bad(f"field {options.text_field!r} is {type(text).__name__}, not text", where)
    if not text.strip():
        return Bad("empty", where)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair
        return Bad("not UTF-8", where)
    identity = value_at(record, options.id_field)
    named = identity is not ABSENT and identity is not None
    kept = {name: value_at(record, name) for name in options.fields}
    fields = {name: storable_value(value) for name, value in kept.items() if value is not ABSENT}
    return Document(storable(str(identity)) if named else where, text, fields, named)


# --- formats ----------------------------------------------------------------------------------


def read_jsonl(
    source: Source, options: ReadOptions, progress: Callable[[int], None]
) -> Iterator[Row]:
    """JSON lines, plain or compressed."""
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


def read_parquet(
    source: Source, options: ReadOptions, progress: Callable[[int], None]
) -> Iterator[Row]:
    """Parquet: only the columns that are asked for are read, a few rows at a time."""
    parquet = need("pyarrow.parquet", f"Reading {source.name}", "climb-opt[corpus]")
    arrow = need("pyarrow", f"Reading {source.name}")
    try:
        with open(source.path, "rb") as raw, parquet.ParquetFile(raw) as file:
            schema = file.schema_arrow
            if not columns_of(schema, [options.text_field]):
                raise UserError(
                    f"{source.name} has no column {options.text_field!r}. "
                    f"{hint(options.text_field, column_names(schema))} "
                    "Name the text's with --text-field."
                )
            wanted = [options.text_field, options.id_field, *options.fields]
            columns = columns_of(schema, wanted)
            rows, total, row = max(1, file.metadata.num_rows), source.bytes, 0
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for record in _rows_of(batch, arrow):
                    yield row, record
                    row += 1
                progress(total * row // rows)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise Damaged(f"{source.name} is damaged or not Parquet ({reason})") from None


def _rows_of(batch: Any, arrow: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # a string column may hold any bytes; find the row that does
        as_bytes = [
            column.cast(arrow.binary()).to_pylist()
            if arrow.types.is_string(column.type)
            else column.to_pylist()
            for column in batch.columns
        ]
        for values in zip(*as_bytes, strict=True):
            decoded = [
                v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else v for v in values
            ]
            yield dict(zip(batch.schema.names, decoded, strict=True))


def read_texts(
    source: Source, options: ReadOptions, progress: Callable[[int], None]
) -> Iterator[Row]:
    """Text files, one document each; the id is the path below the input folder."""
    consumed = 0
    for row, name in enumerate(source.extra["files"]):
        path = Path(source.path) / name
        data = path.read_bytes()
        consumed += len(data)
        progress(consumed)
        try:
            text = decode(data)
        except UnicodeDecodeError:
            yield row, Bad("not UTF-8", storable(str(path)))
            continue
        yield row, {options.text_field: text, options.id_field: name}


def read_installed(
    source: Source, options: ReadOptions, progress: Callable[[int], None]
) -> Iterator[Row]:
    """Text of installed packages: see corpus/installed.py."""
    from climb_opt.corpus.installed import collect

    consumed = 0
    for row, document in enumerate(collect(source.path)):
        consumed += len(document.text)
        progress(min(consumed, source.bytes))
        yield row, document


def read_hub(
    source: Source, options: ReadOptions, progress: Callable[[int], None]
) -> Iterator[Row]:
    """One shard of a Hugging Face dataset, streamed from the hub or read from disk."""
    from climb_opt.corpus.hub import records

    for row, record in enumerate(records(source)):
        progress(row)
        yield row, record


def _side(name: str, file: str) -> Any:
    numpy = need("numpy", "Reading side files")
    try:
        values = numpy.load(file, mmap_mode="r")
        if values.ndim == 1:
            return values
        reason = f"it has the shape {values.shape}"
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
    raise UserError(f"Side file {file!r} ({name}) does not hold one value a document: {reason}.")


def _side_values(sides: Mapping[str, Any], row: int, source: Source) -> dict[str, Any]:
    added = {}
    for name, values in sides.items():
        if row >= len(values):
            raise UserError(_unequal(source, name, values, "more documents"))
        value = values[row].item()
        added[name] = str(value) if name == DOMAIN_FIELD else value
    return added


def _unequal(source: Source, name: str, values: Any, there: str) -> str:
    return (
        f"{source.name}: its side file {name} holds {len(values)} values, but there are {there}: "
        "they do not belong together."
    )


READERS: dict[str, Callable[[Source, ReadOptions, Callable[[int], None]], Iterator[Row]]] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "texts": read_texts,
    "installed": read_installed,
    "hub": read_hub,
}


def fields_needed(options: ReadOptions, extra: Sequence[str]) -> ReadOptions:
    """The options with further fields to keep."""
    kept = tuple(dict.fromkeys([*options.fields, *extra]))
    return replace(options, fields=kept)
