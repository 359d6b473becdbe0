"""How alike two documents are: the share of their different runs of `RUN` tokens that both hold.

Sketches only estimate it, and of a short text they know one or two 32-bit hashes, of which some
are equal by chance in any large corpus. So every pair that sketches suggest is counted here, on 64
bits, before a document is dropped. A pair costs its own two documents, whatever else there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from climb_opt.corpus.documents import Block
from climb_opt.corpus.stages.sketches import RUN, runs
from climb_opt.corpus.stages.tokenise import TokenFacts, read_tokens

OPEN = 256  # blocks, memory-mapped
HELD = 4_000_000  # hashes kept of documents that may be asked for again: 32 MB
NONE = np.zeros(0, dtype=np.uint64)

Runs = tuple[np.ndarray, int]  # the hashes of different runs, ascending; how many runs there are


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
