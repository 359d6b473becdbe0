"""Megatron's indexed data sets (`.bin` + `.idx`), both ways; `indexed.py` has the index's form."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.run.workspace import Workspace
from climb_opt.corpus.stages.gather import StreamWriter, completed
from climb_opt.corpus.stages.tokenise import TokenFacts, facts_of
from climb_opt.errors import UserError, check_number, listed
from climb_opt.files import allow_open_files, atomic, new_folder
from climb_opt.indexed import HEADER, document_lengths, prefix_of, read_header, write_index
from climb_opt.shards import Corpus, Domain, Stream
from climb_opt.text import counted, shortest_ends, twins
from climb_opt.tokenizer import end_of_text, ended_by, load_tokenizer, save_tokenizer

logger = logging.getLogger(__name__)

TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


@dataclass(frozen=True)
class Pair:
    """An indexed data set, memory-mapped: document i is tokens[starts[i] : ends[i]]."""

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @property
    def size(self) -> int:
        """Tokens of all documents."""
        return int((self.ends - self.starts).sum())


def read_pair(prefix: Path) -> Pair:
    """The data set `prefix`.bin, `prefix`.idx.

    Raises:
        UserError: a file is missing, cut short, or not of this format.
    """
    index, data = prefix.with_name(prefix.name + ".idx"), prefix.with_name(prefix.name + ".bin")
    for file in (index, data):
        if not file.is_file():
            raise UserError(
                f"Megatron data {str(prefix)!r}: {file.name} is missing; Megatron's preprocessing "
                "writes x.bin and x.idx. Tokens in another form are read as documents: by a reader "
                "of your own (docs/own-reader.md), with corpus build --detokenize."
            )
    size = index.stat().st_size
    with index.open("rb") as opened:
        header = read_header(opened)
    if header is None:
        raise UserError(f"{index} is not a Megatron index (MMIDIDX).")
    code, sequences, bounds = header
    expected = HEADER.size + 12 * sequences + 8 * bounds
    if code not in TYPES or size < expected:
        raise UserError(f"{index} is damaged: {size} bytes of {expected}, type code {code}.")
    lengths = _mapped(index, "<i4", HEADER.size, sequences)
    starts = _mapped(index, "<i8", HEADER.size + 4 * sequences, sequences)
    limits = _mapped(index, "<i8", HEADER.size + 12 * sequences, bounds)
    width = np.dtype(TYPES[code]).itemsize
    sequence_ends = starts // width + lengths
    tokens = _mapped(data, TYPES[code], 0, data.stat().st_size // width)
    if (told := int(sequence_ends.max(initial=0))) * width != data.stat().st_size:
        which = "is truncated" if told > len(tokens) else f"is not the data of {index.name}"
        raise UserError(
            f"{data} {which}: it holds {len(tokens):,} tokens, the index names {told:,}. Give both "
            "files as they were written."
        )
    first, last = limits[:-1], limits[1:]
    filled = last > first
    begin = starts[first[filled]] // width
    return Pair(tokens, begin, sequence_ends[last[filled] - 1])


def export_megatron(corpus: Corpus, folder: Path, names: Sequence[str] | None = None) -> list[Path]:
    """One pair per domain, and one per held-out part; returns the domains' prefixes.

    Args:
        names: of the pairs; None: domain_000, domain_001, ... in the corpus's order, as its own
            shards are called after a build.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefixes = []
    for index, domain in enumerate(corpus.domains):
        prefix = folder / (names[index] if names is not None else f"domain_{index:03d}")
        _export(corpus, domain.shards, prefix)
        if domain.heldout is not None:
            _export(corpus, (domain.heldout,), held_out_of(prefix))
        prefixes.append(prefix)
    return prefixes


def held_out_of(prefix: Path) -> Path:
    """What the held-out part of `prefix` is called in an export."""
    return prefix.with_name(f"{prefix.name}_heldout")


def _export(corpus: Corpus, shards: Sequence[Stream], prefix: Path) -> None:
    width = np.dtype(corpus.dtype).itemsize
    with atomic(Path(f"{prefix}.bin")) as partial, partial.open("wb") as file:
        for shard in shards:
            file.write(corpus.read(shard).data)
    lengths = [document_lengths(corpus.read(shard), corpus.eos) for shard in shards]
    write_index(prefix, np.concatenate(lengths), width)


def import_megatron(
    files: Sequence[str],
    tokenizer: str,
    output: Path,
    *,
    name: str,
    share: float = 0.02,
    eos: str | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Corpus:
    """A corpus of ready token files, one domain each, with a held-out part by document.

    Args:
        files: `.bin` files or prefixes; a domain is called by its file. Where `<name>_heldout` is
            named beside `<name>`, as exports are, it is that domain's held-out part.
        tokenizer: what the tokens were made with; it decodes them, to count bytes.

    Raises:
        UserError: another folder's content in `output`; tokens that the tokenizer does not have.
    """
    check_number("--heldout", share, 0, 0.5)
    if output.exists() and any(output.iterdir()):
        raise UserError(
            f"--output {str(output)!r} is not empty; name a new folder, or remove what an import "
            "that was killed left there."
        )
    named = _once(files)
    held = {p: named[k] for p in named.values() if (k := _identity(held_out_of(p))) in named}
    prefixes = [p for p in named.values() if p not in held.values()]
    if len(prefixes) < 2:
        given = counted(len(prefixes), "Megatron file")
        raise UserError(f"{given}; a mixture needs at least two domains: name another.")
    names = _names_of(prefixes)
    allow_open_files(len(named))  # a memory map keeps its file open
    pairs = {p: (read_pair(p), read_pair(held[p]) if p in held else None) for p in prefixes}
    loaded = load_tokenizer(tokenizer)
    end = end_of_text(loaded, tokenizer, eos)
    logger.log(logging.INFO if end.sure else logging.WARNING, "Tokens: %s.", end)
    facts = facts_of(ended_by(loaded, end.token), end)
    total = sum(p.size for both in pairs.values() for p in both if p is not None)
    with new_folder(output):
        with Workspace(output, progress=progress).bar("import", total, "token") as bar:
            found = [
                _import(output, index, prefix, pairs[prefix], loaded, facts, (share, seed), bar)
                for index, prefix in enumerate(prefixes)
            ]
        domains = tuple(replace(d, name=called) for d, called in zip(found, names, strict=True))
        save_tokenizer(loaded, output / "tokenizer.json")
        tokens = (facts.dtype, facts.vocab_size, facts.eos)
        build = {"imported": names, "tokenizer": tokenizer, "seed": seed}
        origin = {"build": build, "end_of_text": asdict(end)}
        return completed(Corpus(output, name, domains, {}, *tokens, origin))


def _identity(prefix: Path) -> str:
    return os.path.realpath(f"{prefix}.bin")


def _once(files: Sequence[str]) -> dict[str, Path]:
    """The prefixes of the files by identity; the same data by another path or link is said."""
    found: dict[str, Path] = {}
    for file in files:
        if Path(file).is_dir():
            raise UserError(f"{file!r} is a folder; name its files: {Path(file) / '*.bin'}")
        prefix = Path(prefix_of(file))
        first = found.get(identity := _identity(prefix))
        if first is not None:
            which = "named twice" if first == prefix else first
            logger.warning("%s is %s, and read once.", prefix, which)
        found.setdefault(identity, prefix)
    return found


def _names_of(prefixes: Sequence[Path]) -> list[str]:
    """The files' names, with as many of their folders as tell those of one name apart."""
    names = shortest_ends([Path(os.path.realpath(p)).parts for p in prefixes])
    if any("/" in name for name in names) and not twins(names):
        logger.warning("Files of one name: the domains are called %s.", listed(names))
    for a, b in twins(names):
        raise UserError(f"Two domains would be called {a!r} and {b!r}; rename a file.")
    return names


def _import(
    output: Path,
    index: int,
    prefix: Path,
    pairs: tuple[Pair, Pair | None],
    tokenizer: Any,
    facts: TokenFacts,
    split: tuple[float, int],
    bar: Any,
) -> Domain:
    pair, apart = pairs
    share, seed = split
    keys = [_key(text, seed) for text in _texts(pair, facts.eos)]
    # One is held out in any case, so that every domain has a held-out document.
    below = max(share * 2.0**64, min(keys, default=0) + 1) if len(keys) > 1 else 0
    if apart is None and share > 0 and max(keys, default=0) < below:
        below = 0
        logger.warning("%s: its texts are all the same, so none is held out.", prefix.name)
    stem = f"domain_{index:03d}"
    with (
        StreamWriter(output, stem, facts.dtype) as trained,
        StreamWriter(output, f"{stem}.heldout", facts.dtype) as held,
    ):
        for key, (whole, size) in zip(keys, _sized(pair, prefix, tokenizer, facts), strict=True):
            apart_too = apart is None and share > 0 and key < below
            (held if apart_too else trained).add(whole, 1, size, whole=apart_too)
            bar.update(len(whole))
        given = () if apart is None else _sized(apart, held_out_of(prefix), tokenizer, facts)
        for whole, size in given:
            held.add(whole, 1, size, whole=True)
            bar.update(len(whole))
        shards, heldout = trained.close(), held.close()
    held_part = heldout[0] if heldout[0].documents else None
    return Domain(prefix.name, shards, held_part, {"terms": []})


def _sized(
    pair: Pair, prefix: Path, tokenizer: Any, facts: TokenFacts
) -> Iterator[tuple[np.ndarray, int]]:
    """Each text's tokens with its end-of-text token, and the bytes it stands for."""
    for text in _texts(pair, facts.eos):
        low, high = int(text.min()), int(text.max())
        if low < 0 or high >= facts.vocab_size:
            raise UserError(
                f"{prefix}.bin holds token {low if low < 0 else high}, but the tokenizer has "
                f"{facts.vocab_size}; give the tokenizer it was made with."
            )
        body = text[:-1] if text[-1] == facts.eos else text
        size = len(tokenizer.decode(body.tolist(), skip_special_tokens=True).encode("utf-8"))
        yield np.append(body, facts.eos), size


def _texts(pair: Pair, eos: int) -> Iterator[np.ndarray]:
    """Each text that is not empty, with its end-of-text token where it is stored.

    A Megatron document may hold several: packed ones are told apart by their end tokens alone.
    """
    for start, end in zip(pair.starts, pair.ends, strict=True):
        document = np.asarray(pair.tokens[int(start) : int(end)])
        for text in np.split(document, np.flatnonzero(document == eos) + 1):
            if len(text) and not (len(text) == 1 and text[0] == eos):
                yield text


def _key(tokens: np.ndarray, seed: int) -> int:
    data = np.ascontiguousarray(tokens, dtype="<i8").tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=b"%d" % seed).digest(), "little")


def _mapped(file: Path, dtype: str, offset: int, count: int) -> np.ndarray:
    """So many numbers of a file, memory-mapped; numpy maps none of no size."""
    if not count:
        return np.zeros(0, dtype=dtype)
    return np.asarray(np.memmap(file, dtype, "r", offset, (count,)))
