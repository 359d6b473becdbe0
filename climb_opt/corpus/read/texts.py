"""Text files, one document each; the id is the path below the input folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from climb_opt.corpus.documents import UNREAD, Bad
from climb_opt.corpus.read.jsonl import PACKED
from climb_opt.corpus.read.source import Progress, Reader, ReadOptions, Row, Source
from climb_opt.reading import decode
from climb_opt.streams import read_bytes
from climb_opt.text import storable
from climb_opt.unpacking import Damaged


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The files of one source, whole."""
    consumed = 0
    for row, name in enumerate(source.extra["files"]):
        path = Path(source.path) / name
        try:
            data = read_bytes(path) if name.lower().endswith(PACKED[1:]) else path.read_bytes()
        except Damaged as error:
            yield row, Bad("damaged", storable(str(error)))
            continue
        except OSError as error:
            yield row, Bad(f"{UNREAD} ({error.strerror})", storable(str(path)))
            continue
        consumed += len(data)
        progress(consumed)
        try:
            text = decode(data)
        except UnicodeDecodeError:
            yield row, Bad("not UTF-8", storable(str(path)))
            continue
        yield row, {options.text_field: text, options.id_field: name}


TEXTS = Reader(
    "text files, a document each",
    read,
    endings=tuple(f"{end}{z}" for z in PACKED for end in (".txt", ".md", ".rst")),
    whole=True,
)
