"""Folders whose sub-folders or files are the domains, as Curator's `centroid=N/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from climb_opt.corpus.documents import DOMAIN_FIELD
from climb_opt.corpus.read import leftout
from climb_opt.corpus.read.files import sources_of
from climb_opt.corpus.read.readers import format_of, stem_of
from climb_opt.corpus.read.source import UNKNOWN, LeftOut, Reader, Source
from climb_opt.errors import UserError
from climb_opt.text import storable


def is_clustered(path: Path) -> bool:
    """Whether a folder is a clustering of NeMo Curator's."""
    return any(path.glob("centroid=*/"))


def folder(path: Path, root: Path, left: LeftOut) -> Iterator[Source]:
    """A folder's documents, with their domains if it is clustered.

    Args:
        root: what the names that are judged and said begin at.
    """
    if is_clustered(path):
        yield from sources(str(path), left)
    else:
        yield from sources_of(path, leftout.choose(root, [path], left))


def sources(rest: str, left: LeftOut) -> Iterator[Source]:
    """The documents of `domains:folder`.

    Raises:
        UserError: no such folder, two children of one name.
    """
    root = Path(rest)
    if not root.is_dir():
        raise UserError(f"No folder {rest!r} with one sub-folder or file per domain.")
    children = [p for p in root.iterdir() if not _left_out(p, left)]
    for child in leftout.beside(children):
        left.add(leftout.BESIDE, child.name)
        children.remove(child)
    brought: dict[str, Path] = {}
    # Sorted as text, like Curator's; joined by name, never by position
    # (docs/notes/corpus.md#curators-layout).
    for child in sorted(children):
        files = child.is_file()
        own = sources_of(root, leftout.there([child], root)) if files else folder(child, root, left)
        found = list(own)
        name = storable(stem_of(child.name) if files else child.name.removeprefix("centroid="))
        if not found:
            left.add(leftout.EMPTY, child.name + "/")
        elif (other := brought.setdefault(name, child)) != child:
            raise UserError(
                f"{str(other)!r} and {str(child)!r} are both of the domain {name!r}. Rename one, "
                "or put both into one folder of that name."
            )
        for source in found:
            yield source.with_fields({DOMAIN_FIELD: name})


def _left_out(child: Path, left: LeftOut) -> bool:
    reason = leftout.reason_of(child.name)
    if reason is None and not child.is_dir():
        own = leftout.OWN if leftout.is_own(child.name) else None
        reason = UNKNOWN if format_of(child.name) is None else own
    if reason is not None:
        left.add(reason, child.name + ("/" if child.is_dir() else ""))
    return reason is not None


DOMAINS = Reader("sub-folders (or files) are the domains", prefix="domains", sources=sources)
