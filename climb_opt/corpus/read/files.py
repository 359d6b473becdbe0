"""Files -> sources."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from climb_opt.corpus.read.leftout import HIDDEN, choose, is_text, reason_of_path, there
from climb_opt.corpus.read.readers import format_of
from climb_opt.corpus.read.source import LeftOut, Source
from climb_opt.errors import UserError
from climb_opt.text import storable

TEXTS_PER_SOURCE = 2000
OF_EACH = " of "  # in the version of texts: behind it is what version 0.1.0 did not ask
FORMATS = (  # for messages
    ".jsonl, .json, .csv, .tsv, .txt, .md, .rst (also with .gz, .zst, .bz2 or .xz behind), "
    ".parquet, .arrow, .feather, .orc"
)


def sources_of(root: Path, files: Sequence[Path]) -> Iterator[Source]:
    """The files as sources of their formats; texts together.

    Raises:
        UserError: a file of no known format.
    """
    texts = [f for f in files if is_text(f.name)]
    for start in range(0, len(texts), TEXTS_PER_SOURCE):
        yield _texts(root, texts[start : start + TEXTS_PER_SOURCE])
    for file in files:
        kind = format_of(file.name)
        if kind is None:
            raise UserError(
                f"Input {str(file)!r} has no known format. {_remedy(file.name)} Known: {FORMATS}."
            )
        if not is_text(file.name):
            yield source_of(kind, file)


_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")


def _remedy(name: str) -> str:
    """What to do with a file that no reader knows."""
    if format_of(name.strip()) is not None:
        return "Its name begins or ends with a blank: rename it."
    if name.lower().endswith((*_ARCHIVES, ".lz4", ".lz", ".br", ".snappy", ".z")):
        return "Unpack it first (tar -xf, unzip, lz4 -d), and name the files or their folder."
    return "Convert it, or read it with a reader of your own (docs/own-reader.md)."


def source_of(kind: str, file: Path) -> Source:
    """One file as a source of its own."""
    stat = file.stat()
    version = f"{stat.st_size}-{stat.st_mtime_ns}"
    return Source(kind, str(file), storable(file.name), stat.st_size, version=version)


def _texts(root: Path, files: Sequence[Path]) -> Source:
    names = [f.relative_to(root).as_posix() for f in files]
    stats = [f.stat() for f in files]
    known = [(n, s.st_size, s.st_mtime_ns) for n, s in zip(names, stats, strict=True)]
    digest = hashlib.sha256(repr(known).encode()).hexdigest()[:12]
    version = f"{'-'.join(str(max(s.st_mtime_ns for s in stats)))}{OF_EACH}{digest}"
    size = sum(s.st_size for s in stats)
    name = storable(root.name or str(root))
    return Source("texts", str(root), name, size, extra={"files": names}, version=version)


def matching(pattern: str, left: LeftOut) -> tuple[Path, list[Path]]:
    """The folder that a pattern begins with, and what the pattern matches; hidden: to `left`.

    Raises:
        UserError: nothing matches, or a folder on the way may not be read.
    """
    root, parts = Path(), list(Path(pattern).parts)
    while not glob.has_magic(parts[0]) or (root / parts[0]).exists():  # `[1]` may be a folder
        root /= parts.pop(0)
    start = glob.escape(str(root))
    for depth in range(len(parts)):  # glob passes by what it may not read, without a word
        for folder in glob.glob(os.path.join(start, *parts[:depth]), recursive=True):
            if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
                raise UserError(f"Folder {folder!r} cannot be read: {os.strerror(errno.EACCES)}.")
    whole = os.path.join(start, *parts)
    found = [Path(p) for p in glob.glob(whole, recursive=True)]
    shown = set(found)
    for path in map(Path, glob.glob(whole, recursive=True, include_hidden=True)):
        if path not in shown:
            found_hidden = reason_of_path(path.relative_to(root))
            left.add(*(found_hidden or (HIDDEN, path.name)))
    if not found:
        raise UserError(f"No file matches {pattern!r}.")
    return root, found


def with_endings(where: str, endings: Sequence[str], left: LeftOut) -> list[Path]:
    """The files that a path or pattern names: below a folder those of the endings, or all.

    Raises:
        UserError: nothing is there.
    """
    known = tuple(end.lower() for end in endings)

    def format_(name: str) -> str | None:
        return name if not known or name.lower().endswith(known) else None

    path = Path(where)
    if where and path.is_dir():
        return choose(path, [path], left, format_)
    if where and (path.is_file() or path.is_symlink()):
        return there([path], path.parent)
    if not glob.has_magic(where) or path.exists():
        raise UserError(f"No file or folder {where!r}.")
    root, found = matching(where, left)
    folders = {p for p in found if p.is_dir()}
    starts = [p for p in found if folders.isdisjoint(p.parents)]
    return choose(root, starts, left, format_)


def folder_and_part(text: str) -> tuple[str, str]:
    """`folder#part`, where the folder may have a # in its own name."""
    folder, sign, part = text.rpartition("#")
    return (folder, part) if sign and not os.path.isdir(text) else (text, "")
