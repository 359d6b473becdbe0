"""Stages `tokenizer` and `tokens`: any Hugging Face tokenizer, or a byte-level BPE trained here.

A block's tokens lie in one file, document after document, each followed by the end-of-text token,
with one length a document beside it. They depend on the documents and the tokenizer alone, so
another clustering of the same documents does not tokenise again.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.bpe import EOS
from climb_opt.corpus.bpe import train_tokenizer as train_tokenizer
from climb_opt.corpus.documents import Block, read_texts
from climb_opt.corpus.engines import Advance, serial_tokenizers
from climb_opt.corpus.files import load_array, save_array
from climb_opt.corpus.need import need
from climb_opt.corpus.workspace import Stage
from climb_opt.errors import UserError
from climb_opt.files import atomic
from climb_opt.reading import read_text

logger = logging.getLogger(__name__)

# Names of the token that ends a document, in the order they are looked for.
EOS_NAMES = (EOS, "</s>", "<|end_of_text|>", "<eos>", "<|eot|>", "<|im_end|>", "[SEP]")
PIECE = 1_000_000  # characters encoded at once; a longer document is cut before a space
BATCH = 4 * PIECE  # characters of a long document encoded in one call
# What is encoded in one call: its encodings, some 150 bytes a token, should stay in a core's cache
# (against 2000 documents: a tenth less CPU time, measured).
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
    vocab_size: int = 8192
    train_bytes: int = 10_000_000
    eos: str | None = None


@dataclass(frozen=True)
class TokenFacts:
    """What the rest of a build must know about a tokenizer."""

    vocab_size: int
    eos: int
    dtype: str  # "uint16" or "uint32"


def load_tokenizer(path: str) -> Any:
    """A `tokenizers.Tokenizer` from a file, a folder or the hub.

    Raises:
        UserError: nothing readable there.
    """
    tokenizers = need("tokenizers", "Tokenising")
    file = Path(path)
    if file.is_dir():
        file = file / "tokenizer.json"
    try:
        if file.is_file():
            return tokenizers.Tokenizer.from_str(read_text(file))
        if Path(path).exists() or path.startswith((".", "/")):
            raise UserError(f"No tokenizer at {path!r}: expected a tokenizer.json.")
        return tokenizers.Tokenizer.from_pretrained(path)
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception for every fault
        reason = str(error).splitlines()[0]
        raise UserError(f"Tokenizer {path!r} cannot be loaded: {reason}") from None


def save_tokenizer(tokenizer: Any, path: Path) -> None:
    """Write a tokenizer's file. The library's own `save` takes no path that is not UTF-8."""
    path.write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="\n")


def identity(options: TokenOptions) -> list[Any]:
    """What a given tokenizer's tokens depend on: its content, or its name on the hub."""
    file = Path(options.tokenizer or "")
    file = file / "tokenizer.json" if file.is_dir() else file
    known = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else options.tokenizer
    return [known, options.eos]


def facts_of(tokenizer: Any, eos: str | None = None) -> TokenFacts:
    """Vocabulary size, end-of-text token and width of a tokenizer.

    Raises:
        UserError: it has no end-of-text token of a known name, or not the one asked for.
    """
    names = (eos,) if eos is not None else EOS_NAMES
    found = [i for i in map(tokenizer.token_to_id, names) if i is not None]
    if not found:
        raise UserError(
            f"The tokenizer has no token {' or '.join(names)} to end a document; "
            "name its own with --eos."
        )
    # Ids may have holes: the largest id decides what an embedding table must hold.
    vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    return TokenFacts(vocab_size, found[0], "uint16" if vocab_size <= 2**16 else "uint32")


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
    task = partial(
        _tokenise_block, stage.path, documents.path, keep.path, tokenizer_file, facts, slot
    )
    # The library leaves the interpreter lock while it encodes. With its own threads, a second
    # block keeps them busy while the first is read and written.
    threads = engine.workers if serial else 2
    many = engine.workers > MOST_THREADED
    with serial_tokenizers() if serial else nullcontext():
        stage.over(blocks, task, marker=".lengths.npy", processes=many, threads=threads)


@lru_cache(maxsize=1)  # of a process that does block after block
def _encoder(file: Path) -> Any:
    tokenizer = load_tokenizer(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # A document that spells the end-of-text token must not end there.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _tokenise_block(
    folder: Path,
    documents: Path,
    keep: Path,
    tokenizer_file: Path,
    facts: TokenFacts,
    slot: int,
    block: Block,
    advance: Advance,
) -> None:
    tokenizer = _encoder(tokenizer_file)
    kept = load_array(keep / f"{block.name}.first.npy", mapped=False)
    lengths = np.zeros(block.documents, dtype=np.int64)
    texts = read_texts(documents, block.name, kept)
    rows = np.flatnonzero(kept)
    done = 0
    with atomic(folder / f"{block.name}.bin") as partial_path, partial_path.open("wb") as file:
        for some in _slots(texts, slot):
            tokens, counts = encode(tokenizer, some, facts)
            lengths[rows[done : done + len(some)]] = counts
            done += len(some)
            tokens.tofile(file)
            advance(len(some))
    save_array(folder / f"{block.name}.lengths.npy", lengths)


def encode(
    tokenizer: Any, texts: Sequence[str], facts: TokenFacts
) -> tuple[np.ndarray, np.ndarray]:
    """The texts' tokens, each followed by the end-of-text token, and each text's token count."""
    dtype = np.dtype(facts.dtype).newbyteorder("<")
    arrays: list[np.ndarray] = []
    ends: list[int] = []
    total = 0
    for pieces, last in _batches(texts):
        ids: list[int] = []
        encodings = tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        for encoding, ends_text in zip(encodings, last, strict=True):
            ids += encoding.ids
            if ends_text:
                ids.append(facts.eos)
                ends.append(total + len(ids))
        # By way of an array: half the time that numpy takes to read a list (measured).
        arrays.append(np.asarray(array("I", ids)).astype(dtype))
        total += len(ids)
    return np.concatenate(arrays), np.diff(np.array(ends, dtype=np.int64), prepend=0)


def _batches(texts: Sequence[str]) -> Iterator[tuple[list[str], list[bool]]]:
    """Pieces for one call of the library, and whether each ends its text."""
    pieces: list[str] = []
    last: list[bool] = []
    size = 0
    for text in texts:
        parts = [text] if len(text) <= PIECE else _pieces(text)
        done = 0
        for part in parts:
            pieces.append(part)
            done += len(part)
            last.append(done == len(text))
            size += len(part)
            if size >= BATCH:  # a document of any length takes no more memory than this
                yield pieces, last
                pieces, last, size = [], [], 0
    if pieces:
        yield pieces, last


def _pieces(text: str) -> Iterator[str]:
    """A long text cut before spaces that follow a word.

    There a byte-level pre-tokenizer cuts too, so the tokens are those of the whole text.
    """
    start = 0
    while len(text) - start > PIECE:
        cut = text.rfind(" ", start + PIECE // 2, start + PIECE)
        while cut > start and text[cut - 1].isspace():
            cut = text.rfind(" ", start + PIECE // 2, cut)
        cut = cut if cut > start else start + PIECE
        yield text[start:cut]
        start = cut
    yield text[start:]


def _slots(texts: Iterator[str], documents: int) -> Iterator[list[str]]:
    slot: list[str] = []
    size = 0
    for text in texts:
        slot.append(text)
        size += len(text)
        if len(slot) >= documents or size >= documents * SLOT_CHARACTERS:
            yield slot
            slot, size = [], 0
    if slot:
        yield slot


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
