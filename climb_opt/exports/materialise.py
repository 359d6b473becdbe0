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

Of a schedule each phase has files of its own, mixture-1.bin, mixture-2.bin and so on, because
trainers shuffle what is in a file; a phase reads a domain on from where the one before left it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from climb_opt.apportion import apportion
from climb_opt.errors import UserError, listed
from climb_opt.exports.documents import Documents, mixed
from climb_opt.exports.formats import losses
from climb_opt.exports.handover import UNITS, Handover
from climb_opt.files import atomic, writing
from climb_opt.indexed import write_index
from climb_opt.shards import Corpus
from climb_opt.tokenizer import corpus_tokenizer

logger = logging.getLogger(__name__)

Kind = Literal["tokens", "documents"]
ENDINGS = {"tokens": ".bin", "documents": ".jsonl"}
MANIFEST, TOKENIZER = "mixture.json", "tokenizer.json"


@dataclass(frozen=True)
class Written:
    """What `materialise` wrote: tokens, documents, epochs of each domain, documents cut to fit.

    `phases` are the same of each phase of a schedule.
    """

    path: Path  # the file; of a schedule its folder
    tokens: dict[str, int]
    documents: dict[str, int]
    epochs: dict[str, float]
    cut: dict[str, int]
    phases: tuple[Written, ...] = ()

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
    phases = handover.phases or (handover,)
    numbers = [""] if len(phases) == 1 else [f"-{n}" for n in range(1, len(phases) + 1)]
    targets = [folder / f"mixture{number}{ENDINGS[kind]}" for number in numbers]
    _check_free(folder, targets, corpus.tokenizer_file if kind == "tokens" else None)
    for note in [*handover.first, *losses(handover)]:
        logger.warning("%s", note)
    names = dict.fromkeys(s.name for phase in phases for s in phase.sources)
    sources = {name: Documents(corpus, name, handover.seed) for name in names}
    writer = _Writer(corpus, sources, kind, progress)
    with writing(folder, kept=" Nothing that is there is complete."):
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # all take their names together: a part of a schedule is none
            partial = [stack.enter_context(atomic(target)) for target in targets]
            parts = [writer.write(*row) for row in zip(phases, partial, targets, strict=True)]
        if kind == "tokens":
            shutil.copyfile(corpus.tokenizer_file, folder / TOKENIZER)
        written = parts[0] if len(parts) == 1 else _together(folder, sources, parts)
        _write_manifest(folder / MANIFEST, handover, corpus, written)
    for phase, part in zip(phases, parts, strict=True):
        if none := [name for name, n in part.tokens.items() if not n]:
            where = "" if phase.span is None else f" in phase {phase.span.number}"
            logger.warning("Nothing written of %s%s: the budget is too small.", listed(none), where)
    return written


def quotas_of(handover: Handover) -> dict[str, int]:
    """Tokens of each domain: its share of the budget by largest remainders; they sum to it."""
    assert handover.tokens is not None
    parts = np.array([s.units * handover.tokens for s in handover.sources], dtype=object)
    found = apportion(parts, handover.tokens, UNITS)
    return dict(zip((s.name for s in handover.sources), found.tolist(), strict=True))


@dataclass(frozen=True)
class _Writer:
    """Writes one phase after the other."""

    corpus: Corpus
    sources: dict[str, Documents]
    kind: Kind
    progress: Callable[[int], None]

    def write(self, phase: Handover, partial: Path, target: Path) -> Written:
        """Write a phase to `partial`, which becomes `target`."""
        for name, quota in quotas_of(phase).items():
            self.sources[name].begin(quota)
        own = {s.name: self.sources[s.name] for s in phase.sources}
        encode = _as_tokens if self.kind == "tokens" else _as_lines(self.corpus, own)
        lengths = []
        with partial.open("wb") as out:
            for name, document in mixed(own):
                out.write(encode(name, document))
                lengths.append(len(document))
                self.progress(len(document))
        if self.kind == "tokens":
            width = np.dtype(self.corpus.dtype).itemsize
            write_index(target.with_suffix(""), np.array(lengths, dtype=np.int64), width)
        return _summary(target, own)


def _check_free(folder: Path, targets: list[Path], tokenizer: Path | None) -> None:
    """Refuse to replace anything; a tokenizer that is the corpus's own may be there."""
    for file in (*targets, folder / MANIFEST):
        if file.exists():
            raise UserError(f"{str(file)!r} exists already; give another --output or remove it.")
    there = folder / TOKENIZER
    if tokenizer is not None and there.exists() and there.read_bytes() != tokenizer.read_bytes():
        raise UserError(
            f"{str(there)!r} is another tokenizer than the corpus's; give another --output."
        )


def _as_tokens(name: str, document: np.ndarray) -> bytes:
    return document.tobytes()


def _as_lines(corpus: Corpus, sources: dict[str, Documents]) -> Callable[[str, np.ndarray], bytes]:
    """A function of a domain and a document of it: the line of its text."""
    tokenizer = corpus_tokenizer(corpus.tokenizer_file, corpus.eos)

    def line(name: str, document: np.ndarray) -> bytes:
        body = document[:-1] if document[-1] == corpus.eos else document
        text = tokenizer.decode(body.tolist(), skip_special_tokens=False)
        if sources[name].cut and sources[name].taken == sources[name].quota:
            text = text.rstrip("\ufffd")  # half a character, where the last document was cut
        return json.dumps({"text": text, "domain": name}, ensure_ascii=False).encode() + b"\n"

    return line


def _summary(target: Path, sources: dict[str, Documents]) -> Written:
    return Written(
        path=target,
        tokens={name: s.taken for name, s in sources.items()},
        documents={name: s.documents for name, s in sources.items()},
        epochs={name: s.taken / s.size for name, s in sources.items()},
        cut={name: s.cut for name, s in sources.items()},
    )


def _together(folder: Path, sources: dict[str, Documents], parts: list[Written]) -> Written:
    tokens, documents, cut = (
        {name: sum(getattr(part, what).get(name, 0) for part in parts) for name in sources}
        for what in ("tokens", "documents", "cut")
    )
    epochs = {name: tokens[name] / s.size for name, s in sources.items()}
    return Written(folder, tokens, documents, epochs, cut, tuple(parts))


def _write_manifest(path: Path, handover: Handover, corpus: Corpus, written: Written) -> None:
    facts: dict[str, Any] = {
        "study": handover.study,
        "rule": handover.rule or handover.origin,
        "as_good": handover.as_good or None,
        "corpus": corpus.digest,
        "seed": handover.seed,
        "dtype": corpus.dtype,
        "vocab_size": corpus.vocab_size,
        "eos": corpus.eos,
        "tokens": written.total,
        "left_out": dict(handover.left_out),
        "domains": _domains(handover, written),
    }
    if written.phases:
        facts["phases"] = [
            {
                "file": part.path.name,
                "share": phase.span.share if phase.span else 1.0,
                "tokens": part.total,
                "left_out": dict(phase.left_out),
                "domains": _domains(phase, part),
            }
            for phase, part in zip(handover.phases, written.phases, strict=True)
        ]
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _domains(handover: Handover, written: Written) -> dict[str, Any]:
    weights = {source.name: source.weight for source in handover.sources}
    return {
        name: {
            "weight": weights.get(name, 0.0),
            "realised": tokens / max(1, written.total),
            "tokens": tokens,
            "documents": written.documents[name],
            "cut": written.cut[name],
            "epochs": written.epochs[name],
        }
        for name, tokens in written.tokens.items()
    }
