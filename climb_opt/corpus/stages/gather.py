"""Stage `shards`: token blocks -> one stream per domain, its held-out part, and the targets.

One pass over the blocks; every file is written from start to end, hashed as it grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, read_rows
from climb_opt.corpus.files import load_array
from climb_opt.corpus.stages.counts import Stages, held_out_keys, trained_on
from climb_opt.corpus.stages.roles import TARGET, Target
from climb_opt.corpus.stages.tokenise import read_tokens, token_indices
from climb_opt.files import allow_open_files
from climb_opt.indexed import index_shards
from climb_opt.shards import Corpus, Domain, Stream, file_digest

SHARD_TOKENS = 2**29  # 1 GiB of uint16: easy to copy, few enough to open


class StreamWriter:
    """Appends documents to numbered shards below a folder: `stem.bin`, `stem.001.bin`, ...

    A context: its file is closed whatever happens.
    """

    def __init__(self, folder: Path, stem: str, dtype: str) -> None:
        self.folder = folder
        self.stem = stem
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.done: list[Stream] = []
        self._open()

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _open(self) -> None:
        number = f".{len(self.done):03d}" if self.done else ""
        self._name = f"{self.stem}{number}.bin"
        self._file = (self.folder / self._name).open("wb")
        self._hash = hashlib.sha256()
        self._counts = [0, 0, 0]  # tokens, documents, bytes

    def add(self, tokens: np.ndarray, documents: int, size: int, whole: bool = False) -> None:
        """Append whole documents. `whole`: keep them all in one shard."""
        if not whole and self._counts[0] + len(tokens) > SHARD_TOKENS and self._counts[0]:
            self._finish()
            self._open()
        data = np.ascontiguousarray(tokens, dtype=self.dtype)
        self._file.write(data.data)
        self._hash.update(data.data)
        for index, more in enumerate((len(data), documents, size)):
            self._counts[index] += int(more)

    def close(self) -> tuple[Stream, ...]:
        """The finished shards."""
        self._finish()
        return tuple(self.done)

    def _finish(self) -> None:
        self._file.close()
        tokens, documents, size = self._counts
        digest = self._hash.hexdigest()
        self.done.append(Stream(self._name, tokens, documents, size, digest))


def completed(corpus: Corpus) -> Corpus:
    """Write the indices and then the manifest of a corpus whose streams and tokenizer are in its
    folder; the corpus as it loads."""
    whole = replace(corpus, tokenizer=file_digest(corpus.tokenizer_file))
    index_shards(whole)
    whole.save()
    return Corpus.load(corpus.path)


def gather(
    folder: Path,
    stages: Stages,
    facts: Mapping[str, Any],
    targets: Sequence[Target],
    dtype: str,
    seed: int,
) -> tuple[tuple[Domain, ...], dict[str, Stream]]:
    """Write all streams into `folder`.

    Args:
        facts: what `make_domains` returned.
    """
    of_cluster = np.array(facts["of_cluster"], dtype=np.int64)
    below = np.array([d["held_out_below"] for d in facts["domains"]], dtype=np.uint64)
    count = len(facts["domains"])
    stems = [f"domain_{i:03d}" for i in range(count)]
    stems += [f"domain_{i:03d}.heldout" for i in range(count)]
    stems += [f"target_{t.name}" for t in targets]
    allow_open_files(len(stems))
    with ExitStack() as stack:
        writers = [stack.enter_context(StreamWriter(folder, stem, dtype)) for stem in stems]
        for block in stages.tokens.workspace.each("shards", stages.blocks):
            destination = _destinations(stages, block, of_cluster, below, seed)
            _distribute(stages, block, destination, writers, count, dtype)
        streams = [w.close() for w in writers]
    domains = tuple(
        _domain(fact, streams[i], streams[count + i][0]) for i, fact in enumerate(facts["domains"])
    )
    held_out = {t.name: streams[2 * count + i][0] for i, t in enumerate(targets)}
    return domains, held_out


def _destinations(
    stages: Stages, block: Block, of_cluster: np.ndarray, below: np.ndarray, seed: int
) -> np.ndarray:
    """The writer of each document of a block, -1 for none: domains, held-out parts, targets."""
    found = np.full(block.documents, -1, dtype=np.int64)
    rows, cluster = trained_on(stages, block)
    domain = of_cluster[cluster]
    held = held_out_keys(stages, block, rows, seed) < below[np.maximum(domain, 0)]
    found[rows] = np.where(domain >= 0, domain + len(below) * held, -1)
    role = load_array(stages.roles.file(f"{block.name}.role.npy"))
    role = np.asarray(role, dtype=np.int64)  # stored in bytes
    in_target = role >= TARGET
    found[in_target] = 2 * len(below) + (role[in_target] - TARGET)
    return found


def _distribute(
    stages: Stages,
    block: Block,
    destination: np.ndarray,
    writers: Sequence[StreamWriter],
    domains: int,
    dtype: str,
) -> None:
    sizes = np.asarray(read_rows(stages.documents.path, block.name)["bytes"])
    tokens, ends = read_tokens(stages.tokens.path, block, dtype)
    tokens = np.asarray(tokens)
    for index in np.unique(destination[destination >= 0]):
        rows = np.flatnonzero(destination == index)
        part = tokens[token_indices(ends, rows)]
        writers[index].add(part, len(rows), int(sizes[rows].sum()), index >= domains)


def _domain(fact: Mapping[str, Any], shards: tuple[Stream, ...], held_out: Stream) -> Domain:
    info = {k: v for k, v in fact.items() if k not in ("name", "held_out_below")}
    return Domain(fact["name"], shards, held_out if held_out.documents else None, info)
