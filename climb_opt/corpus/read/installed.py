"""Text that any Python installation holds, for a first corpus without a download.

    prose        long descriptions of installed packages, topics of the language reference (pydoc)
    docstrings   of the standard library and installed packages
    licences     of installed packages
    source       of the standard library

About 80 % is code or about code: good for a demonstration, not for results
(docs/notes/corpus.md#text-that-is-installed).
Each kind is capped, and files are taken evenly from a sorted list, so collecting takes seconds.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from climb_opt.corpus.documents import Document
from climb_opt.corpus.read.source import LeftOut, Progress, Reader, ReadOptions, Row, Source
from climb_opt.errors import UserError

# Kind -> bytes of text at most.
KINDS = {"prose": 2_500_000, "docstrings": 2_500_000, "licences": 800_000, "source": 2_000_000}

PIECE = 3000  # characters of a piece of a long text, cut at a paragraph or definition
MIN_PIECE = 200
MAX_FILE = 200_000  # generated files are larger
SKIPPED = {"site-packages", "test", "tests", "__pycache__", "idlelib", "pydoc_data", "encodings"}
DOCSTRING = re.compile(
    r'^[ \t]*(?:async )?(?:def|class) (\w+)[^\n]*?(?:\([^"]*?\))?[^\n"]*:\n\s*r?"""(.*?)"""',
    re.MULTILINE | re.DOTALL,
)


def sources(rest: str, left: LeftOut) -> Iterator[Source]:
    """The kinds of `installed:prose,source`; all without a name.

    Raises:
        UserError: no such kind.
    """
    wanted = [k for k in rest.split(",") if k] or list(KINDS)
    for kind in wanted:
        if kind not in KINDS:
            raise UserError(f"installed: unknown kind {kind!r}. Known: {', '.join(KINDS)}.")
        yield Source("installed", kind, f"installed:{kind}", KINDS[kind])


def read(source: Source, options: ReadOptions, progress: Progress) -> Iterator[Row]:
    """The documents of one kind, ready."""
    consumed = 0
    for row, document in enumerate(collect(source.path)):
        consumed += len(document.text)
        progress(min(consumed, source.bytes))
        yield row, document


def collect(kind: str) -> Iterator[Document]:
    """The documents of a kind, with `fields["kind"]` set, up to the kind's cap."""
    size = 0
    seen: Counter[str] = Counter()
    for name, text in COLLECTORS[kind]():
        if len(text.strip()) < MIN_PIECE:
            continue
        size += len(text)
        if size > KINDS[kind]:
            return
        again = f"@{seen[name]}" if seen[name] else ""
        seen[name] += 1
        yield Document(f"{kind}/{name}{again}", text, {"kind": kind})


def _prose() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        yield from _pieces(f"pydoc/{topic}", text, r"\n\n")
    for name, distribution in _distributions():
        message: Any = distribution.metadata  # an email.message.Message
        description = message.get_payload() or message.get("Description") or ""
        yield from _pieces(name, _plain(str(description)), r"\n\n")


def _docstrings() -> Iterator[tuple[str, str]]:
    paths = sysconfig.get_paths()
    files = _python_files(Path(paths["stdlib"]))[::3] + _python_files(Path(paths["purelib"]))
    stride = max(1, len(files) // 1500)  # about 0.5 ms a file
    for path in files[::stride]:
        found = DOCSTRING.findall(_read(path))
        for name, text in found:
            if len(text) >= MIN_PIECE:
                yield f"{_label(path)}:{name}", _dedent(text)[:PIECE]


def _licences() -> Iterator[tuple[str, str]]:
    for name, distribution in _distributions():
        for file in distribution.files or []:
            if re.search(r"(licen[cs]e|copying|notice)", file.name, re.IGNORECASE):
                path = Path(str(distribution.locate_file(file)))
                if path.is_file() and path.suffix not in (".py", ".yaml", ".pyc", ".json"):
                    yield from _pieces(f"{name}/{file.name}", _read(path), r"\n\n")


def _source() -> Iterator[tuple[str, str]]:
    files = _python_files(Path(sysconfig.get_paths()["stdlib"]))
    for path in files[::2]:
        yield from _pieces(_label(path), _read(path), r"\n(?=(?:def|class|@) )")


COLLECTORS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "prose": _prose,
    "docstrings": _docstrings,
    "licences": _licences,
    "source": _source,
}


# --- pieces -----------------------------------------------------------------------------------


def _pieces(name: str, text: str, boundary: str) -> Iterator[tuple[str, str]]:
    piece, number = "", 0
    for paragraph in re.split(boundary, text):
        if piece and len(piece) + len(paragraph) > PIECE:
            yield f"{name}#{number}", piece
            piece, number = "", number + 1
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    yield f"{name}#{number}", piece


def _plain(markdown: str) -> str:
    """A long description without badges, images and HTML tags."""
    text = re.sub(r"\[?!\[[^\]]*\]\([^)]*\)(\]\([^)]*\))?", "", markdown)
    text = re.sub(r"<[^>\n]{1,300}>", "", text)
    text = re.sub(r"^\.\. (image|\|).*\n(?:[ ]+:.*\n)*", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text)


def _dedent(text: str) -> str:
    lines = text.expandtabs().split("\n")
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    cut = min(indents, default=0)
    return "\n".join([lines[0].strip(), *(line[cut:].rstrip() for line in lines[1:])])


def _distributions() -> list[tuple[str, importlib.metadata.Distribution]]:
    found = {str(d.metadata["Name"]).lower(): d for d in importlib.metadata.distributions()}
    return sorted(found.items())


def _python_files(root: Path) -> list[Path]:
    found = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(set(below) - SKIPPED)
        found += [Path(folder, name) for name in sorted(names) if name.endswith(".py")]
    return found


def _label(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _read(path: Path) -> str:
    if path.stat().st_size > MAX_FILE:
        return ""
    return path.read_bytes().decode("utf-8", "ignore")


INSTALLED = Reader(
    "text of the Python installation, for a first try", read, prefix="installed", sources=sources
)
