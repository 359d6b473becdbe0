"""The readers there are: climb_opt's own by ending or prefix, others as `module:Name:where`."""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from pathlib import Path

from climb_opt import lookup
from climb_opt.corpus.read.source import Reader
from climb_opt.errors import UserError
from climb_opt.shards import file_digest

_OUTSIDE = re.compile(r"([^\W\d][\w.]*:[^\W\d]\w*):(.*)", re.DOTALL)


@cache
def built_in() -> dict[str, Reader]:
    """climb_opt's own, by name."""
    return {name: lookup.find("reader", name) for name in lookup.KINDS["reader"]}


@cache
def prefixed() -> dict[str, Reader]:
    """Those of climb_opt that an input names by a prefix, by it."""
    return {reader.prefix: reader for reader in built_in().values() if reader.prefix}


def reader_of(kind: str) -> Reader:
    """A reader by its name, or module:Name.

    Raises:
        UserError: there is none, or it is no `Reader` that reads.
    """
    reader = built_in().get(kind) or lookup.find("reader", kind)
    if not isinstance(reader, Reader) or reader.read is None:
        what = "has no `read`" if isinstance(reader, Reader) else f"is {reader!r}"
        raise UserError(
            f"{kind!r} must be a climb_opt.corpus.read.Reader with a `read`, but {what}; see "
            "docs/own-reader.md."
        )
    if not isinstance(reader.endings, tuple | list):
        raise UserError(
            f'Reader {kind!r}: endings must be a tuple such as (".mbox",), empty for all files, '
            f"but is {reader.endings!r}."
        )
    return reader


def outside(name: str) -> tuple[str, str] | None:
    """module:Name and what follows, of an input that may be read by someone else's reader."""
    match = _OUTSIDE.fullmatch(name)
    return None if match is None or os.path.exists(name) else (match[1], match[2])


def names_reader(name: str) -> bool:
    """Whether a text begins with someone else's reader, and is not a field and a value."""
    found = outside(name)
    if found is None:
        return False
    module = found[0].partition(":")[0]
    try:
        if importlib.util.find_spec(module) is None:
            return False
        return isinstance(lookup.find("reader", found[0]), Reader)
    except (ImportError, ValueError):  # no such module, or one that cannot be loaded
        return False


def code_of(kind: str) -> str:
    """A digest of the file that someone else's reader is in: other code, other documents."""
    spec = importlib.util.find_spec(kind.partition(":")[0])
    file = Path(spec.origin) if spec is not None and spec.origin else None
    return file_digest(file) if file is not None and file.is_file() else ""


@cache
def _by_length() -> list[tuple[str, str]]:
    pairs = [(ending, kind) for kind, reader in built_in().items() for ending in reader.endings]
    return sorted(pairs, key=lambda pair: -len(pair[0]))


def format_of(name: str) -> str | None:
    """The reader of a file by its name's ending."""
    lower = name.lower()
    return next((kind for ending, kind in _by_length() if lower.endswith(ending)), None)


def stem_of(name: str) -> str:
    """A file's name without the ending of its format: `a.b` of `a.b.jsonl.gz`."""
    lower = name.lower()
    found = next((ending for ending, _ in _by_length() if lower.endswith(ending)), "")
    return name[: len(name) - len(found)]
