"""Which sequence is read when: an exact mixture as a pure function of the step.

A trial reads N sequences of T tokens (plus the next token, as the last one's target). Domain k
gives exactly n_k of them, by largest remainder, and its i-th one stands at time (i + u_k) / n_k in
[0, 1): every prefix of the run is near the mixture, not only its end (`u_k` is a seeded shift). The
i-th sequence of a domain is the same in every trial of a seed, whatever the weights, so trials
share random numbers and differ by their mixtures only.

A trial may read from a *share* of every domain only, its pool: a proxy on a quarter of the tokens
then repeats a domain as often as the whole run does (arXiv 2606.07597). The pool is what a trial of
the seed reads first of the domain, whatever its share: pools lie within each other and are spread
over all shards, and where nothing is repeated a share changes nothing.

Nothing is stored per sequence. Time is cut into blocks of about 4096 sequences; how many of a
domain come before a block is a formula, so a block is computed when it is read. A run of 20 M
sequences costs some hundred kilobytes (the tables this replaces: 120 MB), and resuming is one
integer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from climb_opt.apportion import apportion
from climb_opt.errors import UserError, did_you_mean, listed
from climb_opt.proxy.permute import ROUNDS, Permutations, domain_philox
from climb_opt.shards import Corpus

BLOCK = 4096  # sequences computed at once: 0.3 us each (bench_train.py); smaller ones cost more


def largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Whole counts (K,) that sum to `total`, each within 1 of weights x total; zeros stay zero."""
    exact = np.asarray(weights, dtype=float) / np.sum(weights) * total
    # Ties go to the larger weight, then to the earlier domain.
    largest_first = np.argsort(-exact, kind="stable")
    counts = np.empty(len(exact), dtype=np.int64)
    counts[largest_first] = apportion(exact[largest_first], total)
    return counts


class Sequences:
    """A corpus cut into sequences of `length` tokens (+ 1) that never cross a shard.

    `sizes` (K,) counts each domain's sequences, in the order of `corpus.domains`.

    Args:
        share: of each domain's sequences that trials read; in (0, 1].
        beside: other sequences of the corpus, whose open files are used.

    Raises:
        UserError: a domain without one whole sequence.
    """

    def __init__(
        self, corpus: Corpus, length: int, *, share: float = 1.0, beside: Sequences | None = None
    ) -> None:
        if length < 1:
            raise UserError(f"proxy.sequence must be at least 1 token, but is {length}.")
        assert 0 < share <= 1
        self.corpus, self.length, self.share = corpus, length, share
        self.domains = tuple(domain.name for domain in corpus.domains)
        rows = [
            [max(s.tokens - 1, 0) // length for s in domain.shards] for domain in corpus.domains
        ]
        self.sizes = np.array([sum(r) for r in rows], dtype=np.int64)
        for domain, size in zip(corpus.domains, self.sizes, strict=True):
            if size == 0:
                longest = max((s.tokens for s in domain.shards), default=0)
                raise UserError(
                    f"Domain {domain.name!r} has no whole sequence: its longest shard holds "
                    f"{longest} tokens, but proxy.sequence is {length} (+ 1 target token). Train "
                    "with shorter sequences, or merge the domain when building the corpus."
                )
        self._shards: list[np.ndarray] = _shards(corpus) if beside is None else beside._shards
        flat = np.array([n for r in rows for n in r], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(flat)])  # first sequence of each shard
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])  # ... of each domain

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Tokens (n, length + 1), in the corpus's dtype, of the sequences `ids` (n,)."""
        shard = np.searchsorted(self._starts, ids, side="right") - 1
        begin = ((ids - self._starts[shard]) * self.length).tolist()
        tokens = np.empty((len(ids), self.length + 1), dtype=self.corpus.dtype)
        for row, (s, start) in enumerate(zip(shard.tolist(), begin, strict=True)):
            tokens[row] = self._shards[s][start : start + self.length + 1]
        return tokens


def pools_of(sizes: np.ndarray, share: float) -> np.ndarray:
    """Sequences (K,) of domains of these sizes that a share of them is, at least one of each."""
    return np.maximum(np.rint(share * sizes), 1).astype(np.int64)


def _shards(corpus: Corpus) -> list[np.ndarray]:
    streams = [stream for domain in corpus.domains for stream in domain.shards]
    return [np.asarray(corpus.read(stream)).view(np.ndarray) for stream in streams]


class MixtureIndex:
    """The order in which a trial reads sequences.

    Args:
        mixture: domain -> weight; domains left out weigh 0.
        total: sequences the trial reads.
        seed: draws each domain's order and shift.
        share: of each domain's sequences that are read, over and over.

    Attributes:
        pools: (K,) sequences of each domain that are read, at least one.
        counts: (K,) sequences read from each domain, exact.
        epochs: (K,) how often each domain's pool is read through; known before the first step.

    Raises:
        UserError: an unknown domain, or nothing to read.
    """

    def __init__(
        self,
        sequences: Sequences,
        mixture: Mapping[str, float],
        *,
        total: int,
        seed: int,
        share: float = 1.0,
    ) -> None:
        unknown = sorted(set(mixture) - set(sequences.domains))
        if unknown:
            raise UserError(
                f"The mixture names domain {unknown[0]!r}, which the corpus has not."
                f"{did_you_mean(unknown[0], sequences.domains)} Domains: "
                f"{listed(sequences.domains)}."
            )
        weights = np.array([float(mixture.get(name, 0.0)) for name in sequences.domains])
        if total < 1 or not weights.sum() > 0:
            raise UserError(f"Nothing to read: {total} sequences, weights sum to {weights.sum()}.")
        self.sequences, self.total = sequences, total
        self.counts = largest_remainder(weights, total)
        self.pools = pools_of(sequences.sizes, share)
        self.epochs = self.counts / self.pools
        streams = [domain_philox(seed, name) for name in sequences.domains]
        keys = np.array([stream.random_raw(ROUNDS) for stream in streams], dtype=np.uint64)
        self._shift = np.array([np.random.Generator(stream).random() for stream in streams])
        self._permute = Permutations(sequences.sizes, keys)
        # A pool's later passes; of whole domains None.
        self._again = Permutations(self.pools, keys) if share < 1 else None
        self._blocks = -(-total // BLOCK)
        self._starts = np.array(
            [int(self._before(b).sum()) for b in range(self._blocks + 1)], dtype=np.int64
        )
        self._block = lru_cache(maxsize=4)(self._compute)

    def ids(self, start: int, stop: int) -> np.ndarray:
        """The sequences (stop - start,) at positions start, start + 1, ... of the run."""
        if not 0 <= start <= stop <= self.total:
            raise IndexError(f"positions {start}:{stop} of a run of {self.total} sequences")
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        for block in range(first, self._blocks):
            begin = int(self._starts[block])
            if begin >= stop:
                break
            ids = self._block(block)
            parts.append(ids[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def epochs_of(self, stop: int) -> np.ndarray:
        """How often each domain's pool (K,) is read through in the positions before `stop`."""
        if stop == self.total:
            return self.epochs
        read = np.zeros(len(self.counts), dtype=np.int64)
        for start in range(0, stop, BLOCK):
            ids = self.ids(start, min(start + BLOCK, stop))
            read += np.bincount(self.domain_of(ids), minlength=len(read))
        return read / self.pools

    def domain_of(self, ids: np.ndarray) -> np.ndarray:
        """The domain's number (n,) of each sequence."""
        return np.searchsorted(self.sequences.offsets, ids, side="right") - 1

    def _before(self, block: int) -> np.ndarray:
        # Item i of domain k stands before time t when i + u_k < n_k t.
        if block >= self._blocks:
            return self.counts
        exact = self.counts * (block / self._blocks) - self._shift
        return np.clip(np.ceil(exact), 0, self.counts).astype(np.int64)

    def _compute(self, block: int) -> np.ndarray:
        first, last = self._before(block), self._before(block + 1)
        size = last - first
        domain = np.repeat(np.arange(len(size)), size)
        ends = np.cumsum(size)
        item = np.arange(len(domain)) - np.repeat(ends - size - first, size)
        time = (item + self._shift[domain]) / self.counts[domain]
        order = np.argsort(time, kind="stable")
        domain, item = domain[order], item[order]
        epoch, within = np.divmod(item, self.pools[domain])
        if self._again is not None:
            later = epoch > 0
            within[later] = self._again(domain[later], within[later], epoch[later])
            epoch = np.zeros_like(epoch)
        return self.sequences.offsets[domain] + self._permute(domain, within, epoch)


class Batches:
    """The batch of every step, for any rank of any world.

    Args:
        batch: sequences of one optimiser step, over all ranks.
    """

    def __init__(self, index: MixtureIndex, *, batch: int) -> None:
        self.index, self.batch = index, batch
        self.steps = index.total // batch

    def ids(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """The sequences that a rank reads at `step`; the ranks in order read the whole batch."""
        start = step * self.batch
        return self.index.ids(
            start + rank * self.batch // world, start + (rank + 1) * self.batch // world
        )

    def read(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """Tokens (n, length + 1) of this rank's share of the step."""
        return self.index.sequences.read(self.ids(step, rank, world))
