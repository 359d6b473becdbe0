"""Reading a few documents or rows of a large corpus, the same ones on every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from climb_opt.corpus.documents import Block, read_rows, read_texts, split_keys
from climb_opt.corpus.run.workspace import Stage

MOST_BLOCKS = 256  # blocks opened for a sample of text


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


def sample_texts(documents: Stage, pool: Pool, size: int) -> Iterator[str]:
    """Texts of about `size` bytes in all, chosen by their hash."""
    some = spread(pool.blocks)
    share = size / max(1, sum(b.bytes for b in some))
    for block in some:
        keys = split_keys(read_rows(documents.path, block.name), pool.seed)
        chosen = pool.keep(block) & (keys.astype(np.float64) / 2.0**64 < share)
        if chosen.any():
            yield from read_texts(documents.path, block.name, chosen)


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
