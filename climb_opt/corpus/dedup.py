"""Stages `exact`, `sketches` and `near`: which documents are copies of an earlier one.

Both end in links (copy, original), pairs of document numbers. `roles.py` joins the links into
groups and decides what becomes of each member. Exact copies are found by a 128-bit hash of the
text; near ones by MinHash (datasketch) over runs of `RUN` tokens, banded, then verified by the
estimated similarity of their sketches.

Equal hashes meet by way of buckets.py, so that memory does not grow with the corpus; only the links
are held whole, 16 bytes for each copy.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.buckets import by_hash
from climb_opt.corpus.documents import Block, read_rows
from climb_opt.corpus.engines import Advance
from climb_opt.corpus.files import load_array, load_json, save_array, save_json
from climb_opt.corpus.need import need
from climb_opt.corpus.tokenise import read_tokens
from climb_opt.corpus.workspace import Stage

PAIRS_AT_ONCE = 100_000
RUN = 8  # tokens of a shingle: about five words
BANDS, BAND = 13, 5  # finds a pair of similarity .8 with probability .994, of .5 with .34
SKETCH = BANDS * BAND
SHINGLES_AT_ONCE = 50_000
EXAMPLES = 3


# --- exact copies -----------------------------------------------------------------------------


def find_exact(stage: Stage, documents: Stage, blocks: Sequence[Block]) -> dict[str, Any]:
    """Write links.npy and `<block>.first.npy` (False for copies); count copies and repeated ids."""
    summary = stage.once("summary.json", partial(_exact, stage, documents.path, blocks))
    found: dict[str, Any] = load_json(summary)
    return found


def _exact(stage: Stage, documents: Path, blocks: Sequence[Block], path: Path) -> None:
    texts, ids = [], 0
    examples: list[int] = []
    total = sum(b.documents for b in blocks)
    with stage.workspace.bar(stage.name, 2 * total) as bar:
        for field in ("text", "id"):
            hashes = _text_or_id(documents, blocks, field, bar)
            for rows, numbers in by_hash(hashes, total, stage.path):
                links = _equal_runs(rows, numbers)
                if field == "text":
                    texts.append(links)
                else:
                    ids += len(links)
                    examples += [int(n) for n in links[: EXAMPLES - len(examples), 0]]
    links = np.concatenate(texts)
    links = links[np.argsort(links[:, 0], kind="stable")]
    save_array(stage.file("links.npy"), links)
    for block in blocks:
        first = np.ones(block.documents, dtype=bool)
        low, high = np.searchsorted(links[:, 0], [block.start, block.start + block.documents])
        first[links[low:high, 0] - block.start] = False
        save_array(stage.file(f"{block.name}.first.npy"), first)
    save_json(path, {"copies": len(links), "repeated_ids": ids, "examples": examples})


def _text_or_id(
    documents: Path, blocks: Sequence[Block], field: str, bar: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes (n, width) and document numbers (n,) of each block."""
    for block in blocks:
        values = np.asarray(read_rows(documents, block.name)[field])
        numbers = np.arange(block.start, block.start + block.documents)
        yield values.reshape(block.documents, -1), numbers
        bar.update(block.documents)


def _equal_runs(hashes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Links (copy, first) between rows of equal hashes; numbers must be ascending."""
    order = np.lexsort([numbers, *hashes.T[::-1]])
    hashes, numbers = hashes[order], numbers[order]
    same = np.zeros(len(numbers), dtype=bool)
    same[1:] = np.all(hashes[1:] == hashes[:-1], axis=1)
    starts = np.maximum.accumulate(np.where(same, 0, np.arange(len(numbers))))
    return np.stack([numbers[same], numbers[starts[same]]], axis=1).astype(np.int64)


# --- near copies ------------------------------------------------------------------------------


def sketch(stage: Stage, tokens: Stage, blocks: Sequence[Block], dtype: str) -> None:
    """Write `<block>.sketch.npy`: the MinHash values (documents, SKETCH) of every document."""
    task = partial(_sketch_block, stage.path, tokens.path, dtype)
    stage.over(blocks, task, marker=".sketch.npy", processes=True)


def _sketch_block(folder: Path, tokens: Path, dtype: str, block: Block, advance: Advance) -> None:
    datasketch = need("datasketch", "Finding near-duplicates")
    values, ends = read_tokens(tokens, block, dtype)
    sketches = np.zeros((block.documents, SKETCH), dtype=np.uint32)
    empty = datasketch.MinHash(num_perm=SKETCH, seed=1, hashfunc=operator.index, scheme="affine32")
    start = 0
    for row, end in enumerate(ends):
        if end > start:
            made = empty.copy()
            for low in range(start, max(start + 1, end - RUN), SHINGLES_AT_ONCE):
                part = values[low : min(end, low + SHINGLES_AT_ONCE + RUN)]
                made.update_batch(_shingles(np.asarray(part)).tolist())
            sketches[row] = made.hashvalues
        start = end
        advance(1)
    save_array(folder / f"{block.name}.sketch.npy", sketches)


def _shingles(tokens: np.ndarray) -> np.ndarray:
    """A 32-bit hash of every run of RUN tokens, the last token (the end of text) left out."""
    tokens = tokens[:-1].astype(np.uint64) + np.uint64(1)
    run = min(RUN, len(tokens))
    mixed = np.zeros(len(tokens) - run + 1, dtype=np.uint64)
    for offset in range(run):  # a polynomial in an odd 64-bit constant, modulo 2^64
        part = tokens[offset : len(tokens) - run + 1 + offset]
        mixed = (mixed + part) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def find_near(
    stage: Stage, sketches: Stage, exact: Stage, blocks: Sequence[Block], threshold: float
) -> None:
    """Write links.npy: pairs (copy, earlier document) of estimated similarity >= threshold."""
    stage.once("links.npy", partial(_near, stage, sketches.path, exact.path, blocks, threshold))


def _near(
    stage: Stage,
    sketches: Path,
    exact: Path,
    blocks: Sequence[Block],
    threshold: float,
    path: Path,
) -> None:
    total = sum(b.documents for b in blocks)
    found = [np.zeros((0, 2), dtype=np.int64)]
    starts = np.array([b.start for b in blocks])
    with stage.workspace.bar(stage.name, BANDS * total) as bar:
        for band in range(BANDS):
            rows = _band(sketches, exact, blocks, band, bar)
            for hashes, numbers in by_hash(rows, total, path.parent):
                pairs = _candidates(hashes, numbers)
                for low in range(0, len(pairs), PAIRS_AT_ONCE):
                    some = pairs[low : low + PAIRS_AT_ONCE]
                    a = _sketches_of(sketches, blocks, starts, some[:, 0])
                    b = _sketches_of(sketches, blocks, starts, some[:, 1])
                    found.append(some[(a == b).mean(axis=1) >= threshold])
    links = np.unique(np.concatenate(found), axis=0)
    with path.open("wb") as file:
        np.save(file, links)


def _band(
    sketches: Path, exact: Path, blocks: Sequence[Block], band: int, bar: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A band's hash (n, 1) and the number (n,) of each document that is no copy."""
    for block in blocks:
        rows = load_array(sketches / f"{block.name}.sketch.npy")
        part = np.asarray(rows[:, band * BAND : (band + 1) * BAND]).astype(np.uint64)
        mixed = np.zeros(len(part), dtype=np.uint64)
        for column in part.T:
            mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        first = np.flatnonzero(load_array(exact / f"{block.name}.first.npy"))
        yield mixed[first][:, None], first + block.start
        bar.update(block.documents)


def _candidates(hashes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Pairs (later, earlier) of a band's equal hashes: each with the first and the one before."""
    links = _equal_runs(hashes, numbers)
    before = links[1:][links[1:, 1] == links[:-1, 1]]
    before = np.stack([before[:, 0], links[:-1][links[1:, 1] == links[:-1, 1]][:, 0]], axis=1)
    return np.unique(np.concatenate([links, before]), axis=0)


def _sketches_of(
    sketches: Path, blocks: Sequence[Block], starts: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    out = np.zeros((len(numbers), SKETCH), dtype=np.uint32)
    owner = np.searchsorted(starts, numbers, side="right") - 1
    for index in np.unique(owner):
        mine = owner == index
        rows = load_array(sketches / f"{blocks[index].name}.sketch.npy")
        out[mine] = rows[numbers[mine] - starts[index]]
    return out
