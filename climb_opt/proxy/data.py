"""Which sequence is read when: an exact mixture as a pure function of the step.

A trial reads N sequences of T tokens (plus the next token, as the last one's target), in each of
its phases exactly as many of every domain as the phase's mixture says, evenly spread (`order.py`).
The i-th sequence of a domain, counted over the whole run, is the same in every trial of a seed,
whatever the weights and the phases, so trials share random numbers and differ by their mixtures
only; and a domain is read through before any of it is repeated, whichever phase that is in.

A trial may read from a *share* of every domain only, its pool: a proxy on a quarter of the tokens
then repeats a domain as often as the whole run does (arXiv 2606.07597). The pool is what a trial of
the seed reads first of the domain, whatever its share: pools lie within each other and are spread
over all shards, and where nothing is repeated a share changes nothing.

Nothing is stored per sequence. A run of 20 M sequences costs about a megabyte (the tables this
replaces: 120 MB), and resuming is one integer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from climb_opt.errors import UserError, did_you_mean, listed
from climb_opt.proxy.order import Order, Stretch
from climb_opt.proxy.permute import ROUNDS, Permutations, domain_philox
from climb_opt.shards import Corpus


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
        rows = [[max(s.tokens - 1, 0) // length for s in d.shards] for d in corpus.domains]
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
        mixture: domain -> weight, throughout, or what is read in each phase; domains left out
            weigh 0.
        total: sequences the trial reads, in all phases.
        seed: draws each domain's order and shift.

    Attributes:
        pools: (K,) sequences of each domain that are read, at least one.
        phase_counts: (P, K) sequences read from each domain in each phase, exact.
        counts: (K,) the same of the whole run.
        epochs: (K,) how often each domain's pool is read through; known before the first step.

    Raises:
        UserError: an unknown domain, or nothing to read.
    """

    def __init__(
        self,
        sequences: Sequences,
        mixture: Mapping[str, float] | Iterable[Stretch],
        *,
        total: int,
        seed: int,
    ) -> None:
        self.sequences, self.total = sequences, total
        phases = [Stretch(mixture, total, total)] if isinstance(mixture, Mapping) else list(mixture)
        weights = [self._weights(phase) for phase in phases]
        assert sum(phase.length for phase in phases) == total
        streams = [domain_philox(seed, name) for name in sequences.domains]
        keys = np.array([stream.random_raw(ROUNDS) for stream in streams], dtype=np.uint64)
        shift = np.array([np.random.Generator(stream).random() for stream in streams])
        self._permute = Permutations(sequences.sizes, keys)
        self.pools = pools_of(sequences.sizes, sequences.share)
        # A pool's later passes; of whole domains None.
        self._again = Permutations(self.pools, keys) if sequences.share < 1 else None
        pairs = zip(weights, phases, strict=True)
        self._orders = [Order(row, shift, phase.length, phase.whole) for row, phase in pairs]
        self.phase_counts = np.stack([order.counts for order in self._orders])
        self.counts = self.phase_counts.sum(axis=0)
        self.epochs = self.counts / self.pools
        self._items = np.cumsum(self.phase_counts, axis=0) - self.phase_counts  # read before (P, K)
        self._lay_out([phase.length for phase in phases])
        self._block = lru_cache(maxsize=4)(self._compute)

    def ids(self, start: int, stop: int) -> np.ndarray:
        """The sequences (stop - start,) at positions start, start + 1, ... of the run."""
        if not 0 <= start <= stop <= self.total:
            raise IndexError(f"positions {start}:{stop} of a run of {self.total} sequences")
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = [np.zeros(0, dtype=np.int64)]
        for block in range(first, int(np.searchsorted(self._starts, stop))):
            begin = int(self._starts[block])
            parts.append(self._block(block)[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts)

    def facts(self, batch: int) -> dict[str, Any]:
        """Each domain's epochs; of several phases the first step and each domain's sequences.

        Args:
            batch: sequences of a step.
        """
        names, begin = self.sequences.domains, 0
        phases = []
        for counts in self.phase_counts.tolist():
            read = {name: n for name, n in zip(names, counts, strict=True) if n}
            phases.append({"from_step": begin // batch, "sequences": read})
            begin += sum(counts)
        found = {"epochs": dict(zip(names, self.epochs.tolist(), strict=True))}
        return found if len(phases) == 1 else {**found, "phases": phases}

    def domain_of(self, ids: np.ndarray) -> np.ndarray:
        """The domain's number (n,) of each sequence."""
        return np.searchsorted(self.sequences.offsets, ids, side="right") - 1

    def _weights(self, stretch: Stretch) -> np.ndarray:
        names, mixture = self.sequences.domains, stretch.mixture
        unknown = sorted(set(mixture) - set(names))
        if unknown:
            raise UserError(
                f"The mixture names domain {unknown[0]!r}, which the corpus has not."
                f"{did_you_mean(unknown[0], names)} Domains: {listed(names)}."
            )
        weights = np.array([float(mixture.get(name, 0.0)) for name in names])
        if stretch.length < 1 or not weights.sum() > 0:
            raise UserError(
                f"Nothing to read: {stretch.length} sequences, weights sum to {weights.sum()}."
            )
        return weights

    def _lay_out(self, lengths: list[int]) -> None:
        # The phase and the number in it of each block of the run, and where each begins.
        sizes = [len(order.starts) - 1 for order in self._orders]
        self._blocks = [(p, b) for p, size in enumerate(sizes) for b in range(size)]
        begins = np.cumsum([0, *lengths[:-1]])
        starts = [o.starts[:-1] + begin for o, begin in zip(self._orders, begins, strict=True)]
        self._starts = np.concatenate(starts)

    def _compute(self, block: int) -> np.ndarray:
        phase, number = self._blocks[block]
        domain, item = self._orders[phase].block(number)
        item = item + self._items[phase][domain]
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
        first, last = (step * self.batch + r * self.batch // world for r in (rank, rank + 1))
        return self.index.ids(first, last)

    def read(self, step: int, rank: int = 0, world: int = 1) -> np.ndarray:
        """Tokens (n, length + 1) of this rank's share of the step."""
        return self.index.sequences.read(self.ids(step, rank, world))


class Reader:
    """Reads this rank's tokens (n, T + 1) of a step by `read`, in the order of the steps.

    Args:
        known: the step before which it is decided what is read.
        ahead: read the next step's in a thread.
    """

    def __init__(
        self, read: Callable[[int], np.ndarray], known: Callable[[], int], *, ahead: bool
    ) -> None:
        self.read, self.known = read, known
        self.pool = ThreadPoolExecutor(1) if ahead else None
        self.next: tuple[int, Future] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, step: int) -> np.ndarray:
        """The tokens of a step."""
        if self.pool is None:
            return self.read(step)
        current = self.next[1] if self.next and self.next[0] == step else None
        tokens: np.ndarray = current.result() if current else self.read(step)
        if step + 1 < self.known():
            self.next = (step + 1, self.pool.submit(self.read, step + 1))
        return tokens
