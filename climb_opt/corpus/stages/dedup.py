"""Stages `exact` and `near`: which documents are copies of an earlier one.

Both end in links (copy, original), pairs of document numbers. `roles.py` joins the links into
groups and decides what becomes of each member. Exact copies are found by a 128-bit hash of the
text; near ones by their MinHash sketches (minhash.py), banded, and then by the tokens themselves
(jaccard.py).

Equal hashes meet by way of buckets.py, so that memory does not grow with the corpus; only the links
are held whole, 16 bytes for each copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, read_rows
from climb_opt.corpus.files import load_array, load_json, save_array, save_json
from climb_opt.corpus.run.workspace import Stage
from climb_opt.corpus.stages.buckets import by_hash
from climb_opt.corpus.stages.jaccard import Similarity
from climb_opt.corpus.stages.minhash import BAND, BANDS, SKETCH

PAIRS_AT_ONCE = 100_000
CHECKED_AT_ONCE = 1000
COUNTED = "tokens"  # what near copies are verified by; those that sketches alone found are not
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


def find_near(
    stage: Stage,
    sketches: Stage,
    exact: Stage,
    blocks: Sequence[Block],
    similar: Similarity,
    threshold: float,
) -> None:
    """Write links.npy: pairs (copy, earlier document) of similarity >= threshold."""
    make = partial(_near, stage, sketches.path, exact.path, blocks, similar, threshold)
    stage.once("links.npy", make)


def _near(
    stage: Stage,
    sketches: Path,
    exact: Path,
    blocks: Sequence[Block],
    similar: Similarity,
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
                    found.append(some[(a == b).mean(axis=1) >= _suspicion(threshold)])
    links = np.unique(np.concatenate(found), axis=0)
    with stage.workspace.bar(f"{stage.name}, read", len(links), "pair") as bar:
        by_earlier = links[np.argsort(links[:, 1], kind="stable")]
        alike = [np.zeros(0, dtype=bool)]
        for low in range(0, len(links), CHECKED_AT_ONCE):
            alike.append(similar.at_least(by_earlier[low : low + CHECKED_AT_ONCE], threshold))
            bar.update(len(alike[-1]))
    links = np.unique(by_earlier[np.concatenate(alike)], axis=0)
    with path.open("wb") as file:
        np.save(file, links)


def _suspicion(threshold: float) -> float:
    """The estimate from which a pair is read: two documents so alike seldom fall below it."""
    return threshold - 3 * (threshold * (1 - threshold) / SKETCH) ** 0.5


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
