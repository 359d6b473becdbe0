"""One input or one domain that is named twice: read once and said, or refused; never doubled."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from climb_opt.corpus.documents import DOMAIN_FIELD
from climb_opt.corpus.read.domains import is_clustered
from climb_opt.corpus.read.source import Source
from climb_opt.errors import UserError
from climb_opt.text import counted, shortest_ends, storable, twins

logger = logging.getLogger(__name__)

EXAMPLES = 3


def told_apart(sources: Sequence[Source]) -> list[Source]:
    """The sources, of which those of one name are called by their folders too: their documents are
    called by them, and so are those that cannot be read."""
    paths = list(dict.fromkeys(s.path for s in sources if os.path.exists(s.path)))
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    ends = dict(zip(paths, shortest_ends(parts), strict=True))
    pairs = ((s, ends.get(s.path, "")) for s in sources)
    return [replace(s, name=end) if end.endswith(f"/{s.name}") else s for s, end in pairs]


def read_once(sources: Sequence[Source]) -> list[Source]:
    """The sources without what is named a second time, by whatever path, pattern or link.

    Raises:
        UserError: the same file in two domains.
    """
    seen = _Seen()
    kept = []
    for source in sources:
        if "files" in source.extra:
            files = [f for f in source.extra["files"] if seen.first(source, f)]
            if files:
                kept.append(replace(source, extra={**source.extra, "files": files}))
        elif seen.first(source):
            kept.append(source)
    if seen.twice:
        more = ", ..." if len(seen.twice) > EXAMPLES else ""
        examples = ", ".join(seen.twice[:EXAMPLES]) + more
        times = counted(len(seen.twice), "time")
        logger.warning("Named again %s, but read once: %s.", times, examples)
    return kept


class _Seen:
    """The files that were named so far, whatever they were called."""

    def __init__(self) -> None:
        self.twice: list[str] = []
        self._seen: dict[Any, tuple[str, Any]] = {}

    def first(self, source: Source, file: str = "") -> bool:
        """Whether a source, or a file of it, is named for the first time."""
        path = os.path.join(source.path, file) if file else source.path
        key: Any
        if os.path.isfile(path):
            stat = os.stat(path)
            key = (stat.st_dev, stat.st_ino)
        else:  # a data set, or what is installed
            key = (source.kind, path, repr(source.extra))
        sides = source.extra.get("sides", {})
        domain = source.fields.get(DOMAIN_FIELD, sides.get(DOMAIN_FIELD))
        if key not in self._seen:
            self._seen[key] = (storable(path), domain)
            return True
        before, other = self._seen[key]
        if other != domain:
            raise UserError(
                f"{before!r} and {storable(path)!r} are one file, but of two domains "
                f"({other!r}, {domain!r}). Leave one of them out."
            )
        self.twice.append(storable(path))
        return False


def join_domains(name: str, found: Sequence[Source], named: dict[str, str]) -> None:
    """Add an input's domains to those that were `named` by earlier ones: domain -> input.

    The same name in both is one domain, and said.

    Raises:
        UserError: clusters that only share a number, or names that differ by case or accents only.
    """
    ours = list(dict.fromkeys(s.fields[DOMAIN_FIELD] for s in found if DOMAIN_FIELD in s.fields))
    for domain in [d for d in ours if d in named]:
        other = named[domain]
        if any(is_clustered(Path(n.removeprefix("domains:"))) for n in (other, name)):
            raise UserError(
                f"{other!r} and {name!r} are clustered apart: cluster {domain} of one is not that "
                "of the other. Build them apart, or name their centroid= folders as plain inputs."
            )
        logger.warning("Domain %r holds documents of both %r and %r.", domain, other, name)
    named |= {d: name for d in ours if d not in named}
    refuse_alike(named)


def refuse_alike(names: Iterable[str]) -> None:
    """Refuse domains whose names differ by case or accents only.

    Raises:
        UserError: two of them do.
    """
    for a, b in twins(names):
        raise UserError(
            f"The domains {a!r} and {b!r} differ by case or by how accents are written only; some "
            "file systems and exports take them for one. Rename one."
        )
