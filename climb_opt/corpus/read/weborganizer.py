"""WebOrganizer's layout: documents/ with a side file of domains, and of scores, for each."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from climb_opt.corpus.documents import DOMAIN_FIELD
from climb_opt.corpus.read.files import folder_and_part, sources_of
from climb_opt.corpus.read.leftout import choose
from climb_opt.corpus.read.readers import format_of, stem_of
from climb_opt.corpus.read.source import LeftOut, Reader, Source
from climb_opt.errors import UserError


def sources(rest: str, left: LeftOut) -> Iterator[Source]:
    """The documents of `weborganizer:folder#clusters-k24`.

    Raises:
        UserError: another layout, no such clusters, a side file that is not there.
    """
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
    for source in sources_of(root / "documents", documents):
        stem = stem_of(Path(source.path).name)
        sides = {name: _side_file(side, stem) for name, side in kinds.items()}
        yield replace(source, extra={"sides": sides})


def _side_file(folder: Path, stem: str) -> str:
    name = glob.escape(stem)
    found = sorted(folder.glob(f"{name}.npy")) or sorted(folder.glob(f"{name}__*.npy"))
    if len(found) != 1:
        raise UserError(f"{folder}: expected one side file of {stem}, but found {len(found)}.")
    return str(found[0])


WEBORGANIZER = Reader(
    "documents/ with side files, of folder#clusters-k24", prefix="weborganizer", sources=sources
)
