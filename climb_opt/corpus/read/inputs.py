"""What the user names -> sources: globs, folders, prefixed inputs, checked before anything runs."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from climb_opt.corpus.documents import DOMAIN_FIELD, TARGET_FIELD
from climb_opt.corpus.read.formats import Source
from climb_opt.corpus.read.leftout import (
    EMPTY,
    FORMATS,
    HIDDEN,
    OWN,
    UNKNOWN,
    LeftOut,
    choose,
    format_of,
    is_own,
    reason_of,
    reason_of_path,
    stem_of,
    there,
)
from climb_opt.corpus.read.once import is_clustered, join_domains, read_once
from climb_opt.errors import UserError
from climb_opt.text import storable

logger = logging.getLogger(__name__)

TEXTS_PER_SOURCE = 2000


def find_sources(inputs: Sequence[str], target: str | None = None) -> list[Source]:
    """The sources that the inputs name, in a fixed order.

    Args:
        inputs: files, folders, globs, or prefixed inputs (see formats.py).
        target: every document of these inputs belongs to this held-out target.

    Raises:
        UserError: an input that matches nothing, or of no known format.
    """
    sources: list[Source] = []
    named: dict[str, str] = {}  # domain -> the input that brings it
    for name in inputs:
        left = LeftOut()
        found = list(_sources(name, left))
        said = left.line(name) if left.found else ""
        if not found:
            saved = any(
                (Path(name) / f).is_file() for f in ("dataset_info.json", "dataset_dict.json")
            )
            said = f"A dataset that was saved to disk is hf:{name}." if saved else said
            raise UserError(f"Input {name!r} holds no documents files ({FORMATS}). {said}".rstrip())
        if said:
            logger.warning("%s", said)
        join_domains(name, found, named)
        sources += found
    sources = read_once(sources)
    if target is not None:
        sources = [_with_fields(s, {TARGET_FIELD: target}) for s in sources]
    return sources


def names_input(name: str) -> bool:
    """Whether a text names an input: it exists, matches something, or begins with a prefix."""
    prefix, colon, _ = name.partition(":")
    matches = glob.has_magic(name) and glob.glob(name, recursive=True)
    return bool(colon and prefix in PREFIXES) or os.path.exists(name) or bool(matches)


def _sources(name: str, left: LeftOut) -> Iterator[Source]:
    kind, colon, rest = name.partition(":")
    path = Path(name)
    if colon and kind in PREFIXES and not path.exists():
        yield from PREFIXES[kind](rest, left)
    elif path.is_dir():
        yield from _folder(path, path, left)
    elif path.is_file() or path.is_symlink():
        yield from _files(path.parent, there([path], path.parent))
    elif glob.has_magic(name):
        yield from _matching(name, left)
    else:
        raise UserError(
            f"No input {name!r}: no such file or folder, and none of the prefixes "
            f"{', '.join(p + ':' for p in PREFIXES)}."
        )


def _matching(pattern: str, left: LeftOut) -> Iterator[Source]:
    """What a pattern matches, as the folder that it begins with would be read."""
    root, parts = Path(), list(Path(pattern).parts)
    while not glob.has_magic(parts[0]) or (root / parts[0]).exists():  # `[1]` may be a folder
        root /= parts.pop(0)
    whole = os.path.join(glob.escape(str(root)), *parts)
    found = [Path(p) for p in glob.glob(whole, recursive=True)]
    shown = set(found)
    for path in map(Path, glob.glob(whole, recursive=True, include_hidden=True)):
        if path not in shown:
            found_hidden = reason_of_path(path.relative_to(root))
            left.add(*(found_hidden or (HIDDEN, path.name)))
    if not found:
        raise UserError(f"No file matches {pattern!r}.")
    clustered = [p for p in found if p.is_dir() and is_clustered(p)]
    for path in sorted(clustered):
        yield from _domains(str(path), left)
    if Path(pattern).name.startswith("."):  # hidden files are what it asks for
        yield from _files(root, there(sorted(p for p in found if p.is_file()), root))
        return
    covered = {p for p in found if p.is_dir()}  # what lies in them is found with them
    others = [p for p in found if covered.isdisjoint(p.parents) and p not in clustered]
    yield from _files(root, choose(root, others, left))


def _folder(path: Path, root: Path, left: LeftOut) -> Iterator[Source]:
    if is_clustered(path):
        yield from _domains(str(path), left)
    else:
        yield from _files(path, choose(root, [path], left))


def _files(root: Path, files: Sequence[Path]) -> Iterator[Source]:
    texts = [f for f in files if format_of(f.name) == "texts"]
    for start in range(0, len(texts), TEXTS_PER_SOURCE):
        yield _texts(root, texts[start : start + TEXTS_PER_SOURCE])
    for file in files:
        kind = format_of(file.name)
        if kind is None:
            raise UserError(f"Input {str(file)!r} has no known format. Known: {FORMATS}.")
        if kind != "texts":
            stat = file.stat()
            version = f"{stat.st_size}-{stat.st_mtime_ns}"
            yield Source(kind, str(file), storable(file.name), stat.st_size, version=version)


def _texts(root: Path, files: Sequence[Path]) -> Source:
    names = [f.relative_to(root).as_posix() for f in files]
    stats = [f.stat() for f in files]
    version = "-".join(str(max((s.st_mtime_ns for s in stats), default=0)))
    size = sum(s.st_size for s in stats)
    name = storable(root.name or str(root))
    return Source("texts", str(root), name, size, extra={"files": names}, version=version)


# --- prefixed inputs --------------------------------------------------------------------------


def _domains(rest: str, left: LeftOut) -> Iterator[Source]:
    root = Path(rest)
    if not root.is_dir():
        raise UserError(f"No folder {rest!r} with one sub-folder or file per domain.")
    children = [p for p in root.iterdir() if not _left_out_of_domains(p, root, left)]
    brought: dict[str, Path] = {}
    # Sorted as text, like Curator's; joined by name, never by position
    # (docs/notes/corpus.md#curators-layout).
    for child in sorted(children):
        files = child.is_file()
        found = list(_files(root, there([child], root)) if files else _folder(child, root, left))
        name = storable(stem_of(child.name) if files else child.name.removeprefix("centroid="))
        if not found:
            left.add(EMPTY, child.name + "/")
        elif (other := brought.setdefault(name, child)) != child:
            raise UserError(
                f"{str(other)!r} and {str(child)!r} are both of the domain {name!r}. Rename one, "
                "or put both into one folder of that name."
            )
        for source in found:
            yield _with_fields(source, {DOMAIN_FIELD: name})


def _left_out_of_domains(child: Path, root: Path, left: LeftOut) -> bool:
    reason = reason_of(child.name)
    if reason is None and not child.is_dir():
        reason = UNKNOWN if format_of(child.name) is None else OWN if is_own(child.name) else None
    if reason is not None:
        left.add(reason, child.name + ("/" if child.is_dir() else ""))
    return reason is not None


def folder_and_part(text: str) -> tuple[str, str]:
    """`folder#part`, where the folder may have a # in its own name."""
    folder, sign, part = text.rpartition("#")
    return (folder, part) if sign and not os.path.isdir(text) else (text, "")


def _weborganizer(rest: str, left: LeftOut) -> Iterator[Source]:
    folder, clusters = folder_and_part(rest)
    root = Path(folder)
    files = [p for p in (root / "documents").glob("*") if p.is_file()]
    files = choose(root / "documents", files, left)
    documents = [p for p in files if format_of(p.name) == "jsonl"]
    if not documents:
        raise UserError(f"No documents/*.jsonl.zst in {folder!r}: not WebOrganizer's layout.")
    chosen = sorted(root.glob(f"domains_{clusters or '*'}"))
    if len(chosen) != 1:
        names = ", ".join(p.name.removeprefix("domains_") for p in sorted(root.glob("domains_*")))
        raise UserError(
            f"{folder!r} holds {len(chosen)} matching domain annotations; name one after #. "
            f"There are: {names or 'none'}."
        )
    kinds = {DOMAIN_FIELD: chosen[0]} | {p.name: p for p in sorted(root.glob("scores_*"))}
    for source in _files(root / "documents", documents):
        stem = stem_of(Path(source.path).name)
        sides = {name: _side_file(side, stem) for name, side in kinds.items()}
        yield Source(
            source.kind,
            source.path,
            source.name,
            source.bytes,
            {},
            {"sides": sides},
            source.version,
        )


def _side_file(folder: Path, stem: str) -> str:
    name = glob.escape(stem)
    found = sorted(folder.glob(f"{name}.npy")) or sorted(folder.glob(f"{name}__*.npy"))
    if len(found) != 1:
        raise UserError(f"{folder}: expected one side file of {stem}, but found {len(found)}.")
    return str(found[0])


def _installed(rest: str, _: LeftOut) -> Iterator[Source]:
    from climb_opt.corpus.read.installed import KINDS

    wanted = [k for k in rest.split(",") if k] or list(KINDS)
    for kind in wanted:
        if kind not in KINDS:
            raise UserError(f"installed: unknown kind {kind!r}. Known: {', '.join(KINDS)}.")
        yield Source("installed", kind, f"installed:{kind}", KINDS[kind])


def _hub(rest: str, _: LeftOut) -> Iterator[Source]:
    from climb_opt.corpus.read.hub import sources

    yield from sources(rest)


def _with_fields(source: Source, fields: dict[str, Any]) -> Source:
    merged = {**source.fields, **fields}
    return Source(
        source.kind, source.path, source.name, source.bytes, merged, source.extra, source.version
    )


PREFIXES = {
    "installed": _installed,
    "domains": _domains,
    "weborganizer": _weborganizer,
    "hf": _hub,
}
