"""Formats that are a blend of Megatron's: weights and the prefixes of indexed files."""

from __future__ import annotations

import re
from typing import Any

from climb_opt.errors import UserError
from climb_opt.exports.configs import FOLDERS, with_head
from climb_opt.exports.handover import Handover, under_head
from climb_opt.indexed import blended, index_shards
from climb_opt.lookup import facts

ALL_OF_IT = "1,0,0"  # the split that leaves nothing for validation

# What Megatron's own programs read.
PAIRS: dict[str, Any] = {
    "places": lambda h: [prefix for _, prefix in _blend(h)],
    "needs": ("{}.bin", "{}.idx"),
    "layout": "megatron",
}


def megatron_budget(handover: Handover) -> str:
    """How Megatron is told its tokens; of a phase, where the run stops for the next blend."""
    span = handover.span
    if span is None:
        return f"--train-samples {handover.sequences} --seq-length {handover.sequence}"
    told = megatron_budget(span.run)
    if span.borders is None:
        return f"{told}, and --phase-transition-iterations: give --batch to be told them"
    return f"{told} --phase-transition-iterations {','.join(map(str, span.borders[1:-1]))}"


def megatron_split(handover: Handover) -> list[str]:
    """What Megatron does by itself: with another split a domain without a document in some part
    is waited for without end (megatron-core 0.19.2)."""
    return [
        f"Give --split {ALL_OF_IT} and --eval-iters 0, or the blend as --train-data-path and what "
        "validates as --valid-data-path: Megatron's own split takes 3.1 % of each domain's "
        "documents from training, and hangs where a domain has too few documents for a part."
    ]


def is_blend(text: str) -> bool:
    """Whether every line is a weight and a path; the last may be cut short."""
    lines = text.splitlines()
    return all(re.fullmatch(r"[\d.e-]+ \S+", line) for line in lines[:-1] or lines)


@facts(**PAIRS, budget=megatron_budget, check=megatron_split, known=is_blend)
def megatron(handover: Handover) -> str:
    """Megatron-LM: "weight prefix ..." as `--data-args-path FILE` or `--data-path` take it.

    A prefix is a path without .bin and .idx. Several shards of a domain share its weight by tokens.
    """
    return "\n".join(f"{w:.9g} {p}" for w, p in _blend(handover)) + "\n"


def _samples(handover: Handover) -> int | None:
    # NeMo counts samples from the run's beginning; a phase's data are read from its first on.
    span = handover.span
    if span is None or span.begin is None or handover.tokens is None:
        return handover.sequences
    return -(-(span.begin + handover.tokens) // handover.sequence)


def nemo_reads(handover: Handover) -> list[str]:
    """What of each domain NeMo trains on, and where in it a later phase begins."""
    split = (
        f"split {ALL_OF_IT} leaves nothing for validation: set the trainer's limit_val_batches to "
        "0, or give paths as a dictionary of train, validation and test without a split."
    )
    span = handover.span
    if span is None or not span.begin:
        return [split]
    return [
        split,
        f"NeMo begins the blend of {span.name} at sample {span.begin // handover.sequence}, as if "
        "it had been read from the start: of a domain that weighs less than before some is read "
        "again, and of one that weighs more some is passed over, which proxies did not do.",
    ]


@facts(
    **PAIRS,
    budget=lambda h: f"num_train_samples is {_samples(h)}; max_steps: that / global_batch_size",
    check=nemo_reads,
    goes_on=True,  # in its own way, which `nemo_reads` tells
    known=under_head("data:"),
)
def nemo(handover: Handover) -> str:
    """NeMo 2 `PreTrainingDataModule(paths=...)`, Megatron Bridge's `data_path`: a zipped list.

    NeMo's own split holds a tenth of each domain's documents back, and is a split as Megatron's.
    """
    paths = [str(v) for w, p in _blend(handover) for v in (f"{w:.9g}", p)]
    data: dict[str, Any] = {"paths": paths, "split": ALL_OF_IT, "seq_length": handover.sequence}
    if (samples := _samples(handover)) is not None:
        data["num_train_samples"] = samples
    return with_head(handover, {"data": data})


def _blend(handover: Handover) -> list[tuple[float, str]]:
    pairs = []
    for source in handover.sources:
        if source.path is not None or not source.files:
            pairs.append((source.weight, source.path or source.filled(FOLDERS)))
        else:
            pairs += blended(source.weight, source.files)
    if handover.corpus is not None and any(s.path is None for s in handover.sources):
        domains = (handover.corpus.domain(source.name) for source in handover.sources)
        index_shards(handover.corpus, (shard for domain in domains for shard in domain.shards))
    for _, prefix in pairs:
        if any(c.isspace() for c in prefix) or '"' in prefix or "'" in prefix:
            # Megatron splits the file at blanks and knows no quotes.
            raise UserError(
                f"Megatron cannot read the path {prefix!r}: it holds a blank or a quote. Give "
                "--path, for example 'data/{domain}_text_document', or move the corpus."
            )
    return pairs
