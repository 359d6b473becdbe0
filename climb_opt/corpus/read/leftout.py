"""What lies in a folder and is nobody's text: hidden, unfinished, a repository's own, other splits.

Such files are left out of folders and globs, and that is said; a file that is given by its own path
is read whatever it is called.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

from climb_opt.corpus.read.readers import built_in, format_of, stem_of
from climb_opt.corpus.read.source import UNKNOWN, LeftOut
from climb_opt.errors import UserError
from climb_opt.text import counted

HIDDEN, UNFINISHED, SYSTEM = "hidden", "unfinished or a backup", "a program's own"
OWN, SPLIT = "the repository's own", "test or validation data"
AGAIN, EMPTY = "a second name of a folder", "without documents"
BESIDE = "beside documents of another format"
POINTER, BROKEN = "a pointer of git-lfs", "a link to nothing"
SPECIAL = "a pipe, socket or device"

P = TypeVar("P", bound=PurePath)
Known = Callable[[str], str | None]

_PARTIAL = ("tmp", "temp", "partial", "incomplete", "inprogress", "crdownload")
_ENDS = (*(f".{end}" for end in _PARTIAL), "~", ".part", ".download", ".bak", ".swp", ".aria2")
# Of Spark, Delta Lake, Python, zip programs and file systems.
_SYSTEM = {
    "_temporary", "_delta_log", "_spark_metadata", "__MACOSX", "__pycache__", "lost+found",
    "$RECYCLE.BIN", "System Volume Information", "@eaDir", "#recycle",
}  # fmt: skip
_OWN = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|changes|contributing|code_of_conduct|security"
    r"|citation|authors|requirements)([-._].*)?",
    re.IGNORECASE,
)
_OWN_JSON = re.compile(
    r"dataset_(infos?|dict)|state|config|metadata|manifest|schema|croissant|datapackage"
    r"|package(-lock)?|tokenizer(_config)?|special_tokens_map|generation_config",
    re.IGNORECASE,
)
_SPLITS = re.compile(
    r"(?<![^\W_])(train(?:ing)?|test(?:ing)?|valid(?:ation)?|val|dev|eval(?:uation)?)(?![^\W_])",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"[-_. ]?\d+([-_ ]of[-_ ]\d+(-[0-9a-f]{8,})?)?$")  # and the hub's hash
_POINTERS = (b"version https://git-lfs.github.com/spec/", b"/annex/objects/")
_POINTER_BYTES = 1024  # git-lfs: a pointer is smaller


def reason_of_path(path: PurePath) -> tuple[str, str] | None:
    """Why a path is left out, if the names in it say so, and the part of it that is."""
    for depth, part in enumerate(path.parts):
        if reason := reason_of(part):
            whole = depth == len(path.parts) - 1
            return reason, str(PurePath(*path.parts[: depth + 1])) + ("" if whole else "/")
    return None


def reason_of(name: str) -> str | None:
    """Why a file or folder of this name is left out, if its name alone says so."""
    if name.startswith("."):
        return HIDDEN
    if name in _SYSTEM or name.startswith("_SUCCESS"):
        return SYSTEM
    last = stem_of(name).lower().rpartition(".")
    if name.lower().endswith(_ENDS) or (last[1] and last[2] in _PARTIAL) or name.startswith("~$"):
        return UNFINISHED
    return None


def absent(file: Path) -> str | None:
    """Whether a file's data are somewhere else."""
    if not file.exists():
        return BROKEN
    if not file.is_file():
        return SPECIAL  # to open one may wait for ever
    # What may not be read is told, and counted, where it is read.
    if file.stat().st_size <= _POINTER_BYTES and os.access(file, os.R_OK):
        with file.open("rb") as opened:
            return POINTER if opened.read(64).startswith(_POINTERS) else None
    return None


def choose(
    root: Path, starts: Sequence[Path], left: LeftOut, known: Known = format_of
) -> list[Path]:
    """The documents' files among and below the paths, sorted; what is not goes to `left`.

    Args:
        root: what the names that are judged and said begin at.
        known: the format of a file of this name; None: it holds no documents.

    Raises:
        UserError: files whose data are somewhere else; a folder that cannot be read.
    """
    files: dict[PurePath, Path] = {}
    folders: set[tuple[int, int]] = set()
    for start in starts:
        if bad := reason_of_path(start.relative_to(root)):
            left.add(*bad)
            continue
        if start.is_dir():
            below = list(_below(start, root, folders, left, known))
        elif reason := _reason_of_file(start.name, _beside(start), known):
            left.add(reason, start.relative_to(root).as_posix())
            continue
        else:
            below = [start]
        files |= {file.relative_to(root): file for file in below}
    rules = ((BESIDE, beside), (OWN, own_files), (SPLIT, other_splits))
    for reason, rule in rules[known is not format_of :]:  # the first is of our own formats
        for name in sorted(rule(list(files))):
            left.add(reason, name.as_posix())
            del files[name]
    return there([files[name] for name in sorted(files)], root, left)


def _below(
    folder: Path, root: Path, seen: set[tuple[int, int]], left: LeftOut, known: Known
) -> Iterator[Path]:
    for name, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(name)
        stat = here.stat()
        if (stat.st_dev, stat.st_ino) in seen:  # links may lead round in circles
            folders.clear()
            left.add(AGAIN, f"{here.relative_to(root)}/")
            continue
        seen.add((stat.st_dev, stat.st_ino))
        among = set(files)
        kept = {f: _reason_of_file(f, among, known) for f in files}
        kept |= {f: reason_of(f) for f in folders}
        for child, reason in kept.items():
            if reason is not None:
                path = (here / child).relative_to(root).as_posix()
                left.add(reason, path if child in among else f"{path}/")
        folders[:] = [f for f in folders if kept[f] is None]
        yield from (here / file for file in files if kept[file] is None)


def _beside(file: Path) -> set[str]:
    return {rest.name for rest in _rests(file) if rest.exists()}


def _reason_of_file(name: str, among: set[str], known: Known) -> str | None:
    if any(rest.name in among for rest in _rests(PurePath(name))):
        return UNFINISHED
    return reason_of(name) or (UNKNOWN if known(name) is None else None)


def _rests(file: P) -> list[P]:
    """What lies beside a file whose download stopped."""
    return [file.with_name(f"{file.name}{end}") for end in (".aria2", ".part")]


def _refuse(error: OSError) -> None:
    raise UserError(f"Folder {error.filename!r} cannot be read: {error.strerror}.")


def there(files: Sequence[Path], root: Path, left: LeftOut | None = None) -> list[Path]:
    """The files whose content is there. Texts whose content is not, and what is no file, go to
    `left`.

    Raises:
        UserError: others, for they are data that would be missed.
    """
    found = {file: absent(file) for file in files}
    for file in [f for f in files if found[f] and (found[f] == SPECIAL or is_text(f.name))]:
        if left is None:
            break
        left.add(str(found.pop(file)), file.relative_to(root).as_posix())
    gone = [f for f in found if found[f]]
    if gone:
        raise UserError(
            f"{counted(len(gone), 'file')} without data in {str(root)!r}: {gone[0].name} is "
            f"{found[gone[0]]}. Fetch what is missing (git lfs pull, git annex get, or another "
            "download), or name the files to read."
        )
    return list(found)


def beside(files: Sequence[P]) -> list[P]:
    """Files of formats that say more often something about documents than hold them; not beside
    folders, nor beside texts and the like."""
    ranks = {f: built_in()[kind].rank if (kind := format_of(f.name)) else 0 for f in files}
    lowest = min((rank for f, rank in ranks.items() if not is_own(f.name)), default=0)
    return [f for f, rank in ranks.items() if rank > lowest]


def own_files(files: Sequence[PurePath]) -> set[PurePath]:
    """READMEs, licences and the like that lie beside or above files of data: no one's documents.

    In folders of nothing but text files they are texts as others are.
    """
    own = {f for f in files if is_own(f.name)}
    data = {f for f in files if format_of(f.name) and not is_text(f.name)} - own
    with_data = {p for f in data for p in f.parents}
    return {f for f in own if f.parent in with_data}


def is_text(name: str) -> bool:
    """Whether a file of this name is one document."""
    kind = format_of(name)
    return kind is not None and built_in()[kind].whole


def is_own(name: str) -> bool:
    """Whether a text or JSON file is called as the files are that describe a repository."""
    stem = stem_of(name)
    if format_of(name) == "json":
        return _OWN_JSON.fullmatch(stem) is not None
    return is_text(name) and _OWN.fullmatch(stem) is not None


def other_splits(files: Sequence[PurePath]) -> set[PurePath]:
    """Files of test or validation splits, by their own or a folder's name, where the training split
    of the same name lies beside them."""
    trained: set[object] = set()
    others: dict[PurePath, set[object]] = {}
    for file in files:
        for depth, part in enumerate(file.parts):
            is_file = depth == len(file.parts) - 1
            if is_file and part.lower().endswith((".md", ".rst")):
                continue  # prose about tests
            stem = stem_of(part) if is_file else part
            found = _SPLITS.search(stem)
            if found:
                rest = _NUMBERS.sub("", f"{stem[: found.start()]}*{stem[found.end() :]}")
                place = (*file.parts[:depth], rest, is_file)
                if found[0].lower().startswith("train"):
                    trained.add(place)
                else:
                    others.setdefault(file, set()).add(place)
    return {file for file, places in others.items() if places & trained}
