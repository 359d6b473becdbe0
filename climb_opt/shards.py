"""A corpus on disk: each domain's tokens, memory-mapped, and the manifest.

    manifest.json            schema, domains, tokenizer, digests, provenance of the build
    tokenizer.json           a `tokenizers` file
    domain_000.bin           tokens of the first domain: little-endian uint16 or uint32, each
                             document followed by the end-of-text token
    domain_000.idx           where its documents end: with it the shard is Megatron's (indexed.py)
    domain_000.heldout.bin   the same, never trained on
    target_<name>.bin        a held-out target set, never trained on

The manifest is written last and atomically: a folder without one is not a corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.errors import UserError, misnamed
from climb_opt.files import allow_open_files, write_whole
from climb_opt.reading import read_json

SCHEMA = 1
MANIFEST = "manifest.json"
ELSEWHERE = "for search: --set corpus=FOLDER; for other commands: --corpus FOLDER"


@dataclass(frozen=True)
class Stream:
    """One file of tokens. `bytes` is the UTF-8 length of the text, for bits per byte."""

    file: str
    tokens: int
    documents: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Domain:
    """A cluster of documents: its training shards, held-out part and description."""

    name: str
    shards: tuple[Stream, ...]
    heldout: Stream | None = None
    info: dict[str, Any] = field(default_factory=dict)  # terms, quality, clusters merged, samples

    @property
    def tokens(self) -> int:
        """Training tokens."""
        return sum(shard.tokens for shard in self.shards)

    def files(self, folder: Path | str) -> list[tuple[str, int]]:
        """The absolute path of each shard in the corpus's `folder`, and its tokens."""
        return [(str(Path(folder).resolve() / s.file), s.tokens) for s in self.shards]


@dataclass(frozen=True)
class Corpus:
    """A built corpus. Load one with `Corpus.load`; `corpus/build.py` writes them.

    >>> import climb_opt
    >>> corpus = climb_opt.Corpus.load("corpora/tiny")
    >>> corpus.tokens()  # of each domain
    {'web': 11434, 'code': 5718, 'math': 2859}
    """

    path: Path
    name: str
    domains: tuple[Domain, ...]
    targets: dict[str, Stream]
    dtype: str  # "uint16" or "uint32"
    vocab_size: int
    eos: int  # the end-of-text token
    provenance: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None  # SHA-256 of its file; None: written before it was recorded

    @classmethod
    def load(cls, path: str | Path) -> Corpus:
        """Read a corpus folder and check that every shard is there and whole.

        Raises:
            UserError: no manifest, another schema, a shard missing or of the wrong size, another
                tokenizer than was recorded.
        """
        path = Path(path)
        manifest = path / MANIFEST
        if not manifest.is_file():
            raise UserError(
                f"No corpus at {str(path)!r}: {MANIFEST} is missing. Build one with "
                "`climb-opt corpus build INPUT... --output FOLDER`."
            )
        try:
            data = read_json(manifest)
            schema = data["schema"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{manifest}: not a corpus manifest; build the corpus again.") from None
        if schema != SCHEMA:
            raise UserError(f"{manifest}: schema {schema}, but this version reads {SCHEMA}.")
        corpus = cls(
            path=path,
            name=data["name"],
            domains=tuple(_domain(d) for d in data["domains"]),
            targets={name: Stream(**s) for name, s in data["targets"].items()},
            dtype=data["dtype"],
            vocab_size=data["vocab_size"],
            eos=data["eos"],
            provenance=data["provenance"],
            tokenizer=data.get("tokenizer"),
        )
        corpus._check_tokenizer()
        corpus._check_names()
        streams = corpus.streams()
        for stream in streams:
            corpus._check(stream)
        allow_open_files(len(streams))  # a memory map keeps its file open
        return corpus

    def save(self) -> None:
        """Write the manifest, atomically, after everything it names is on disk."""
        data = asdict(self)
        del data["path"]
        text = json.dumps({"schema": SCHEMA, **data}, indent=1, ensure_ascii=False)
        write_whole(self.path / MANIFEST, text)  # an input's path may not be UTF-8

    @property
    def digest(self) -> str:
        """A short name for exactly these tokens, domain names and tokenizer."""
        domains = [(d.name, [s.sha256 for s in d.shards]) for d in self.domains]
        targets = sorted((name, s.sha256) for name, s in self.targets.items())
        facts = [domains, targets, self.vocab_size, self.dtype]
        if self.tokenizer is not None:
            facts.append(self.tokenizer)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def is_known_as(self, digest: str | None) -> bool:
        """Whether a study made with a corpus of that digest may go on with this one.

        Version 0.1.0 left the tokenizer out of the digest: what it wrote is recognised still.
        """
        return digest in (self.digest, replace(self, tokenizer=None).digest)

    def check_known_as(self, name: str, digest: str, whose: str) -> None:
        """Raise unless this is the corpus of that digest; `whose` begins the line."""
        if not self.is_known_as(digest):
            raise UserError(
                f"{whose} was made with corpus {name!r}, digest {digest}, but "
                f"{str(self.path)!r} has digest {self.digest}. Give the same corpus (where it lies "
                f"elsewhere, {ELSEWHERE}), or another --study-name."
            )

    def check_unchanged(self) -> None:
        """Raise if the folder has come to hold another corpus; reads the manifest and sizes."""
        Corpus.load(self.path).check_known_as(self.name, self.digest, "This search")

    def verify(self) -> None:
        """Read every file and compare it with its SHA-256 in the manifest; `load` sees sizes only.

        Raises:
            UserError: the first that differs.
        """
        for stream in self.streams():
            if file_digest(self.path / stream.file) != stream.sha256:
                raise UserError(
                    f"Corpus {str(self.path)!r}: shard {stream.file} holds other bytes than were "
                    "written. Build the corpus again or restore the file."
                )

    @property
    def tokenizer_file(self) -> Path:
        """The `tokenizers` JSON file the tokens were made with."""
        return self.path / "tokenizer.json"

    def domain(self, name: str) -> Domain:
        """The domain of that name."""
        for domain in self.domains:
            if domain.name == name:
                return domain
        missing = misnamed("domain", name, (d.name for d in self.domains))
        raise UserError(f"Corpus {str(self.path)!r} has no {missing}")

    def tokens(self) -> dict[str, int]:
        """domain -> training tokens: the prior of a search."""
        return {domain.name: domain.tokens for domain in self.domains}

    def read(self, stream: Stream) -> np.ndarray:
        """The tokens of a stream, memory-mapped and read-only, shape (stream.tokens,)."""
        if stream.tokens == 0:
            return np.zeros(0, dtype=self.dtype)
        return np.memmap(self.path / stream.file, dtype=self.dtype, mode="r")

    def target(self, name: str) -> Stream:
        """A held-out target set."""
        if name not in self.targets:
            raise no_target(f"Corpus {str(self.path)!r}", name, self.targets)
        return self.targets[name]

    def streams(self) -> list[Stream]:
        """Every stream of the corpus: shards, held-out parts, targets."""
        held = [d.heldout for d in self.domains if d.heldout is not None]
        return [s for d in self.domains for s in d.shards] + held + list(self.targets.values())

    def _check_tokenizer(self) -> None:
        file = self.tokenizer_file
        if self.tokenizer is None:
            return
        if not file.is_file():
            raise UserError(f"Corpus {str(self.path)!r}: {file.name} is missing.")
        if file_digest(file) != self.tokenizer:
            raise UserError(
                f"Corpus {str(self.path)!r}: {file.name} is not the one its tokens were made with; "
                "restore the file or build the corpus again."
            )

    def _check_names(self) -> None:
        for what, names in (
            ("domain", [d.name for d in self.domains]),
            ("file", [s.file for s in self.streams()]),
        ):
            for name, times in Counter(names).items():
                if times > 1:
                    raise UserError(
                        f"{self.path / MANIFEST} has the {what} {name!r} twice. Give every domain "
                        'a name ("name") and files ("file") of its own there, or build it again.'
                    )

    def _check(self, stream: Stream) -> None:
        file = self.path / stream.file
        expected = stream.tokens * np.dtype(self.dtype).itemsize
        if not file.is_file():
            raise UserError(f"Corpus {str(self.path)!r}: shard {stream.file} is missing.")
        if file.stat().st_size != expected:
            raise UserError(
                f"Corpus {str(self.path)!r}: shard {stream.file} holds {file.stat().st_size} "
                f"bytes, but {expected} were written; it is truncated or changed. Build the "
                "corpus again or restore the file."
            )


def no_target(corpus: str, name: str, targets: Collection[str]) -> UserError:
    """What to raise where a corpus, as a sentence begins with it, has no such target set."""
    return UserError(f"{corpus} has no {misnamed('target', name, targets)}")


def file_digest(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _domain(data: Mapping[str, Any]) -> Domain:
    return Domain(
        name=data["name"],
        shards=tuple(Stream(**s) for s in data["shards"]),
        heldout=None if data["heldout"] is None else Stream(**data["heldout"]),
        info=data["info"],
    )
