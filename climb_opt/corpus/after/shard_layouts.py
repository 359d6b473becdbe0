"""Layouts that a corpus's shards alone give, whatever they came from: for trainers that read tokens
or text. Files are numbered as domains are in the corpus; `climb-opt export` names the same.

    megatron   domain_000.bin, .idx; domain_000_heldout.bin, .idx
    nanotron   domain_000/000.ds, 000.ds.index: a folder of a domain's shards (a Nanoset)
    jsonl      domain_000.jsonl; domain_000_heldout.jsonl: {"text": ...} a line
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.after.megatron import export_megatron, held_out_of
from climb_opt.corpus.files import save_lines
from climb_opt.files import atomic
from climb_opt.indexed import document_lengths
from climb_opt.progress import progress
from climb_opt.shards import Corpus, Stream
from climb_opt.tokenizer import load_tokenizer

TEXTS = 1024  # documents decoded at once


def export_nanotron(corpus: Corpus, folder: Path, *, show: bool | None = None) -> None:
    """A Nanoset for each domain: datatrove's `.ds` files are tokens as our shards are."""
    total = sum(d.tokens for d in corpus.domains)
    with progress(total, "export", "token", large=True, show=show) as bar:
        for index, domain in enumerate(corpus.domains):
            place = folder / f"domain_{index:03d}"
            place.mkdir(parents=True)
            for number, shard in enumerate(domain.shards):
                file = place / f"{number:03d}.ds"
                ends = np.cumsum(document_lengths(corpus.read(shard), corpus.eos))
                with atomic(Path(f"{file}.index")) as partial:
                    partial.write_bytes(ends.astype("<u8").tobytes())
                with atomic(file) as partial:
                    shutil.copyfile(corpus.path / shard.file, partial)
                bar.update(shard.tokens)


def export_jsonl(corpus: Corpus, folder: Path, *, show: bool | None = None) -> None:
    """Each domain's documents as text, decoded from its tokens; and its held-out part's."""
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(s.documents for s in corpus.streams())
    with progress(total, "export", "document", large=True, show=show) as bar:
        for index, domain in enumerate(corpus.domains):
            prefix = folder / f"domain_{index:03d}"
            save_lines(Path(f"{prefix}.jsonl"), _rows(corpus, domain.shards, bar))
            if domain.heldout is not None:
                file = Path(f"{held_out_of(prefix)}.jsonl")
                save_lines(file, _rows(corpus, (domain.heldout,), bar))


def _rows(corpus: Corpus, streams: Sequence[Stream], bar: Any) -> Iterator[dict[str, str]]:
    for texts in (some for stream in streams for some in _texts(corpus, stream)):
        yield from ({"text": text} for text in texts)
        bar.update(len(texts))


def _texts(corpus: Corpus, stream: Stream) -> Iterator[list[str]]:
    """The documents of a stream as text, some at a time."""
    tokenizer = load_tokenizer(str(corpus.tokenizer_file))
    tokens = corpus.read(stream)
    ends = np.cumsum(document_lengths(tokens, corpus.eos))
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    for low in range(0, len(ends), TEXTS):
        rows = range(low, min(low + TEXTS, len(ends)))
        documents = [np.asarray(tokens[starts[row] : ends[row]]) for row in rows]
        bodies = [d[:-1] if d[-1] == corpus.eos else d for d in documents]
        yield tokenizer.decode_batch([b.tolist() for b in bodies], skip_special_tokens=False)


# What `corpus export` can write: the first two from a build's stages, the others from the shards.
LAYOUTS = {
    "curator": "NeMo Curator's: documents by centroid, and Megatron's pairs",
    "weborganizer": "WebOrganizer's side files beside the documents",
    "megatron": "Megatron's pairs domain_000.bin and .idx; also raw tokens for OLMo-core",
    "nanotron": "a folder domain_000/ of .ds files each, for nanotron's Nanosets",
    "jsonl": "domain_000.jsonl of texts, for Hugging Face datasets, torchtitan, LLM Foundry",
}
OF_SHARDS: dict[str, Callable[[Corpus, Path], object]] = {
    "megatron": export_megatron,
    "nanotron": export_nanotron,
    "jsonl": export_jsonl,
}
