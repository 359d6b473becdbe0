"""Documents, the blocks in which a build keeps them, and a few of them, the same on every run.

A block is at most `BLOCK_DOCUMENTS` documents or about `BLOCK_BYTES` of text, so that memory stays
flat whatever the inputs' sizes. Its texts lie in one file, end to end: most stages need nothing
else, and have nothing to parse. Ids and other fields lie in another, and in a third one row a
document (`ROW`): hashes and length, all that deduplication, splitting and counting need to know.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from climb_opt.bits import GOLDEN, scattered
from climb_opt.corpus.files import load_array
from climb_opt.extras import need
from climb_opt.files import atomic, save_array

FORMAT = 2  # of a block's files; stages of another format are done again
BLOCK_DOCUMENTS = 8192
BLOCK_BYTES = 16_000_000
MOST_BLOCKS = 256  # blocks opened for a sample of text

T = TypeVar("T")

DOMAIN_FIELD = "@domain"  # field of a document that its input already assigned to a domain
TARGET_FIELD = "@target"  # field of a document whose whole input is a target
UNREAD = "cannot be read"  # how the reason of a `Bad` begins whose file the next build may read

# 128 bits of the text, 64 of the id, UTF-8 length of the text.
ROW = np.dtype([("text", "<u8", (2,)), ("id", "<u8"), ("bytes", "<i8")])


@dataclass(frozen=True)
class Document:
    """A text with its id and the other fields that were asked for.

    `named`: its id is its own, not its place in the input.
    """

    id: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)
    named: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Bad:
    """A document that could not be read: the reason (few different ones) and where it was."""

    reason: str
    where: str


def is_unread(damaged: str | Sequence[str], skipped: Mapping[str, int]) -> bool:
    """Whether inputs were left out that may be read another time."""
    return bool(damaged) or any(reason.startswith(UNREAD) for reason in skipped)


@dataclass(frozen=True)
class Block:
    """A block's name and size. `start` is the number of documents before it in the corpus."""

    name: str
    documents: int
    bytes: int
    start: int = 0


def row_of(identity: str, text: bytes) -> tuple[tuple[int, int], int, int]:
    """The `ROW` of a document with this id and UTF-8 text."""
    digest = hashlib.blake2b(text, digest_size=16).digest()
    key = hashlib.blake2b(identity.encode("utf-8"), digest_size=8).digest()
    low, high = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    return (low, high), int.from_bytes(key, "little"), len(text)


def write_block(folder: Path, name: str, documents: Sequence[Document]) -> Block:
    """Write a block's texts, its ids with the other fields, and its rows."""
    zstandard = need("zstandard", "Building a corpus")
    packed = zstandard.ZstdCompressor(level=1)
    rows = np.zeros(len(documents), dtype=ROW)
    others = json.dumps([[d.id, d.fields] for d in documents])  # before anything is on disk
    texts = folder / f"{name}.texts.zst"
    with atomic(texts) as partial, zstandard.open(partial, "wb", packed) as file:
        for row, document in enumerate(documents):
            text = document.text.encode("utf-8")
            rows[row] = row_of(document.id, text)
            file.write(text)
    with atomic(folder / f"{name}.fields.zst") as partial:
        partial.write_bytes(packed.compress(others.encode("ascii")))
    save_array(folder / f"{name}.rows.npy", rows)
    return Block(name, len(documents), int(rows["bytes"].sum()))


def read_block(folder: Path, name: str, keep: np.ndarray | None = None) -> Iterator[Document]:
    """The documents of a block, in order.

    Args:
        keep: (documents,) bool: only these.
    """
    others = read_fields(folder, name)
    chosen = others if keep is None else compress(others, keep.tolist())
    for (identity, fields), text in zip(chosen, read_texts(folder, name, keep), strict=True):
        yield Document(identity, text, fields)


def read_texts(folder: Path, name: str, keep: np.ndarray | None = None) -> Iterator[str]:
    """The texts of a block's documents, without parsing anything. `keep` as in `read_block`."""
    zstandard = need("zstandard", "Reading a corpus")
    sizes = read_rows(folder, name)["bytes"].tolist()
    wanted = [True] * len(sizes) if keep is None else keep.tolist()
    with zstandard.open(folder / f"{name}.texts.zst", "rb") as file:
        stream = io.BufferedReader(file, 1 << 20)
        for size, kept in zip(sizes, wanted, strict=True):
            text = stream.read(size)
            if kept:
                yield text.decode("utf-8")


def read_fields(folder: Path, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The id and the other fields of each of a block's documents."""
    zstandard = need("zstandard", "Reading a corpus")
    packed = (folder / f"{name}.fields.zst").read_bytes()
    found = json.loads(zstandard.ZstdDecompressor().decompress(packed))
    return [(identity, fields) for identity, fields in found]


def read_rows(folder: Path, name: str) -> np.ndarray:
    """The `ROW` array of a block, memory-mapped."""
    return load_array(folder / f"{name}.rows.npy")


def gathered(
    items: Iterable[T], most: int, largest: int, size_of: Callable[[T], int]
) -> Iterator[list[T]]:
    """Items in lists: each ends with the item that is its `most`-th or makes it `largest` in size.

    Args:
        size_of: an item's size.
    """
    some: list[T] = []
    size = 0
    for item in items:
        some.append(item)
        size += size_of(item)
        if len(some) >= most or size >= largest:
            yield some
            some, size = [], 0
    if some:
        yield some


def split_keys(rows: np.ndarray, seed: int) -> np.ndarray:
    """A pseudo-random 64-bit number per document, a function of its text and the seed alone.

    The smallest keys are held out: equal texts fall on the same side, whatever their order.
    """
    return scattered(rows["text"][:, 0] + np.uint64((seed * GOLDEN + 1) % 2**64))


# --- a few of them --------------------------------------------------------------------------------


def spread(blocks: Sequence[Block], most: int = MOST_BLOCKS) -> list[Block]:
    """At most `most` blocks, evenly spaced."""
    if len(blocks) <= most:
        return list(blocks)
    return [blocks[int(i)] for i in np.linspace(0, len(blocks) - 1, most)]


@dataclass(frozen=True)
class Pool:
    """Documents that may be drawn.

    Args:
        keep: block -> (documents,) bool, which of its documents are.
    """

    blocks: Sequence[Block]
    keep: Callable[[Block], np.ndarray]
    seed: int


def sample_texts(folder: Path, pool: Pool, size: int, longest: int) -> Iterator[str]:
    """Texts of about `size` bytes in all, chosen by their hash, of the blocks in a folder.

    Args:
        longest: characters of a text that are given, and count: a text of half the corpus would
            otherwise leave next to nothing where it is not chosen.
    """
    some = spread(pool.blocks)
    sizes = (np.minimum(read_rows(folder, block.name)["bytes"], longest) for block in some)
    share = size / max(1, sum(int(each.sum()) for each in sizes))
    for block in some:
        keys = split_keys(read_rows(folder, block.name), pool.seed)
        chosen = pool.keep(block) & (keys.astype(np.float64) / 2.0**64 < share)
        if chosen.any():
            yield from (text[:longest] for text in read_texts(folder, block.name, chosen))


def sample_rows(pool: Pool, count: int) -> list[tuple[Block, np.ndarray]]:
    """Up to `count` documents, uniformly, as (block, ascending row indices)."""
    kept = np.array([int(pool.keep(b).sum()) for b in pool.blocks], dtype=np.int64)
    ends = np.cumsum(kept)
    total = int(ends[-1]) if len(ends) else 0
    rng = np.random.default_rng(pool.seed)
    if total <= 2 * count:
        chosen = np.sort(rng.permutation(total)[:count])
    else:  # drawn with repeats and thinned: a permutation of all would grow with the corpus
        drawn = np.unique(rng.integers(0, total, size=2 * count))
        chosen = np.sort(rng.permutation(drawn)[:count])
    found = []
    for block, end, size in zip(pool.blocks, ends, kept, strict=True):
        low, high = np.searchsorted(chosen, [end - size, end])
        if high > low:
            rows = np.flatnonzero(pool.keep(block))[chosen[low:high] - (end - size)]
            found.append((block, rows))
    return found
