# Written by hub/build.py from climb_opt: change it there.
"""Open files -> bytes and lines, unpacked and in UTF-8, however they were saved.

encoding        UTF-8; UTF-16 and UTF-32 by their mark or their zero bytes. A mark is no text
ends of lines   those of Unix, Windows and the first Macintosh
"""

from __future__ import annotations

import codecs
import io
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .unpacking import FAULTS, Chunks, Damaged, unpacked

# UTF-32's mark begins with UTF-16's: the longer ones first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Which of the first four bytes are zero, where a file begins with two ASCII characters.
_ZEROS = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def read_bytes(path: Path | str) -> bytes:
    """What is in a file, unpacked.

    Raises:
        Damaged: it cannot be unpacked.
        OSError: it cannot be read.
    """
    with open(path, "rb") as raw:
        stream = unpacked(raw, str(path))
        if stream is raw:
            return raw.read()
        with unpacking(str(path)):
            return stream.read()


def lines(raw: io.BufferedReader, name: str) -> Iterator[bytes]:
    """The lines of an open file of JSON lines, as `utf8` has them; their bytes are not checked.

    They end in \\n, or in \\r where the first object does.

    Raises:
        Damaged: the file cannot be unpacked further.
    """
    stream = utf8(raw, name)
    with unpacking(name):
        first, old = _first_line(stream)
        if not old:
            yield first
            yield from stream
            return
        pieces = itertools.chain([first], iter(lambda: stream.read(1 << 17), b""))
        both = io.BufferedReader(Chunks(pieces), 1 << 17)
        for line in io.TextIOWrapper(both, "utf-8", "surrogateescape", newline=None):
            yield line.encode("utf-8", "surrogateescape")


def utf8(raw: io.BufferedReader, name: str) -> io.BufferedReader:
    """An open file, unpacked, as UTF-8 without a mark. To be read within `unpacking`.

    Raises:
        Damaged: the file cannot be unpacked.
    """
    with unpacking(name):
        stream: Any = unpacked(raw, name)
        if stream is not raw:
            stream = io.BufferedReader(stream, 1 << 20)
        encoding, mark = encoding_of(stream.peek(4)[:4])
        stream.read(mark)
    if encoding == "utf-8":
        return stream
    return io.BufferedReader(Chunks(_recoded(stream, encoding)), 1 << 17)


@contextmanager
def unpacking(name: str) -> Iterator[None]:
    """What fails in it while a file is unpacked, or brought to UTF-8, is its damage."""
    try:
        yield
    except (*FAULTS, UnicodeDecodeError) as error:
        raise Damaged(f"{name} is damaged or truncated ({error})") from None


def encoding_of(head: bytes) -> tuple[str, int]:
    """The encoding of a file that begins with these four bytes, and the length of its mark."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    return _ZEROS.get(tuple(byte == 0 for byte in head), "utf-8"), 0  # type: ignore[arg-type]


# --- private -------------------------------------------------------------------------------------


def _first_line(stream: io.BufferedReader) -> tuple[bytes, bool]:
    """The first line, or its beginning where lines end in \\r alone; and whether they do."""
    found = bytearray()
    while piece := stream.readline(1 << 20):
        start = max(0, len(found) - 1)
        found += piece
        for end in re.finditer(rb"\r(?=[^\n])", found[start:]):
            before = bytes(found[: start + end.start()])
            if not before.strip():
                continue
            if _is_json(before):
                return bytes(found), True
            return bytes(found) + (b"" if piece.endswith(b"\n") else stream.readline()), False
        if piece.endswith(b"\n"):
            break
    return bytes(found), False


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _recoded(stream: IO[bytes], encoding: str) -> Iterator[bytes]:
    # Halves of surrogate pairs pass: they are the fault of one line, not of the file.
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    while data := stream.read(1 << 17):
        yield decoder.decode(data).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
