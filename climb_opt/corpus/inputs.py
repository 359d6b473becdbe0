"""What the user names -> sources: globs, folders, prefixed inputs, checked before anything runs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from climb_opt.corpus.documents import DOMAIN_FIELD, TARGET_FIELD
from climb_opt.corpus.readers import Source
from climb_opt.errors import UserError
from climb_opt.text import storable

_LINES = (".jsonl", ".ndjson", ".json")
_PACKED = (".gz", ".zst", ".zstd", ".bz2", ".xz")
JSONL = (*_LINES[:2], *(f"{end}{z}" for z in _PACKED for end in _LINES))
PARQUET = (".parquet", ".pq")
TEXTS = (".txt", ".md", ".rst")
FORMATS = ", ".join((".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", *TEXTS))
TEXTS_PER_SOURCE = 2000


def find_sources(inputs: Sequence[str], target: str | None = None) -> list[Source]:
    """The sources that the inputs name, in a fixed order.

    Args:
        inputs: files, folders, globs, or prefixed inputs (see readers.py).
        target: every document of these inputs belongs to this held-out target.

    Raises:
        UserError: an input that matches nothing, or of no known format.
    """
    sources: list[Source] = []
    for name in inputs:
        found = list(_sources(name))
        if not found:
            raise UserError(f"Input {name!r} holds no documents files ({FORMATS}).")
        sources += found
    if target is not None:
        sources = [_with_fields(s, {TARGET_FIELD: target}) for s in sources]
    return sources


def names_input(name: str) -> bool:
    """Whether a text names an input: it exists, matches something, or begins with a prefix."""
    prefix, colon, _ = name.partition(":")
    return bool(colon and prefix in PREFIXES) or os.path.exists(name) or bool(_matches(name))


def _matches(name: str) -> list[str]:
    return sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []


def _sources(name: str) -> Iterator[Source]:
    kind, colon, rest = name.partition(":")
    if colon and kind in PREFIXES and not Path(name).exists():
        yield from PREFIXES[kind](rest)
        return
    paths = sorted(glob.glob(name, recursive=True)) if _is_pattern(name) else [name]
    if not paths:
        raise UserError(f"No file matches {name!r}.")
    for text in paths:
        path = Path(text)
        if path.is_dir():
            yield from _folder(path)
        elif path.is_file():
            yield from _files(path.parent, [path])
        else:
            raise UserError(
                f"No input {text!r}: no such file or folder, and none of the prefixes "
                f"{', '.join(p + ':' for p in PREFIXES)}."
            )


def _is_pattern(name: str) -> bool:
    return glob.has_magic(name) and not Path(name).exists()


def _folder(path: Path) -> Iterator[Source]:
    if any(path.glob("centroid=*/")):  # NeMo Curator's clusters
        yield from _domains(str(path))
        return
    files = sorted(p for p in path.rglob("*") if p.is_file() and _format(p) is not None)
    yield from _files(path, files)


def _files(root: Path, files: Sequence[Path]) -> Iterator[Source]:
    texts = [f for f in files if _format(f) == "texts"]
    for start in range(0, len(texts), TEXTS_PER_SOURCE):
        yield _texts(root, texts[start : start + TEXTS_PER_SOURCE])
    for file in files:
        kind = _format(file)
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


def _format(path: Path) -> str | None:
    name = path.name.lower()
    for kind, endings in (("jsonl", JSONL), ("parquet", PARQUET), ("texts", TEXTS)):
        if name.endswith(endings):
            return kind
    return None


# --- prefixed inputs --------------------------------------------------------------------------


def _domains(rest: str) -> Iterator[Source]:
    root = Path(rest)
    if not root.is_dir():
        raise UserError(f"No folder {rest!r} with one sub-folder or file per domain.")
    # Sorted as text, like Curator's; joined by name, never by position (corpus.md, section 10).
    for child in sorted(root.iterdir()):
        if child.is_dir():
            found = list(_folder(child))
        elif _format(child) is not None:
            found = list(_files(root, [child]))
        else:
            continue
        name = child.name if child.is_dir() else child.name.split(".")[0]
        for source in found:
            yield _with_fields(source, {DOMAIN_FIELD: storable(name.removeprefix("centroid="))})


def _weborganizer(rest: str) -> Iterator[Source]:
    folder, _, clusters = rest.partition("#")
    root = Path(folder)
    documents = sorted(p for p in (root / "documents").glob("*") if _format(p) == "jsonl")
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
        stem = source.name.split(".")[0]
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
    found = sorted(folder.glob(f"{stem}.npy")) or sorted(folder.glob(f"{stem}__*.npy"))
    if len(found) != 1:
        raise UserError(f"{folder}: expected one side file of {stem}, but found {len(found)}.")
    return str(found[0])


def _installed(rest: str) -> Iterator[Source]:
    from climb_opt.corpus.installed import KINDS

    wanted = [k for k in rest.split(",") if k] or list(KINDS)
    for kind in wanted:
        if kind not in KINDS:
            raise UserError(f"installed: unknown kind {kind!r}. Known: {', '.join(KINDS)}.")
        yield Source("installed", kind, f"installed:{kind}", KINDS[kind])


def _hub(rest: str) -> Iterator[Source]:
    from climb_opt.corpus.hub import sources

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
