"""Formats that are configuration files. Each names the class or option of the trainer it feeds."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import yaml

from climb_opt.errors import UserError, listed
from climb_opt.exports.handover import Handover, Source, under_head
from climb_opt.lookup import facts
from climb_opt.text import amount, counted


@facts(phases=True, known=lambda text: text.startswith('{\n "study": '))
def as_json(handover: Handover) -> str:
    """Weights, tokens and epochs as JSON, for programs; of a schedule its phases and their mean."""
    mean = {s.name: s.weight for s in handover.sources}
    data = {
        "study": handover.study,
        "rule": handover.rule or handover.origin,
        "rung": handover.rung or None,
        "as_good": handover.as_good or None,
        "tokens": handover.tokens,
        **({"phases": _phases(handover), "mean": mean} if handover.phases else {"mixture": mean}),
        "left_out": dict(handover.left_out),
        "domains": [
            {
                "name": s.name,
                "weight": s.weight,
                "tokens": s.tokens,
                "epochs": handover.epochs(s),
                "files": [path for path, _ in s.files],
            }
            for s in handover.sources
        ],
        "provenance": dict(handover.provenance),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _phases(handover: Handover) -> list[dict[str, Any]]:
    # `mixtures.schedule_from` reads the share and the mixture.
    found = []
    for phase in handover.phases:
        assert phase.span is not None
        mixture = {s.name: s.weight for s in phase.sources}
        steps = None if phase.span.steps is None else list(phase.span.steps)
        said = {"share": phase.span.share, "tokens": phase.tokens, "steps": steps}
        found.append({**said, "mixture": mixture, "left_out": dict(phase.left_out)})
    return found


# A domain and its weight; a name that is too long for one line begins with a question mark.
@facts(phases=True, known=under_head(r"phases:|.*: [\d.e-]+|\? .*"))
def as_yaml(handover: Handover) -> str:
    """domain: weight, and nothing else, or each phase's mixture; what `climb-opt enqueue` reads."""
    if not handover.phases:
        return with_head(handover, {s.name: s.weight for s in handover.sources})
    phases = [{key: phase[key] for key in ("share", "mixture")} for phase in _phases(handover)]
    return with_head(handover, {"phases": phases})


FOLDERS = "data/domain_{index}"  # a domain's data, where nothing says otherwise
TOKENIZER = "data/tokenizer"  # what `corpus export` writes beside it, as transformers reads it


def nanotron_budget(handover: Handover) -> str:
    """How nanotron is told its tokens; of a schedule, also what to run one after the other."""
    if not handover.phases:
        return f"tokens.train_steps: {handover.sequences} / the sequences of a step"
    ends = ", ".join(str(p.span.steps[1]) for p in handover.phases if p.span and p.span.steps)
    return (
        f"steps of {handover.batch} sequences. A nanotron that trains the last stage only (2025 "
        f"on) is run once a stage, with the stages so far and train_steps {ends}"
    )


def nanotron_needs(handover: Handover) -> list[str]:
    """What nanotron (its main of April 2026) asks of tokenizer and domains before it trains."""
    return [
        "tokenizer_name_or_path and tokenizer_name must be the same, and the tokenizer of the "
        f"model's vocab_size tokens: {TOKENIZER} is made with the data.",
        *no_sequence(handover, "nanotron", handover.sequence + 1),  # the last has a target, too
    ]


@facts(
    places=lambda h: h.paths(FOLDERS),
    needs=("{}/*.ds",),
    layout="nanotron",
    budget=nanotron_budget,
    check=nanotron_needs,
    phases=True,
    goes_on=True,
    known=under_head("data_stages:"),
)
def nanotron(handover: Handover) -> str:
    """nanotron's main: `data_stages` with `NanosetDatasetsArgs` (folders of .ds files)."""
    tokens = {"sequence_length": handover.sequence}
    stages = [] if handover.phases else [_stage(handover, "mixture", 1)]
    for phase in handover.phases:
        assert phase.span is not None
        if phase.span.steps is None:
            raise UserError(
                "nanotron is told the step at which a phase begins: give --tokens and --batch "
                "(sequences of a step)."
            )
        begin, tokens["train_steps"] = phase.span.steps
        stages.append(_stage(phase, f"phase {phase.span.number}", begin + 1))
    tokenizer = {"tokenizer_name_or_path": TOKENIZER}
    return with_head(handover, {"data_stages": stages, "tokenizer": tokenizer, "tokens": tokens})


def no_sequence(handover: Handover, trainer: str, needed: int) -> list[str]:
    """Which domains hold less than the tokens of a sequence, so that there is nothing to read."""
    short = [
        f"{s.name} ({counted(s.tokens, 'token')})"
        for s in handover.sources
        if s.tokens is not None and s.tokens < needed
    ]
    if not short:
        return []
    return [
        f"{trainer} stops at a domain of fewer than {needed} tokens, a sequence: {listed(short)}. "
        "Give a smaller --sequence, or a --mixture without."
    ]


def _stage(handover: Handover, name: str, start: int) -> dict[str, Any]:
    dataset: dict[str, Any] = {
        "dataset_folder": handover.paths(FOLDERS),
        "dataset_weights": [s.weight for s in handover.sources],
        "tokenizer_name": TOKENIZER,
    }
    corpus = handover.corpus
    if corpus is not None:
        dataset["token_size_in_bytes"] = int(np.dtype(corpus.dtype).itemsize)
        dataset["vocab_size"] = corpus.vocab_size
    data = {"seed": handover.seed, "num_loading_workers": 1, "dataset": dataset}
    return {"name": name, "start_training_step": start, "data": data}


def olmo_shortfall(handover: Handover) -> list[str]:
    """What OLMo-core cannot take: the end of each file, below one sequence, in each repetition."""
    tokens, step = handover.tokens, handover.sequence
    if tokens is None:
        return ["Repetition is not stated: give --tokens, with the corpus at hand."]
    lost = {}
    for source in handover.sources:
        wanted = int(source.weight * tokens)
        if source.path is not None or not source.tokens or not wanted:
            continue
        passes = max(1, math.ceil(wanted / source.tokens - 1e-9))
        room = passes * sum(n // step * step for _, n in source.files)
        if room < wanted:
            lost[source.name] = wanted - room
    if not lost:
        return []
    total = sum(lost.values())
    worst = ", ".join(
        f"{name} {amount(n)}" for name, n in sorted(lost.items(), key=lambda pair: -pair[1])[:10]
    )
    return [
        f"OLMo-core reads about {amount(total)} of the {amount(tokens)} tokens "
        f"({100 * total / tokens:.2g} %) less, or makes them up from other domains: in each "
        f"repetition it drops what is below one sequence of {step} tokens at the end of each file "
        f"({worst}). Give a smaller --sequence, or merge small domains."
    ]


@facts(
    places=lambda h: [path for source in h.sources for path in _olmo_files(source)],
    layout="megatron",
    budget=lambda h: f"requested_tokens={h.tokens} of SourceMixtureDatasetConfig",
    check=olmo_shortfall,
    known=under_head("sources:"),
)
def olmo_core(handover: Handover) -> str:
    """OLMo-core: a `SourceMixtureList`. Shards of a climb_opt corpus are read as they are.

    `max_repetition_ratio` is stated when the corpus and the token budget are known; without them a
    domain that is too small for its weight stops OLMo-core with its own error.
    """
    sources = []
    for source in handover.sources:
        entry: dict[str, Any] = {
            "source_name": source.name,
            "target_ratio": source.weight,
            "paths": _olmo_files(source),
        }
        epochs = handover.epochs(source)
        if epochs is not None and epochs > 1:
            entry["max_repetition_ratio"] = math.ceil(epochs * 1.001 * 100) / 100
        sources.append(entry)
    return with_head(handover, {"sources": sources})


def _olmo_files(source: Source) -> list[str]:
    if source.files and source.path is None:
        return [path for path, _ in source.files]
    return [source.path or source.filled(f"{FOLDERS}.bin")]


def mosaicml_streams(handover: Handover) -> list[str]:
    """How JSON lines become streams, where the folders are of our own naming, and which cannot."""
    if any(s.path for s in handover.sources):
        return []
    return [
        "Then, for each domain: llmfoundry data_prep convert_dataset_json --path "
        "data/domain_000.jsonl --out-root data/domain_000/train --concat-tokens "
        f"{handover.sequence} --tokenizer {TOKENIZER}.",
        *no_sequence(handover, "LLM Foundry", handover.sequence),
    ]


def mosaicml_budget(handover: Handover) -> str:
    """How LLM Foundry is told its tokens."""
    if handover.phases:
        return f"max_duration is {handover.tokens}tok, the durations of the phases together"
    return f"epoch_size is {handover.sequences} samples; give the trainer max_duration: 1ep"


@facts(
    places=lambda h: h.paths(FOLDERS),
    needs=("{}/train/index.json",),
    layout="jsonl",
    budget=mosaicml_budget,
    check=mosaicml_streams,
    phases=True,
    known=under_head("train_loader:"),
)
def mosaicml(handover: Handover) -> str:
    """LLM Foundry: `train_loader.dataset.streams` with proportions, for `StreamingDataset`.

    Later phases are the schedule of its callback `curriculum_learning`.
    """
    first, *later = handover.phases or (handover,)
    loader = {"name": "text", "dataset": _streams(first), "drop_last": True, "num_workers": 8}
    data: dict[str, Any] = {"train_loader": loader}
    if later:
        schedule = [{"duration": _duration(p), "dataset": _streams(p)} for p in later]
        changes = {"duration": _duration(first), "schedule": schedule}
        data["max_duration"] = _duration(handover)
        data["callbacks"] = {"curriculum_learning": changes}
    return with_head(handover, data)


def _duration(handover: Handover) -> str:
    if handover.tokens is None:
        raise UserError("LLM Foundry is told how long a phase is: give --tokens.")
    return f"{handover.tokens}tok"


def _streams(handover: Handover) -> dict[str, Any]:
    named = {
        s.slug: {"local": path, "remote": None, "split": "train", "proportion": s.weight}
        for s, path in zip(handover.sources, handover.paths(FOLDERS), strict=True)
    }
    dataset = {
        "streams": named,
        "shuffle": True,
        # Another phase draws in another order: what it has in common with others comes anew.
        "shuffle_seed": handover.seed + (handover.span.number - 1 if handover.span else 0),
        "max_seq_len": handover.sequence,
    }
    if handover.sequences is not None:
        dataset["epoch_size"] = handover.sequences
    return dataset


def with_head(handover: Handover, data: Any) -> str:
    """YAML in the order it is given, below comments with what is said first."""
    head = "".join(f"# {line}\n" for line in handover.head)
    return head + str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000))
