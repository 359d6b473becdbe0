"""The mixture as data: documents in mixed order, for a token budget.

Each domain gets its weight's share of the budget to the token, in whole documents: the last few are
chosen so that they fill it. Where none do, because documents are few or of one length, one more is
cut to fit (`mixture.json` counts them) and still ends with the end-of-text token; only a remainder
of one token, which holds no text, is left out. So all domains together are exact within a document.
Documents come where they belong in their domain's share: every prefix is near the mixture, too.
Documents of a domain come in an order drawn from (seed, domain, epoch) and repeat, reordered, when
the domain runs out. The output is a pure function of corpus, mixture, budget and seed; it is
written beside its final name and moved there when it is whole.

    mixture.bin, .idx   tokens, each document with its end-of-text token; Megatron's indexed format
    mixture.jsonl       {"text": ..., "domain": ...}, a document a line
    mixture.json        what was asked, what was written
"""

from __future__ import annotations

import heapq
import json
import logging
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from climb_opt.apportion import apportion
from climb_opt.errors import UserError, listed
from climb_opt.exports.formats import losses
from climb_opt.exports.handover import UNITS, Handover
from climb_opt.files import atomic, writing
from climb_opt.indexed import document_lengths, write_index
from climb_opt.shards import Corpus
from climb_opt.text import storable
from climb_opt.tokenizer import corpus_tokenizer

logger = logging.getLogger(__name__)

Kind = Literal["tokens", "documents"]
LAST, NEXT = 16, 48  # documents among which the last ones of a domain are chosen
GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread evenly over [0, 1)
MOST_BITS = 1 << 30  # of the table of sums that the choice needs
NAMES = {"tokens": "mixture.bin", "documents": "mixture.jsonl"}


@dataclass(frozen=True)
class Written:
    """What `materialise` wrote: tokens, documents, epochs of each domain, documents cut to fit."""

    path: Path
    tokens: dict[str, int]
    documents: dict[str, int]
    epochs: dict[str, float]
    cut: dict[str, int]

    @property
    def total(self) -> int:
        """All tokens."""
        return sum(self.tokens.values())


def materialise(
    handover: Handover,
    corpus: Corpus,
    folder: Path,
    *,
    kind: Kind = "tokens",
    progress: Callable[[int], None] = lambda tokens: None,
) -> Written:
    """The mixed data itself, written into a folder: tokens with Megatron's index, or documents.

    Args:
        kind: token stream, or text documents.
        progress: called with the tokens of each document written.

    Raises:
        UserError: no token budget, a folder that holds other things, a domain without a document,
            a full disk.
    """
    if handover.tokens is None or handover.tokens < 1:
        raise UserError("Materialising needs a budget: give --tokens, for example --tokens 1e9.")
    target = folder / NAMES[kind]
    if target.exists():
        raise UserError(f"{str(target)!r} exists already; give another --output or remove it.")
    for note in [*handover.first, *losses(handover)]:
        logger.warning("%s", note)
    quotas = quotas_of(handover)
    sources = {
        s.name: _Documents(corpus, s.name, quotas[s.name], handover.seed) for s in handover.sources
    }
    with writing(folder, kept=" Nothing that is there is complete."):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(target) as partial:
            lengths = []
            encode = _as_tokens if kind == "tokens" else _as_lines(corpus, sources)
            with partial.open("wb") as out:
                for name, document in mixed(sources):
                    out.write(encode(name, document))
                    lengths.append(len(document))
                    progress(len(document))
            if kind == "tokens":
                width = np.dtype(corpus.dtype).itemsize
                write_index(target.with_suffix(""), np.array(lengths, dtype=np.int64), width)
                shutil.copyfile(corpus.tokenizer_file, folder / "tokenizer.json")
            written = _summary(target, sources)
            _write_manifest(folder / "mixture.json", handover, corpus, written)
        if none := [name for name, n in written.tokens.items() if not n]:
            logger.warning("Nothing written of %s: the budget is too small.", listed(none))
    return written


def quotas_of(handover: Handover) -> dict[str, int]:
    """Tokens of each domain: its share of the budget by largest remainders; they sum to it."""
    assert handover.tokens is not None
    parts = np.array([s.units * handover.tokens for s in handover.sources], dtype=object)
    found = apportion(parts, handover.tokens, UNITS)
    return dict(zip((s.name for s in handover.sources), found.tolist(), strict=True))


def mixed(sources: dict[str, _Documents]) -> Iterator[tuple[str, np.ndarray]]:
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


class _Documents:
    """A domain's documents, in a new order each epoch, until its quota of tokens is full."""

    def __init__(self, corpus: Corpus, name: str, quota: int, seed: int) -> None:
        domain = corpus.domain(name)
        self._arrays = [corpus.read(shard) for shard in domain.shards]
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
        self.quota, self._eos = quota, corpus.eos
        self.size = int(self._length.sum())
        self.taken = self.documents = self.cut = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        epochs, rest = divmod(self.quota, self.size)
        for epoch in range(epochs):
            for row in self._order(epoch):
                yield self._document(row)
        rows, gap, spare = fill(self._order(epochs), self._length, rest)
        for row in rows:
            yield self._document(row)
        if gap > 1:
            part = self._document(spare)[: gap - 1]
            self.cut += 1
            yield np.append(part, np.array(self._eos, dtype=part.dtype))

    def _order(self, epoch: int) -> np.ndarray:
        order: np.ndarray = np.random.default_rng([*self._key, epoch]).permutation(len(self._end))
        return order

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


def _as_tokens(name: str, document: np.ndarray) -> bytes:
    return document.tobytes()


def _as_lines(corpus: Corpus, sources: dict[str, _Documents]) -> Callable[[str, np.ndarray], bytes]:
    """A function of a domain and a document of it: the line of its text."""
    tokenizer = corpus_tokenizer(corpus.tokenizer_file, corpus.eos)

    def line(name: str, document: np.ndarray) -> bytes:
        body = document[:-1] if document[-1] == corpus.eos else document
        text = tokenizer.decode(body.tolist(), skip_special_tokens=False)
        if sources[name].cut and sources[name].taken == sources[name].quota:
            text = text.rstrip("\ufffd")  # half a character, where the last document was cut
        return json.dumps({"text": text, "domain": name}, ensure_ascii=False).encode() + b"\n"

    return line


def _summary(target: Path, sources: dict[str, _Documents]) -> Written:
    return Written(
        path=target,
        tokens={name: s.taken for name, s in sources.items()},
        documents={name: s.documents for name, s in sources.items()},
        epochs={name: s.taken / s.size for name, s in sources.items()},
        cut={name: s.cut for name, s in sources.items()},
    )


def _write_manifest(path: Path, handover: Handover, corpus: Corpus, written: Written) -> None:
    domains = {
        s.name: {
            "weight": s.weight,
            "realised": written.tokens[s.name] / max(1, written.total),
            "tokens": written.tokens[s.name],
            "documents": written.documents[s.name],
            "cut": written.cut[s.name],
            "epochs": written.epochs[s.name],
        }
        for s in handover.sources
    }
    facts = {
        "study": handover.study,
        "rule": handover.rule,
        "as_good": handover.as_good or None,
        "corpus": corpus.digest,
        "seed": handover.seed,
        "dtype": corpus.dtype,
        "vocab_size": corpus.vocab_size,
        "eos": corpus.eos,
        "tokens": written.total,
        "left_out": dict(handover.left_out),
        "domains": domains,
    }
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
