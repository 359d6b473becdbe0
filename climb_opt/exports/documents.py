"""A domain's documents in the order in which they are written, and those of all domains mixed."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator

import numpy as np

from climb_opt.errors import UserError
from climb_opt.indexed import document_lengths
from climb_opt.shards import Corpus
from climb_opt.text import storable

LAST, NEXT = 16, 48  # documents among which the last ones of a domain are chosen
GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread evenly over [0, 1)
MOST_BITS = 1 << 30  # of the table of sums that the choice needs


def mixed(sources: dict[str, Documents]) -> Iterator[tuple[str, np.ndarray]]:
    """(domain, tokens) of each document in order, until every domain's quota is written."""
    # The document comes next of which a certain point is earliest in its domain's quota: the middle
    # on average, but not the same for all, lest domains of equal weight come in one bunch.
    streams = {name: iter(source) for name, source in sources.items()}
    heap: list[tuple[float, int, str, np.ndarray]] = []

    def push(place: int, name: str) -> None:
        document = next(streams[name], None)
        if document is not None:
            source = sources[name]
            point = (place * GOLDEN + 0.5) % 1.0
            when = (source.taken + point * len(document)) / source.quota
            heapq.heappush(heap, (when, place, name, document))

    for place, name in enumerate(sources):
        push(place, name)
    while heap:
        _, place, name, document = heapq.heappop(heap)
        sources[name].taken += len(document)
        sources[name].documents += 1
        yield name, document
        push(place, name)


class Documents:
    """A domain's documents, in a new order each epoch, until a quota of tokens is full."""

    def __init__(self, corpus: Corpus, name: str, seed: int) -> None:
        self._arrays = [corpus.read(shard) for shard in corpus.domain(name).shards]
        lengths = [document_lengths(array, corpus.eos) for array in self._arrays]
        self._shard = np.repeat(np.arange(len(lengths)), [len(some) for some in lengths])
        self._end = np.concatenate([np.cumsum(some) for some in lengths])
        self._length = np.concatenate(lengths)
        if not len(self._length):
            raise UserError(
                f"Domain {name!r} holds no whole document; nothing of it can be written. "
                "Build the corpus again, or export without it."
            )
        self._key = (seed, zlib.crc32(storable(name).encode()))
        self._eos = corpus.eos
        self.size = int(self._length.sum())
        self._epoch, self._left = 0, self._order(0)  # rows of this epoch that are not read yet
        self.begin(0)

    def begin(self, quota: int) -> None:
        """Begin a phase, which takes so many tokens."""
        self.quota, self.taken, self.documents, self.cut = quota, 0, 0, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        rest = self.quota
        while rest >= (left := int(self._length[self._left].sum())):
            for row in self._left:
                yield self._document(row)
            rest -= left
            self._epoch += 1
            self._left = self._order(self._epoch)
        rows, gap, spare = fill(self._left, self._length, rest)
        cut = gap > 1
        read = np.append(rows, spare) if cut else rows
        self._left = self._left[~np.isin(self._left, read)]
        for row in rows:
            yield self._document(row)
        if cut:
            part = self._document(spare)[: gap - 1]
            self.cut += 1
            yield np.append(part, np.array(self._eos, dtype=part.dtype))

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self._key, epoch]).permutation(len(self._end))

    def _document(self, row: int) -> np.ndarray:
        """A document's tokens, with its end-of-text token."""
        end = int(self._end[row])
        return np.asarray(self._arrays[self._shard[row]][end - int(self._length[row]) : end])


def fill(order: np.ndarray, lengths: np.ndarray, quota: int) -> tuple[np.ndarray, int, int]:
    """Rows of `order` that fill `quota` tokens, what is left, and a longer row not among them.

    They are the first that fit, but for the last few: those are chosen among the next few so that
    least is left, which is nothing unless documents are few or of one length.
    """
    sums = np.concatenate([[0], np.cumsum(lengths[order])])
    count = int(np.searchsorted(sums, quota, side="right")) - 1
    keep = max(0, count - LAST)
    if (quota - int(sums[keep])) * (LAST + NEXT) > MOST_BITS:
        keep = count  # very long documents
    pool, room = order[keep : count + NEXT], quota - int(sums[keep])
    reach = [1]  # bit n: some of the pool's first documents have n tokens together
    for row in pool:
        reach.append((reach[-1] | reach[-1] << int(lengths[row])) & ((2 << room) - 1))
    left = best = reach[-1].bit_length() - 1
    chosen = np.zeros(len(pool), dtype=bool)
    for place in range(len(pool) - 1, -1, -1):
        if not reach[place] >> left & 1:  # only with this document
            chosen[place] = True
            left -= int(lengths[pool[place]])
    spare = pool[~chosen]
    return (
        np.concatenate([order[:keep], pool[chosen]]),
        room - best,
        int(spare[0]) if len(spare) else -1,
    )
