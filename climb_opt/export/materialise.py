"""The mixture as data: whole documents in mixed order, for a token budget.

The next document always comes from the domain that is furthest behind its share of the tokens
written so far, so that every prefix of the output is within one document per domain of the mixture.
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
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from climb_opt.errors import UserError
from climb_opt.export.handover import Handover
from climb_opt.shards import Corpus

Kind = Literal["tokens", "documents"]
NAMES = {"tokens": "mixture.bin", "documents": "mixture.jsonl"}

# Megatron's indexed data set: header, version and codes of token types.
MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
CODES = {2: 8, 4: 4}  # bytes a token -> uint16, int32


@dataclass(frozen=True)
class Written:
    """What `materialise` wrote: tokens, documents and epochs of each domain."""

    path: Path
    tokens: dict[str, int]
    documents: dict[str, int]
    epochs: dict[str, float]

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
    """Write the mixed data into `folder`.

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
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    sources = {s.name: _Documents(corpus, s.name, handover.seed) for s in handover.sources}
    weights = {s.name: s.weight for s in handover.sources}
    order = mixed(sources, weights, handover.tokens)
    try:
        with partial.open("wb") as out:
            write = _write_tokens if kind == "tokens" else _write_documents
            lengths = write(out, order, corpus, sources, progress)
        if kind == "tokens":
            _write_index(target.with_suffix(".idx"), lengths, np.dtype(corpus.dtype).itemsize)
            shutil.copyfile(corpus.tokenizer_file, folder / "tokenizer.json")
        written = _summary(target, sources)
        _write_manifest(folder / "mixture.json", handover, corpus, written)
        os.replace(partial, target)
    except OSError as error:
        raise UserError(
            f"{str(folder)!r} cannot be written: {error.strerror}. Nothing that is there is "
            "complete; free some space or give another --output."
        ) from error
    return written


def mixed(
    sources: dict[str, _Documents], weights: dict[str, float], budget: int
) -> Iterator[tuple[str, np.ndarray]]:
    """(domain, tokens) of each document in order, until `budget` tokens are reached."""
    # The domain whose tokens are lowest for its weight comes next; ties go to the earlier one.
    heap = [(0.0, place, name) for place, name in enumerate(weights)]
    done = 0
    while done < budget:
        _, place, name = heap[0]
        document = sources[name].next()
        done += len(document)
        heapq.heapreplace(heap, (sources[name].taken / weights[name], place, name))
        yield name, document


class _Documents:
    """A domain's documents, in a new order each epoch."""

    def __init__(self, corpus: Corpus, name: str, seed: int) -> None:
        domain = corpus.domain(name)
        self._arrays = [corpus.read(shard) for shard in domain.shards]
        ends = [np.flatnonzero(np.asarray(a) == corpus.eos) + 1 for a in self._arrays]
        shard = np.repeat(np.arange(len(ends)), [len(e) for e in ends])
        starts = [np.concatenate([[0], e[:-1]]) for e in ends]
        self._shard = shard
        self._start = np.concatenate(starts) if starts else np.zeros(0, dtype=int)
        self._end = np.concatenate(ends) if ends else np.zeros(0, dtype=int)
        if not len(self._end):
            raise UserError(
                f"Domain {name!r} holds no whole document; nothing of it can be written. "
                "Build the corpus again, or export without it."
            )
        self._key = (seed, zlib.crc32(name.encode()))
        self._epoch, self._place = -1, len(self._end)
        self.size = int((self._end - self._start).sum())
        self.taken = self.documents = 0

    def next(self) -> np.ndarray:
        """The next document's tokens, with its end-of-text token."""
        if self._place == len(self._end):
            self._epoch, self._place = self._epoch + 1, 0
            rng = np.random.default_rng([*self._key, self._epoch])
            self._order = rng.permutation(len(self._end))
        k = self._order[self._place]
        self._place += 1
        document = self._arrays[self._shard[k]][self._start[k] : self._end[k]]
        self.taken += len(document)
        self.documents += 1
        return np.asarray(document)


def _write_tokens(
    out: BinaryIO,
    order: Iterator[tuple[str, np.ndarray]],
    corpus: Corpus,
    sources: dict[str, _Documents],
    progress: Callable[[int], None],
) -> list[int]:
    lengths = []
    for _, document in order:
        out.write(document.tobytes())
        lengths.append(len(document))
        progress(len(document))
    return lengths


def _write_documents(
    out: BinaryIO,
    order: Iterator[tuple[str, np.ndarray]],
    corpus: Corpus,
    sources: dict[str, _Documents],
    progress: Callable[[int], None],
) -> list[int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError(
            "Writing documents needs the tokenizers package: pip install 'climb-opt[corpus]'."
        ) from None
    tokenizer = Tokenizer.from_buffer(corpus.tokenizer_file.read_bytes())
    lengths = []
    for name, document in order:
        text = tokenizer.decode(document[:-1].tolist(), skip_special_tokens=False)
        line = json.dumps({"text": text, "domain": name}, ensure_ascii=False)
        out.write(line.encode() + b"\n")
        lengths.append(len(document))
        progress(len(document))
    return lengths


def _write_index(path: Path, lengths: list[int], token_bytes: int) -> None:
    """Megatron's .idx: lengths, byte offsets, and document bounds (a document a sequence)."""
    sizes = np.array(lengths, dtype="<i4")
    offsets = np.zeros(len(sizes), dtype="<i8")
    np.cumsum(sizes[:-1].astype("<i8") * token_bytes, out=offsets[1:])
    header = struct.pack("<QBQQ", VERSION, CODES[token_bytes], len(sizes), len(sizes) + 1)
    bounds = np.arange(len(sizes) + 1, dtype="<i8")
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(MAGIC + header + sizes.tobytes() + offsets.tobytes() + bounds.tobytes())
    os.replace(partial, path)


def _summary(target: Path, sources: dict[str, _Documents]) -> Written:
    return Written(
        path=target,
        tokens={name: s.taken for name, s in sources.items()},
        documents={name: s.documents for name, s in sources.items()},
        epochs={name: s.taken / s.size for name, s in sources.items()},
    )


def _write_manifest(path: Path, handover: Handover, corpus: Corpus, written: Written) -> None:
    domains = {
        s.name: {
            "weight": s.weight,
            "realised": written.tokens[s.name] / written.total,
            "tokens": written.tokens[s.name],
            "documents": written.documents[s.name],
            "epochs": written.epochs[s.name],
        }
        for s in handover.sources
    }
    facts = {
        "study": handover.study,
        "rule": handover.rule,
        "corpus": corpus.digest,
        "seed": handover.seed,
        "dtype": corpus.dtype,
        "vocab_size": corpus.vocab_size,
        "eos": corpus.eos,
        "tokens": written.total,
        "domains": domains,
    }
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
