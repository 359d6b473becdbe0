# Written by hub/build.py from climb_opt: change it there.
"""Compressed files -> what is in them: gzip, bzip2, xz, Zstandard, known by the first bytes.

A file that is damaged says so; the libraries' own limits on windows are lifted.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any

from .errors import UserError
from .extras import need

_PACKED = {
    "gzip": ((b"\x1f\x8b",), (".gz",)),
    "bzip2": ((b"BZh",), (".bz2",)),
    "xz": ((b"\xfd7zXZ\0",), (".xz",)),
    # Its frames, and the sixteen kinds that are skipped.
    "Zstandard": (
        (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))),
        (".zst", ".zstd"),
    ),
}
# What is not read: how it begins, what it is, and how it is unpacked.
_OTHERS = (
    (b"PK\x03\x04", "a zip archive", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x"),
    (b"Rar!", "a RAR archive", "unrar x"),
    (b"\x04\x22\x4d\x18", "packed with LZ4", "lz4 -d"),
)
_LONGEST_WINDOW = 1 << 31  # `zstd --ultra --long=31`; the library refuses more than 128 MB
FAULTS = (EOFError, OSError, zlib.error, lzma.LZMAError)  # of a compressed file that is damaged


class Damaged(UserError):
    """A file that ends too early or is not what its name says."""


def unpacked(raw: io.BufferedReader, name: str) -> IO[bytes]:
    """What is in a compressed file; a file that is not compressed as it is.

    Raises:
        Damaged: its name says that it is compressed, but its first bytes do not; or it is packed
            in another way.
    """
    head = raw.peek(8)
    kind = next((k for k, (starts, _) in _PACKED.items() if head.startswith(starts)), None)
    for start, what, how in _OTHERS:
        if head.startswith(start):
            raise Damaged(f"{name} is {what}, which is not read; unpack it first ({how} FILE)")
    if kind is None:
        for said, (_, endings) in _PACKED.items():
            if name.lower().endswith(endings):
                raise Damaged(
                    f"{name} is damaged or truncated (it does not begin as {said} does; if it is "
                    "plain text, take the ending off its name)"
                )
        return raw
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if kind == "bzip2":
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if kind == "xz" else Chunks(_unzstd(raw, name))  # type: ignore


# --- private -------------------------------------------------------------------------------------


def _unzstd(raw: IO[bytes], name: str) -> Iterator[bytes]:
    zstandard = need("zstandard", f"Reading {name}")
    # The library's own stream reader takes a file that ends inside a frame for a whole one.
    unpack = zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW)
    frame = unpack.decompressobj()
    started = False
    while data := raw.read(1 << 17):
        while data:
            started = True
            try:
                yield frame.decompress(data)
            except zstandard.ZstdError as error:
                if "Dictionary" in str(error):
                    raise Damaged(
                        f"{name} was packed with a dictionary, which it does not hold; unpack it "
                        "first (zstd -d -D DICTIONARY FILE)"
                    ) from None
                raise OSError(error) from None
            data = frame.unused_data  # of the next one, once this one has ended
            if frame.eof:
                started, frame = False, unpack.decompressobj()
    if started:
        raise EOFError("it ends inside a compressed frame")


class Chunks(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._chunks, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
