"""Megatron's index of a file of tokens: where in `x.bin` the documents are.

It holds: magic, version, type code, number of sequences n, number of document bounds; lengths
int32 (n,), byte offsets int64 (n,), document bounds int64 (n + 1,) as sequence numbers. Types are
uint16 (code 8) for small vocabularies and int32 (code 4) for others, so a corpus's shard is a
`.bin` as it stands. A document is one sequence that ends with the end-of-text token.
"""

from __future__ import annotations

import shlex
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from climb_opt.errors import UserError
from climb_opt.files import atomic
from climb_opt.shards import Corpus, Stream

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
CODES = {2: 8, 4: 4}  # bytes a token -> uint16, int32
CHUNK = 1 << 24  # tokens handled at once


def prefix_of(file: str | Path) -> str:
    """What Megatron calls the pair of `file`: its path without .bin or .idx."""
    return str(file).removesuffix(".bin").removesuffix(".idx")


def blended(weight: float, files: Iterable[tuple[str, int]]) -> list[tuple[float, str]]:
    """Weights and prefixes as Megatron blends them: files share a domain's weight by their tokens.

    Args:
        files: paths and tokens.
    """
    filled = [(path, tokens) for path, tokens in files if tokens]
    total = sum(tokens for _, tokens in filled)
    return [(weight * tokens / total, prefix_of(path)) for path, tokens in filled]


def write_index(prefix: str | Path, lengths: np.ndarray, width: int) -> None:
    """Write `prefix`.idx for documents of these token counts, of `width` bytes a token."""
    count = len(lengths)
    offsets = np.zeros(count + 1, dtype="<i8")
    np.cumsum(np.asarray(lengths, dtype="<i8") * width, out=offsets[1:])
    with atomic(Path(f"{prefix}.idx")) as partial, partial.open("wb") as file:
        file.write(HEADER.pack(MAGIC, 1, CODES[width], count, count + 1))
        file.write(np.asarray(lengths, dtype="<i4").tobytes())
        file.write(offsets[:count].tobytes())
        file.write(np.arange(count + 1, dtype="<i8").tobytes())


def document_lengths(tokens: np.ndarray, eos: int) -> np.ndarray:
    """Tokens of each document, its end-of-text token included, int64 (documents,).

    What follows the last end-of-text token is a document, too: the lengths sum to `len(tokens)`.
    """
    ends = [
        np.flatnonzero(np.asarray(tokens[low : low + CHUNK]) == eos) + low + 1
        for low in range(0, len(tokens), CHUNK)
    ]
    bounds = np.concatenate([np.zeros(1, dtype=np.int64), *ends])
    if bounds[-1] < len(tokens):
        bounds = np.append(bounds, len(tokens))
    return np.diff(bounds)


def index_shards(corpus: Corpus, streams: Iterable[Stream] | None = None) -> None:
    """Write the index of each stream of the corpus (None: of all) that has none, or another's.

    Raises:
        UserError: the corpus's folder cannot be written to.
    """
    for stream in corpus.streams() if streams is None else streams:
        prefix = prefix_of(corpus.path / stream.file)
        width = np.dtype(corpus.dtype).itemsize
        if _covers(Path(f"{prefix}.idx"), stream.tokens, width):
            continue
        try:
            write_index(prefix, document_lengths(corpus.read(stream), corpus.eos), width)
        except OSError as error:
            raise UserError(
                f"{prefix}.idx is missing and cannot be written: {error.strerror}. Make pairs "
                f"elsewhere: `climb-opt corpus export {shlex.quote(str(corpus.path))} --format "
                "megatron --output FOLDER`, and name them with --path 'FOLDER/domain_{index}'."
            ) from None


def read_header(file: BinaryIO) -> tuple[int, int, int] | None:
    """Type code, sequences and document bounds of an open index; None: it is none."""
    head = file.read(HEADER.size)
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        return None
    _, _, code, sequences, bounds = HEADER.unpack(head)
    return code, sequences, bounds


def _covers(index: Path, tokens: int, width: int) -> bool:
    """Whether an index of whole tokens is there that ends where `tokens` tokens end."""
    try:
        with index.open("rb") as file:
            header = read_header(file)
            if header is None or header[0] != CODES[width]:
                return False
            _, count, bounds = header
            if index.stat().st_size != HEADER.size + 12 * count + 8 * bounds:
                return False
            if not count:
                return tokens == 0
            file.seek(HEADER.size + 4 * (count - 1))
            last = int.from_bytes(file.read(4), "little")
            file.seek(HEADER.size + 4 * count + 8 * (count - 1))
            return int.from_bytes(file.read(8), "little") + last * width == tokens * width
    except OSError:
        return False
