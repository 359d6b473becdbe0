"""What the user names -> sources: globs, folders, prefixed inputs, checked before anything runs.

docs/*.jsonl.zst            JSON lines, plain or compressed (.gz, .zst, .bz2, .xz); .json
web/*.parquet               a text column; also .arrow, .feather, .orc, .csv, .tsv
notes/                      text files (.txt, .md, .rst): one document each
hf:name@config#split        a Hugging Face dataset of the hub (streamed), or hf:folder on disk
domains:folder              one sub-folder per domain; Curator's `centroid=N/` is recognised
weborganizer:folder#clusters-k24    documents/ with side files beside it
installed:                  text that Python installations hold
my_package.mail:MBOX:mail/  someone else's reader, on a file, folder or pattern
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from climb_opt.corpus.documents import TARGET_FIELD
from climb_opt.corpus.read import domains
from climb_opt.corpus.read.files import FORMATS, matching, source_of, sources_of, with_endings
from climb_opt.corpus.read.leftout import SPECIAL, choose, there
from climb_opt.corpus.read.once import join_domains, read_once
from climb_opt.corpus.read.readers import code_of, names_reader, outside, prefixed, reader_of
from climb_opt.corpus.read.source import LeftOut, Source
from climb_opt.errors import UserError, did_you_mean
from climb_opt.text import storable

logger = logging.getLogger(__name__)

NAMED = ("domains", "weborganizer", "hf")  # prefixes that are nothing without a name


def find_sources(inputs: Sequence[str], target: str | None = None) -> list[Source]:
    """The sources that the inputs name, in a fixed order.

    Args:
        inputs: files, folders, globs, or prefixed inputs (see the module).
        target: every document of these inputs belongs to this held-out target.

    Raises:
        UserError: an input that matches nothing, or of no known format.
    """
    sources: list[Source] = []
    named: dict[str, str] = {}  # domain -> the input that brings it
    for name in inputs:
        left = LeftOut()
        try:
            found = list(_sources(name, left))
        except OSError as error:  # no permission to look into a folder, a disk that fails
            place = storable(str(error.filename or name))
            raise UserError(f"Input {name!r}: {place} cannot be read: {error.strerror}.") from None
        said = left.line(name) if left.found else ""
        if not found:
            raise UserError(f"Input {name!r} holds no {_files_of(name)}. {said}".rstrip())
        if said:
            logger.warning("%s", said)
        join_domains(name, found, named)
        sources += found
    sources = read_once(sources)
    if target is not None:
        sources = [s.with_fields({TARGET_FIELD: target}) for s in sources]
    return sources


def names_input(name: str) -> bool:
    """Whether a text names an input: it exists, matches something, or begins with a reader."""
    prefix, colon, _ = name.partition(":")
    matches = glob.has_magic(name) and glob.glob(name, recursive=True)
    known = bool(colon and prefix in prefixed()) or os.path.exists(name) or bool(matches)
    return known or names_reader(name)


def _sources(name: str, left: LeftOut) -> Iterator[Source]:
    kind, colon, rest = name.partition(":")
    path = Path(name)
    if not rest.strip() and (not name.strip() or (colon and kind in NAMED)):
        raise UserError(f"Input {name!r} names nothing. Is a variable of the shell not set?")
    if colon and not path.exists() and (reader := prefixed().get(kind)):
        assert reader.sources is not None
        yield from reader.sources(rest, left)
    elif path.is_dir() and _is_saved(path):
        raise UserError(f"{name!r} is a dataset that was saved to disk. It is read as hf:{name}.")
    elif path.is_dir():
        yield from domains.folder(path, path, left)
    elif path.is_file() or path.is_symlink():
        yield from sources_of(path.parent, there([path], path.parent))
    elif (found := outside(name)) is not None:
        yield from _outside(*found, left)
    elif path.exists():
        raise UserError(
            f"Input {name!r} is {SPECIAL}, which can be read once only; save it as a file first."
        )
    elif glob.has_magic(name):
        yield from _matching(name, left)
    else:
        known = [f"{prefix}:" for prefix in prefixed()]
        hint = did_you_mean(f"{kind}:", known) if colon else ""
        raise UserError(
            f"No input {name!r}: no such file or folder, and none of the prefixes "
            f"{', '.join(known)} and module:Name:.{hint}"
        )


def _is_saved(folder: Path) -> bool:
    """Whether `datasets` wrote a folder with save_to_disk: its Arrow files are not all of it."""
    info, one = (folder / f"dataset_{kind}.json" for kind in ("dict", "info"))
    return info.is_file() or (one.is_file() and any(folder.glob("*.arrow")))


def _files_of(name: str) -> str:
    """What was looked for in an input, for the message that there is none."""
    if (found := outside(name)) is None:
        return f"files of documents ({FORMATS})"
    ends = reader_of(found[0]).endings
    return f"files that {found[0]} reads" + (f" ({', '.join(ends)})" if ends else "")


def _outside(kind: str, where: str, left: LeftOut) -> Iterator[Source]:
    """What someone else's reader finds; read again when its code has changed."""
    reader, code = reader_of(kind), code_of(kind)
    if reader.sources is not None:
        found: Iterator[Source] = _own_sources(kind, where, left)
    else:
        files = with_endings(where, reader.endings, left)
        found = (source_of(kind, file) for file in files)
    for source in found:
        yield replace(source, kind=kind, version=f"{source.version}-{code}")


def _own_sources(kind: str, where: str, left: LeftOut) -> Iterator[Source]:
    find = reader_of(kind).sources
    assert find is not None
    try:
        for source in find(where, left):
            if not isinstance(source, Source):
                raise UserError(f"Reader {kind!r} must find sources, but found {source!r}.")
            yield source
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code: anything
        raise UserError(f"Reader {kind!r} raised {error!r} for {where!r}.") from error


def _matching(pattern: str, left: LeftOut) -> Iterator[Source]:
    """What a pattern matches, as the folder that it begins with would be read."""
    root, found = matching(pattern, left)
    clustered = [p for p in found if p.is_dir() and domains.is_clustered(p)]
    named: dict[str, str] = {}
    for path in sorted(clustered):
        own = list(domains.sources(str(path), left))
        join_domains(str(path), own, named)
        yield from own
    if Path(pattern).name.startswith("."):  # hidden files are what it asks for
        yield from sources_of(root, there(sorted(p for p in found if p.is_file()), root))
        return
    covered = {p for p in found if p.is_dir()}  # what lies in them is found with them
    others = [p for p in found if covered.isdisjoint(p.parents) and p not in clustered]
    yield from sources_of(root, choose(root, others, left))
