"""Stage `sketches`: MinHash values of every document, over its runs of `RUN` tokens.

The permutations are those of datasketch ("affine32"), and so is every value, bit for bit. Only the
order of the work differs: one permutation at a time over many documents, instead of one document
at a time over all permutations. That takes a tenth of the CPU time (documents of 340
tokens; docs/notes/corpus.md#time-and-memory).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from climb_opt.bits import GOLDEN
from climb_opt.corpus.documents import Block
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage
from climb_opt.corpus.stages.tokenise import read_tokens
from climb_opt.extras import need

RUN = 8  # tokens of a shingle: about five words
_DOUBLINGS = (1, 2, 4)  # to RUN
BANDS, BAND = 13, 5  # finds a pair of similarity .8 with probability .994, of .5 with .34
SKETCH = BANDS * BAND
WORTH_PROCESSES = 1_000_000_000  # bytes of text that take longer than starting processes
SHINGLES_AT_ONCE = 100_000  # their hashes stay in a core's cache while all permutations pass
EMPTY = np.uint32(2**32 - 1)


def sketch(stage: Stage, tokens: Stage, blocks: Sequence[Block], dtype: str) -> None:
    """Write `<block>.sketch.npy`: the MinHash values (documents, SKETCH) of every document."""
    task = partial(_sketch_block, tokens.path, dtype)
    # Two threads take as long as one: its calls are short, and each waits for the interpreter.
    many = sum(b.bytes for b in blocks) >= WORTH_PROCESSES
    stage.over(blocks, task, marker=".sketch.npy", how=How(processes=many))


def _sketch_block(tokens: Path, dtype: str, block: Block, advance: Advance) -> np.ndarray:
    return sketches_of(*read_tokens(tokens, block, dtype))


def sketches_of(tokens: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """MinHash values (documents, SKETCH) uint32; zero for a document without any token.

    Args:
        tokens: of all documents, one after the other, each with its end-of-text token.
        ends: of each document in them, (documents,).
    """
    lengths = np.diff(ends, prepend=0) - 1  # the end of text left out; -1: no tokens
    starts = ends - lengths - 1
    sketches = np.full((len(ends), SKETCH), EMPTY)
    sketches[lengths < 0] = 0
    short = np.flatnonzero((lengths >= 0) & (lengths < RUN))
    whole = short_shingles(tokens, starts[short], lengths[short])
    factors, addends = _permutations()
    sketches[short] = _mixed(whole)[:, None] * factors + addends
    for rows, lows, counts in _pieces(starts, lengths):
        first = int(lows[0])
        hashes = shingles(tokens[first : int(lows[-1] + counts[-1]) + RUN - 1])
        least = _least(hashes, lows - first, counts)
        heads = np.flatnonzero(np.diff(rows, prepend=-1))  # a long document is in pieces
        least = np.minimum.reduceat(least, heads, axis=1).T
        sketches[rows[heads]] = np.minimum(sketches[rows[heads]], least)
    return sketches


def _pieces(
    starts: np.ndarray, lengths: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, first tokens and numbers of shingles, about SHINGLES_AT_ONCE in all."""
    rows = np.flatnonzero(lengths >= RUN)
    counts = lengths[rows] - RUN + 1
    parts = -(-counts // SHINGLES_AT_ONCE)
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    lows = np.repeat(starts[rows], parts) + part * SHINGLES_AT_ONCE
    counts = np.minimum(np.repeat(counts, parts) - part * SHINGLES_AT_ONCE, SHINGLES_AT_ONCE)
    rows = np.repeat(rows, parts)
    group = (np.cumsum(counts) - 1) // SHINGLES_AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(rows)]
    for low, high in pairwise(cuts):
        if high > low:
            yield rows[low:high], lows[low:high], counts[low:high]


def _least(hashes: np.ndarray, lows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The least value of each permutation over each run of hashes, (SKETCH, runs)."""
    hashes = _mixed(hashes)
    # reduceat also reduces what lies between two runs; every second result is left out.
    edges = np.stack([lows, lows + counts], axis=1).ravel()[:-1]
    permuted = np.empty_like(hashes)
    least = np.empty((SKETCH, len(lows)), dtype=np.uint32)
    for row, factor, addend in zip(least, *_permutations(), strict=True):
        np.multiply(hashes, factor, out=permuted)
        np.add(permuted, addend, out=permuted)
        row[:] = np.minimum.reduceat(permuted, edges)[::2]
    return least


@lru_cache(maxsize=1)
def _permutations() -> np.ndarray:
    """Factors and addends (2, SKETCH) uint32: value -> factor * value + addend, modulo 2^32."""
    datasketch = need("datasketch", "Finding near-duplicates")
    return datasketch.MinHash(num_perm=SKETCH, seed=1, scheme="affine32").permutations


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """MurmurHash3's finaliser, which datasketch applies before its permutations."""
    hashes = hashes ^ (hashes >> np.uint32(16))
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    hashes *= np.uint32(0xC2B2AE35)
    hashes ^= hashes >> np.uint32(16)
    return hashes


def shingles(tokens: np.ndarray) -> np.ndarray:
    """A 32-bit hash of every run of RUN tokens, (tokens - RUN + 1,).

    The upper half of `runs`, the tokens counted from 1.
    """
    mixed = runs(np.asarray(tokens).astype(np.uint64) + np.uint64(1))
    mixed >>= np.uint64(32)
    return mixed.astype(np.uint32)


def runs(values: np.ndarray) -> np.ndarray:
    """A 64-bit hash of every run of RUN values, (values - RUN + 1,).

    The values, weighted by powers of an odd 64-bit constant: their sum.
    """
    mixed = values.astype(np.uint64)
    for step in _DOUBLINGS:  # a run's hash from those of its halves
        ahead = mixed[step:]
        mixed = mixed[:-step] * np.uint64(pow(GOLDEN, step, 2**64))
        mixed += ahead
    mixed *= np.uint64(GOLDEN)
    return mixed


def short_shingles(tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A 32-bit hash of each of these documents of fewer than RUN tokens."""
    mixed = np.zeros(len(starts), dtype=np.uint64)
    for offset in range(RUN):
        inside = offset < lengths
        mixed[inside] += np.asarray(tokens[starts[inside] + offset]).astype(np.uint64) + 1
        mixed *= np.uint64(GOLDEN)
    return (mixed >> np.uint64(32)).astype(np.uint32)
