"""Stage `near`: which documents are nearly copies of an earlier one: links as those of exact.py.

They are found by their MinHash sketches (sketches.py), banded. Sketches only estimate how alike two
documents are, the share of their different runs of `RUN` tokens that both hold, and of a short text
they know one or two 32-bit hashes, of which some are equal by chance in any large corpus. So every
pair that they suggest is counted, on 64 bits, before a document is dropped. A pair costs its own
two documents, whatever else there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.bits import GOLDEN
from climb_opt.corpus.documents import Block
from climb_opt.corpus.files import load_array
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.exact import by_hash, equal_runs
from climb_opt.corpus.stages.sketches import BAND, BANDS, RUN, SKETCH, runs
from climb_opt.corpus.stages.tokenise import TokenFacts, read_tokens

PAIRS_AT_ONCE = 100_000
CHECKED_AT_ONCE = 1000
COUNTED = "tokens"  # what near copies are verified by; those that sketches alone found are not
OPEN = 128  # blocks, memory-mapped: some systems let a process have 256 files open
HELD = 4_000_000  # hashes kept of documents that may be asked for again: 32 MB
NONE = np.zeros(0, dtype=np.uint64)

Runs = tuple[np.ndarray, int]  # the hashes of different runs, ascending; how many runs there are


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
            mixed = (mixed ^ column) * np.uint64(GOLDEN)
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


# --- how alike two documents are ------------------------------------------------------------------


class Similarity:
    """Of pairs of documents, by their numbers."""

    def __init__(self, tokens: Path, blocks: Sequence[Block], facts: TokenFacts) -> None:
        self._unknown = facts.unknown
        self._starts = np.array([b.start for b in blocks])
        self._open = lru_cache(OPEN)(lambda b: read_tokens(tokens, blocks[b], facts.dtype))
        self._known: dict[int, Runs] = {}
        self._held = 0

    def at_least(self, pairs: np.ndarray, threshold: float) -> np.ndarray:
        """Whether the documents of each pair (n, 2) are so alike (n,).

        Args:
            pairs: (later, earlier), in the order of the earlier one: it is read once for all its
                pairs.
        """
        found = []
        for earlier, some in groupby(pairs.tolist(), itemgetter(1)):
            reference = self._runs_of(earlier)
            found += [_alike(reference, self._runs_of(n), threshold) for n, _ in some]
        return np.array(found, dtype=bool)

    def _runs_of(self, number: int) -> Runs:
        found = self._known.get(number)
        if found is None:
            found = runs_of(self._read(number), self._unknown)
            if self._held + len(found[0]) > HELD:
                self._known, self._held = {}, 0
            self._known[number] = found
            self._held += len(found[0])
        return found

    def _read(self, number: int) -> np.ndarray:
        index = int(np.searchsorted(self._starts, number, side="right")) - 1
        tokens, ends = self._open(index)
        row = number - int(self._starts[index])
        return np.asarray(tokens[int(ends[row - 1]) if row else 0 : int(ends[row]) - 1])


def runs_of(tokens: np.ndarray, unknown: int | None) -> Runs:
    """A document's runs; a text shorter than one is a run of its own.

    Args:
        unknown: stands for anything that the tokenizer does not know: a run with it is no sign that
            two texts are the same.
    """
    if not len(tokens):
        return NONE, 0
    padded = np.zeros(max(len(tokens), RUN), dtype=np.int64)
    padded[: len(tokens)] = np.asarray(tokens) + np.int64(1)  # 0: beyond the end
    hashes = runs(padded)
    different = np.unique(hashes)
    if unknown is None or not (holes := padded == unknown + 1).any():
        return different, len(different)
    before = np.concatenate([[0], np.cumsum(holes)])
    return np.unique(hashes[before[RUN:] == before[:-RUN]]), len(different)


def similarity(a: Runs, b: Runs) -> float:
    """The Jaccard similarity of two documents' runs; 0 where neither has any."""
    both = len(np.intersect1d(a[0], b[0], assume_unique=True))
    return both / max(1, a[1] + b[1] - both)


def _alike(a: Runs, b: Runs, threshold: float) -> bool:
    # What is much longer cannot be alike: not to be counted, or a long text would be with each.
    few, many = sorted((a[1], b[1]))
    return few >= threshold * many and similarity(a, b) >= threshold
