"""The formats by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from climb_opt.errors import UserError
from climb_opt.export import code, configs
from climb_opt.export.handover import Handover


@dataclass(frozen=True)
class Format:
    """How to write a handover as text, the file's usual suffix, and what reads it."""

    write: Callable[[Handover], str]
    suffix: str
    about: str


FORMATS: dict[str, Format] = {
    "json": Format(configs.as_json, ".json", "weights, tokens and epochs as JSON"),
    "yaml": Format(configs.as_yaml, ".yaml", "domain: weight; what `climb-opt enqueue` reads"),
    "megatron": Format(configs.megatron, ".txt", "Megatron-LM's --data-args-path: weight prefix"),
    "nemo": Format(configs.nemo, ".yaml", "NeMo 2 PreTrainingDataModule, Megatron Bridge: paths"),
    "nanotron": Format(configs.nanotron, ".yaml", "nanotron's data_stages over Nanosets"),
    "olmo-core": Format(configs.olmo_core, ".yaml", "OLMo-core's SourceMixtureList"),
    "mosaicml": Format(configs.mosaicml, ".yaml", "LLM Foundry: the streams of a train_loader"),
    "torchtitan": Format(code.torchtitan, ".py", "torchtitan: an interleaved data loader's config"),
    "huggingface": Format(code.hugging_face, ".py", "Python: datasets.interleave_datasets"),
}


def render(name: str, handover: Handover) -> str:
    """The handover in the named format.

    Raises:
        UserError: an unknown format (all are listed), or one that needs what is not known.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"Unknown format {name!r}.{hint} Known: {', '.join(FORMATS)}, materialise.")
    return FORMATS[name].write(handover)
