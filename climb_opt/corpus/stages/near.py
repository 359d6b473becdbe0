"""Stage `near`: which documents are nearly copies of an earlier one: links as those of exact.py.

They are found by their MinHash sketches (sketches.py), banded, and then by the tokens themselves
(jaccard.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block
from climb_opt.corpus.files import load_array
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.exact import by_hash, equal_runs
from climb_opt.corpus.stages.jaccard import Similarity
from climb_opt.corpus.stages.sketches import BAND, BANDS, SKETCH

PAIRS_AT_ONCE = 100_000
CHECKED_AT_ONCE = 1000
COUNTED = "tokens"  # what near copies are verified by; those that sketches alone found are not


@once("links.npy")
def find_near(
    stage: Stage,
    sketches: Stage,
    exact: Stage,
    blocks: Sequence[Block],
    similar: Similarity,
    threshold: float,
) -> np.ndarray:
    """Pairs (copy, earlier document) of similarity >= threshold."""
    total = sum(b.documents for b in blocks)
    # From this estimate on a pair is read: two documents so alike seldom fall below it.
    suspicion = threshold - 3 * (threshold * (1 - threshold) / SKETCH) ** 0.5
    found = [np.zeros((0, 2), dtype=np.int64)]
    starts = np.array([b.start for b in blocks])
    with stage.workspace.bar(stage.name, BANDS * total) as bar:
        for band in range(BANDS):
            rows = _band(sketches.path, exact.path, blocks, band, bar)
            for hashes, numbers in by_hash(rows, total, stage.path):
                pairs = _candidates(hashes, numbers)
                for low in range(0, len(pairs), PAIRS_AT_ONCE):
                    some = pairs[low : low + PAIRS_AT_ONCE]
                    a = _sketches_of(sketches.path, blocks, starts, some[:, 0])
                    b = _sketches_of(sketches.path, blocks, starts, some[:, 1])
                    found.append(some[(a == b).mean(axis=1) >= suspicion])
    links = np.unique(np.concatenate(found), axis=0)
    with stage.workspace.bar(f"{stage.name}, read", len(links), "pair") as bar:
        by_earlier = links[np.argsort(links[:, 1], kind="stable")]
        alike = [np.zeros(0, dtype=bool)]
        for low in range(0, len(links), CHECKED_AT_ONCE):
            alike.append(similar.at_least(by_earlier[low : low + CHECKED_AT_ONCE], threshold))
            bar.update(len(alike[-1]))
    return np.unique(by_earlier[np.concatenate(alike)], axis=0)


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
    links = equal_runs(hashes, numbers)
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
