"""Stages `tokenizer` and `tokens`: any Hugging Face tokenizer, or a byte-level BPE trained here.

A block's tokens lie in one file, document after document, each followed by the end-of-text token,
with one length a document beside it. They depend on the documents and the tokenizer alone, so
another clustering of the same documents does not tokenise again.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, gathered, read_texts
from climb_opt.corpus.files import load_array
from climb_opt.corpus.run.jobs import Advance, How, silent
from climb_opt.corpus.run.local import serial_tokenizers
from climb_opt.corpus.run.workspace import Stage
from climb_opt.corpus.stages.bpe import check_size
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError, first_line
from climb_opt.files import atomic
from climb_opt.shards import file_digest
from climb_opt.tokenizer import (
    EOS,
    EOS_NAMES,
    EndOfText,
    corpus_tokenizer,
    end_of_text,
    load_tokenizer,
    unknown_of,
)

logger = logging.getLogger(__name__)

PIECE = 1_000_000  # characters encoded at once; a longer document is cut before a space
BATCH = 2 * PIECE  # characters of a long document encoded in one call, which no signal interrupts
# What is encoded in one call: its encodings, some 150 bytes a token, should stay in a core's cache
# (against 2000 documents: a tenth less CPU time, docs/notes/corpus.md#time-and-memory).
SLOT_DOCUMENTS = 64
SHARED_SLOT_DOCUMENTS = 1000  # where the library's threads share a call, and wait for each other
SLOT_CHARACTERS = 3000  # times the documents: a slot ends there, too
MOST_THREADED = 4  # cores that threads keep busy; taking over the ids holds the interpreter lock


@dataclass(frozen=True)
class TokenOptions:
    """Which tokenizer.

    `tokenizer` is a `tokenizers` file, a folder that holds tokenizer.json, or a name on the hub;
    None trains a byte-level BPE of `vocab_size` tokens on about `train_bytes` of the documents.
    """

    tokenizer: str | None = None
    vocab_size: int = CorpusRecipe.vocab_size
    train_bytes: int = 10_000_000
    eos: str | None = None


@dataclass(frozen=True)
class TokenFacts:
    """What the rest of a build must know about a tokenizer."""

    vocab_size: int
    eos: int
    dtype: str  # "uint16" or "uint32"
    unknown: int | None = None  # stands for all that the tokenizer has no token for


def identity(options: TokenOptions) -> list[Any]:
    """What a given tokenizer's tokens depend on: its content, or its name on the hub."""
    file = Path(options.tokenizer or "")
    file = file / "tokenizer.json" if file.is_dir() else file
    known = file_digest(file) if file.is_file() else options.tokenizer
    return [known, options.eos]


def end_of(options: TokenOptions, tokenizer: Any) -> EndOfText:
    """The token that ends a document, said where a person's own tokenizer is used."""
    if options.tokenizer is None:
        return EndOfText(EOS, tokenizer.token_to_id(EOS), "learnt with the corpus's own tokenizer")
    end = end_of_text(tokenizer, options.tokenizer, options.eos)
    logger.log(logging.INFO if end.sure else logging.WARNING, "Tokens: %s.", end)
    return end


def check(options: TokenOptions) -> None:
    """Find what is wrong with the tokenizer before any document is read.

    Raises:
        UserError: it cannot be loaded or has no end of text; --eos or --vocab-size cannot be met.
    """
    if options.tokenizer is not None:
        end_of_text(load_tokenizer(options.tokenizer), options.tokenizer, options.eos)
        return
    check_size(options.vocab_size)
    if options.eos not in (None, EOS):
        raise UserError(
            f"--eos {options.eos!r} names a token of a given --tokenizer; the one that is trained "
            f"on the documents ends them with {EOS}."
        )


def eos_asked(options: TokenOptions, tokenizer: Any, end: EndOfText) -> str | None:
    """The end that the stage of the tokens is named by: none where a known name alone decides.

    So stages made before the files beside a tokenizer were asked are used where they are right.
    """
    if options.eos is not None or options.tokenizer is None:
        return options.eos
    known = next((n for n in EOS_NAMES if tokenizer.token_to_id(n) is not None), None)
    return None if end.token == known else end.token


def facts_of(tokenizer: Any, end: EndOfText | None = None) -> TokenFacts:
    """Vocabulary size, end-of-text token (None: by its name) and width of a tokenizer."""
    eos = (end or end_of_text(tokenizer)).number
    # Ids may have holes: the largest id decides what an embedding table must hold.
    vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    dtype = "uint16" if vocab_size <= 2**16 else "uint32"
    return TokenFacts(vocab_size, eos, dtype, unknown_of(tokenizer))


def tokenise(
    stage: Stage,
    documents: Stage,
    blocks: Sequence[Block],
    keep: Stage,
    tokenizer_file: Path,
    facts: TokenFacts,
) -> None:
    """Write `<block>.bin` and `<block>.lengths.npy` for every block.

    Args:
        keep: stage with `<block>.first.npy`: documents for which it is False get no tokens.
    """
    engine, parts = stage.workspace.engine, stage.workspace.part[1]
    serial = len(blocks) // parts >= engine.workers  # else only the library can use all cores
    slot = SLOT_DOCUMENTS if serial else SHARED_SLOT_DOCUMENTS
    task = _Tokenising(stage.path, documents.path, keep.path, tokenizer_file, facts, slot)
    # The library leaves the interpreter lock while it encodes. With its own threads, a second
    # block keeps them busy while the first is read and written.
    threads = engine.workers if serial else 2
    many = engine.workers > MOST_THREADED
    with serial_tokenizers() if serial else nullcontext():
        stage.over(blocks, task, marker=".lengths.npy", how=How(many, threads, by_bytes=True))


_encoder = lru_cache(maxsize=1)(corpus_tokenizer)  # of a process that does block after block


@dataclass(frozen=True)
class _Tokenising:
    """The task of a block."""

    folder: Path
    documents: Path
    keep: Path
    tokenizer_file: Path
    facts: TokenFacts
    slot: int

    def __call__(self, block: Block, advance: Advance) -> np.ndarray:
        tokenizer = _encoder(self.tokenizer_file, self.facts.eos)
        kept = load_array(self.keep / f"{block.name}.first.npy", mapped=False)
        lengths = np.zeros(block.documents, dtype=np.int64)
        texts = read_texts(self.documents, block.name, kept)
        rows = np.flatnonzero(kept)
        done = 0
        target = self.folder / f"{block.name}.bin"
        with atomic(target) as partial_path, partial_path.open("wb") as file:
            for some in gathered(texts, self.slot, self.slot * SLOT_CHARACTERS, len):
                tokens, counts = encode(tokenizer, some, self.facts, advance)
                lengths[rows[done : done + len(some)]] = counts
                done += len(some)
                file.write(tokens.data)  # `tofile` loses why a disk takes no more
        return lengths


def encode(
    tokenizer: Any, texts: Sequence[str], facts: TokenFacts, advance: Advance = silent
) -> tuple[np.ndarray, np.ndarray]:
    """The texts' tokens, each followed by the end-of-text token, and each text's token count.

    Args:
        advance: told after each call of the library how many characters were encoded, fewer than
            bytes or as many; what it raises ends the work.
    """
    dtype = np.dtype(facts.dtype).newbyteorder("<")
    arrays: list[np.ndarray] = []
    ends: list[int] = []
    total = 0
    pieces = (piece for text in texts for piece in _pieces(text))
    # A document of any length takes no more memory than a batch.
    for batch in gathered(pieces, BATCH, BATCH, lambda piece: len(piece[0])):
        ids: list[int] = []
        parts = [part for part, _ in batch]
        try:
            encodings = tokenizer.encode_batch_fast(parts, add_special_tokens=False)
        except Exception as error:  # the library raises bare Exception for every fault
            raise UserError(
                f"The tokenizer cannot encode a document: {first_line(error)}. Give it a token for "
                "what it does not know (unk_token), or name another --tokenizer."
            ) from None
        for encoding, (_, ends_text) in zip(encodings, batch, strict=True):
            ids += encoding.ids
            if ends_text:
                ids.append(facts.eos)
                ends.append(total + len(ids))
        # By way of an array: half the time that numpy takes to read a list.
        arrays.append(np.asarray(array("I", ids)).astype(dtype))
        total += len(ids)
        advance(sum(map(len, parts)))
    return np.concatenate(arrays), np.diff(np.array(ends, dtype=np.int64), prepend=0)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """A text, a long one cut before spaces that follow a word, and whether a piece ends it.

    There a byte-level pre-tokenizer cuts too, so the tokens are those of the whole text.
    """
    start = 0
    while len(text) - start > PIECE:
        cut = text.rfind(" ", start + PIECE // 2, start + PIECE)
        while cut > start and text[cut - 1].isspace():
            cut = text.rfind(" ", start + PIECE // 2, cut)
        cut = cut if cut > start else start + PIECE
        yield text[start:cut], False
        start = cut
    yield text[start:], True


def token_indices(ends: np.ndarray, rows: np.ndarray, limit: int | None = None) -> np.ndarray:
    """Where the tokens of these documents are, document after document.

    Args:
        ends: of all documents, (documents,).
        limit: only so many tokens of each document.
    """
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[rows]
    lengths = ends[rows] - starts
    if limit is not None:
        lengths = np.minimum(lengths, limit)
    before = np.cumsum(lengths) - lengths
    indices: np.ndarray = np.repeat(starts - before, lengths)
    indices += np.arange(len(indices))
    return indices


def read_tokens(folder: Path, block: Block, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """A block's tokens, memory-mapped, and the end of each document in them (documents,)."""
    ends = np.cumsum(load_array(folder / f"{block.name}.lengths.npy"))
    path = folder / f"{block.name}.bin"
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype), ends
    return np.memmap(path, dtype=dtype, mode="r"), ends
