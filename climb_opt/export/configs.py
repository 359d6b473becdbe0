"""Formats that are configuration files. Each names the class or option of the trainer it feeds."""

from __future__ import annotations

import json
import math
from typing import Any

import yaml

from climb_opt.errors import UserError
from climb_opt.export.handover import Handover, Source
from climb_opt.text import printable


def as_json(handover: Handover) -> str:
    """Everything that is known, for programs."""
    data = {
        "study": handover.study,
        "rule": handover.rule,
        "tokens": handover.tokens,
        "mixture": {s.name: s.weight for s in handover.sources},
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
    """domain: weight, and nothing else."""
    return _head(handover) + _yaml({s.name: s.weight for s in handover.sources})


def megatron(handover: Handover) -> str:
    """Megatron-LM: "weight prefix ..." as `--data-args-path FILE` or `--data-path` take it.

    A prefix is a path without .bin and .idx. Several shards of a domain share its weight by tokens.
    """
    return "\n".join(f"{w:.9g} {p}" for w, p in _prefixes(handover)) + "\n"


def nemo(handover: Handover) -> str:
    """NeMo 2 `PreTrainingDataModule(paths=...)` and Megatron Bridge: a zipped list."""
    paths = [str(v) for w, p in _prefixes(handover) for v in (f"{w:.9g}", p)]
    return _head(handover) + _yaml({"data": {"paths": paths, "seq_length": handover.sequence}})


def nanotron(handover: Handover) -> str:
    """nanotron: a `data_stages` entry with `NanosetDatasetsArgs` (folders of .ds files)."""
    dataset: dict[str, Any] = {
        "dataset_folder": handover.paths("data/{domain}"),
        "dataset_weights": [s.weight for s in handover.sources],
    }
    if handover.token_bytes is not None:
        dataset["token_size_in_bytes"] = handover.token_bytes
        dataset["vocab_size"] = handover.vocab_size
    data = {"seed": handover.seed, "num_loading_workers": 1, "dataset": dataset}
    stage = {"name": "mixture", "start_training_step": 1, "data": data}
    return _head(handover) + _yaml({"data_stages": [stage]})


def olmo_core(handover: Handover) -> str:
    """OLMo-core: a `SourceMixtureList`. Shards of a climb_opt corpus are read as they are.

    `max_repetition_ratio` is stated when the corpus and the token budget are known; without them a
    domain that is too small for its weight stops OLMo-core with its own error.
    """
    sources = []
    paths = handover.paths("data/{domain}/*.npy")
    for source, default in zip(handover.sources, paths, strict=True):
        files = [path for path, _ in source.files]
        entry: dict[str, Any] = {
            "source_name": source.name,
            "target_ratio": source.weight,
            "paths": files if files and source.path is None else [default],
        }
        epochs = handover.epochs(source)
        if epochs is not None and epochs > 1:
            entry["max_repetition_ratio"] = math.ceil(epochs * 1.001 * 100) / 100
        sources.append(entry)
    return _head(handover) + _yaml({"sources": sources})


def mosaicml(handover: Handover) -> str:
    """LLM Foundry: `train_loader.dataset.streams` with proportions, for `StreamingDataset`."""
    streams = {
        s.slug: {"local": path, "remote": None, "split": "train", "proportion": s.weight}
        for s, path in zip(handover.sources, handover.paths("data/{domain}"), strict=True)
    }
    dataset = {
        "streams": streams,
        "shuffle": True,
        "shuffle_seed": handover.seed,
        "max_seq_len": handover.sequence,
    }
    return _head(handover) + _yaml({"train_loader": {"name": "text", "dataset": dataset}})


def _prefixes(handover: Handover) -> list[tuple[float, str]]:
    pairs = []
    for source, default in zip(handover.sources, handover.paths("data/{domain}"), strict=True):
        if source.path is not None or not source.files:
            pairs.append((source.weight, default))
        else:
            pairs += _shared(source)
    for _, prefix in pairs:
        if any(c.isspace() for c in prefix) or '"' in prefix or "'" in prefix:
            # Megatron splits the file at blanks and knows no quotes.
            raise UserError(
                f"Megatron cannot read the path {prefix!r}: it holds a blank or a quote. Give "
                "--path, for example 'data/{domain}_text_document'."
            )
    return pairs


def _shared(source: Source) -> list[tuple[float, str]]:
    total = sum(tokens for _, tokens in source.files)
    return [
        (source.weight * tokens / total, path.removesuffix(".bin"))
        for path, tokens in source.files
        if tokens
    ]


def _head(handover: Handover) -> str:
    line = f"# Mixture of study {handover.study}"
    if handover.rule:
        line += f", rule {handover.rule}"
    if handover.tokens is not None:
        line += f", for {handover.tokens} tokens"
    return printable(line) + "\n"


def _yaml(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000))
