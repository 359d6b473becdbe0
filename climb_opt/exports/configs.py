"""Formats that are configuration files. Each names the class or option of the trainer it feeds."""

from __future__ import annotations

import json
import math
import shlex
from typing import Any

import numpy as np
import yaml

from climb_opt.errors import UserError
from climb_opt.exports.handover import Handover, Source
from climb_opt.indexed import blended, index_shards
from climb_opt.lookup import facts
from climb_opt.shards import Corpus, Stream
from climb_opt.text import amount


def as_json(handover: Handover) -> str:
    """Weights, tokens and epochs as JSON, for programs."""
    data = {
        "study": handover.study,
        "rule": handover.rule,
        "rung": handover.rung or None,
        "as_good": handover.as_good or None,
        "tokens": handover.tokens,
        "mixture": {s.name: s.weight for s in handover.sources},
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


def as_yaml(handover: Handover) -> str:
    """domain: weight, and nothing else; what `climb-opt enqueue` reads."""
    return _head(handover) + _yaml({s.name: s.weight for s in handover.sources})


FOLDERS = "data/domain_{index}"  # a domain's data, where nothing says otherwise
# What Megatron's own programs read.
PAIRS: dict[str, Any] = {
    "places": lambda h: [prefix for _, prefix in _blend(h)],
    "needs": ("{}.bin", "{}.idx"),
    "layout": "megatron",
}


@facts(**PAIRS, budget=lambda h: f"--train-samples {h.sequences} --seq-length {h.sequence}")
def megatron(handover: Handover) -> str:
    """Megatron-LM: "weight prefix ..." as `--data-args-path FILE` or `--data-path` take it.

    A prefix is a path without .bin and .idx. Several shards of a domain share its weight by tokens.
    """
    return "\n".join(f"{w:.9g} {p}" for w, p in _blend(handover)) + "\n"


@facts(
    **PAIRS,
    budget=lambda h: f"num_train_samples is {h.sequences}; max_steps: that / global_batch_size",
)
def nemo(handover: Handover) -> str:
    """NeMo 2 `PreTrainingDataModule(paths=...)` and Megatron Bridge: a zipped list."""
    paths = [str(v) for w, p in _blend(handover) for v in (f"{w:.9g}", p)]
    data: dict[str, Any] = {"paths": paths, "seq_length": handover.sequence}
    if handover.sequences is not None:
        data["num_train_samples"] = handover.sequences
    return _head(handover) + _yaml({"data": data})


@facts(
    places=lambda h: h.paths(FOLDERS),
    needs=("{}/*.ds",),
    layout="nanotron",
    budget=lambda h: f"tokens.train_steps: {h.sequences} / the sequences of a step",
)
def nanotron(handover: Handover) -> str:
    """nanotron: a `data_stages` entry with `NanosetDatasetsArgs` (folders of .ds files)."""
    dataset: dict[str, Any] = {
        "dataset_folder": handover.paths(FOLDERS),
        "dataset_weights": [s.weight for s in handover.sources],
    }
    corpus = handover.corpus
    if corpus is not None:
        dataset["token_size_in_bytes"] = int(np.dtype(corpus.dtype).itemsize)
        dataset["vocab_size"] = corpus.vocab_size
    data = {"seed": handover.seed, "num_loading_workers": 1, "dataset": dataset}
    stage = {"name": "mixture", "start_training_step": 1, "data": data}
    tokens = {"sequence_length": handover.sequence}
    return _head(handover) + _yaml({"data_stages": [stage], "tokens": tokens})


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
    return _head(handover) + _yaml({"sources": sources})


def _olmo_files(source: Source) -> list[str]:
    if source.files and source.path is None:
        return [path for path, _ in source.files]
    return [source.path or source.filled(f"{FOLDERS}.bin")]


def mosaicml_conversion(handover: Handover) -> list[str]:
    """How JSON lines become streams, where the folders are of our own naming."""
    if any(s.path for s in handover.sources):
        return []
    tokenizer = shlex.quote(handover.corpus_path)
    return [
        "Then, for each domain: llmfoundry data_prep convert_dataset_json --path "
        "data/domain_000.jsonl --out-root data/domain_000/train --concat-tokens "
        f"{handover.sequence} --tokenizer {tokenizer} (a folder that transformers reads)."
    ]


@facts(
    places=lambda h: h.paths(FOLDERS),
    needs=("{}/train/index.json",),
    layout="jsonl",
    budget=lambda h: f"epoch_size is {h.sequences} samples; give the trainer max_duration: 1ep",
    check=mosaicml_conversion,
)
def mosaicml(handover: Handover) -> str:
    """LLM Foundry: `train_loader.dataset.streams` with proportions, for `StreamingDataset`."""
    named = {
        s.slug: {"local": path, "remote": None, "split": "train", "proportion": s.weight}
        for s, path in zip(handover.sources, handover.paths(FOLDERS), strict=True)
    }
    dataset = {
        "streams": named,
        "shuffle": True,
        "shuffle_seed": handover.seed,
        "max_seq_len": handover.sequence,
    }
    if handover.sequences is not None:
        dataset["epoch_size"] = handover.sequences
    return _head(handover) + _yaml({"train_loader": {"name": "text", "dataset": dataset}})


def _blend(handover: Handover) -> list[tuple[float, str]]:
    pairs = []
    for source in handover.sources:
        if source.path is not None or not source.files:
            pairs.append((source.weight, source.path or source.filled(FOLDERS)))
        else:
            pairs += blended(source.weight, source.files)
    if handover.corpus is not None and any(s.path is None for s in handover.sources):
        index_shards(handover.corpus, _shards(handover, handover.corpus))
    for _, prefix in pairs:
        if any(c.isspace() for c in prefix) or '"' in prefix or "'" in prefix:
            # Megatron splits the file at blanks and knows no quotes.
            raise UserError(
                f"Megatron cannot read the path {prefix!r}: it holds a blank or a quote. Give "
                "--path, for example 'data/{domain}_text_document', or move the corpus."
            )
    return pairs


def _shards(handover: Handover, corpus: Corpus) -> list[Stream]:
    return [shard for s in handover.sources for shard in corpus.domain(s.name).shards]


def _head(handover: Handover) -> str:
    return "".join(f"# {line}\n" for line in handover.head)


def _yaml(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000))
