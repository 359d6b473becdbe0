"""Inputs -> documents: one function per format gives rows, `read` makes `Document | Bad` of them.

    docs/*.jsonl.zst            JSON lines, plain or compressed (.gz, .zst, .bz2, .xz)
    web/*.parquet               a text column
    notes/                      text files (.txt, .md, .rst): one document each
    hf:name@config#split        a Hugging Face dataset of the hub (streamed), or hf:folder on disk
    domains:folder              one sub-folder per domain; Curator's `centroid=N/` is recognised
    weborganizer:folder#clusters-k24    documents/ with side files beside it
    installed:                  text that Python installations hold (corpus/read/installed.py)

What cannot be read is a `Bad` with its reason; ingest.py counts them and decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import DOMAIN_FIELD, Bad, Document
from climb_opt.corpus.read.detokenise import detokenise
from climb_opt.corpus.read.fields import ABSENT, column_names, columns_of, hint, value_at
from climb_opt.corpus.read.values import Spelled, is_nothing, plain, rows_of
from climb_opt.errors import UserError, first_line
from climb_opt.extras import need
from climb_opt.reading import Damaged, decode, lines, parse_json
from climb_opt.text import storable

Record = Document | Bad
# What a footer may hold; pyarrow's own limits refuse those of files with very many columns.
LIMITS = {"thrift_string_size_limit": 2**31 - 1, "thrift_container_size_limit": 2**31 - 1}
EMPTY = "empty"  # the reason of a document without text, however that is said
Row = tuple[int, Any]  # its number from 0, and its fields, a Bad, or a ready Document


@dataclass(frozen=True)
class ReadOptions:
    """Where the text, the id and further fields of a document are (see corpus/read/fields.py)."""

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


def rows_in(source: Source, options: ReadOptions, progress: Callable[[int], None]) -> Iterator[Row]:
    """What a source's reader gives, before documents are made of it.

    Raises:
        Damaged, UserError: as `read`.
    """
    try:
        yield from READERS[source.kind](source, options, progress)
    except OSError as error:  # no permission, gone meanwhile, a disk that fails
        reason = error.strerror or first_line(error)
        raise Damaged(f"{source.name} cannot be read ({reason})") from None


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
        text = detokenise(text, options.detokenize)
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
        with open(source.path, "rb") as raw, parquet.ParquetFile(raw, **LIMITS) as file:
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


def read_texts(
    source: Source, options: ReadOptions, progress: Callable[[int], None]
) -> Iterator[Row]:
    """Text files, one document each; the id is the path below the input folder."""
    consumed = 0
    for row, name in enumerate(source.extra["files"]):
        path = Path(source.path) / name
        try:
            data = path.read_bytes()
        except OSError as error:
            yield row, Bad(f"cannot be read ({error.strerror})", storable(str(path)))
            continue
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
    """Text of installed packages: see corpus/read/installed.py."""
    from climb_opt.corpus.read.installed import collect

    consumed = 0
    for row, document in enumerate(collect(source.path)):
        consumed += len(document.text)
        progress(min(consumed, source.bytes))
        yield row, document


def read_hub(
    source: Source, options: ReadOptions, progress: Callable[[int], None]
) -> Iterator[Row]:
    """One shard of a Hugging Face dataset, streamed from the hub or read from disk."""
    from climb_opt.corpus.read.hub import records

    for row, record in enumerate(records(source)):
        progress(row)
        yield row, record


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
