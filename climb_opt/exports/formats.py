"""The formats by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from climb_opt.errors import UserError, did_you_mean
from climb_opt.exports import code, configs
from climb_opt.exports.handover import Handover
from climb_opt.exports.notes import notes_of

logger = logging.getLogger(__name__)

MATERIALISE = "materialise"  # writes data, not text: materialise.py


@dataclass(frozen=True)
class Format:
    """How to write a handover as text, the file's usual suffix, and what reads it.

    Args:
        places: the paths that the text names; None where it is read by no trainer.
        needs: what must lie there, from such a path; `*` is any file.
        layout: of `climb-opt corpus export`, that makes what the text names by itself.
        budget: how the trainer is told its tokens, from the handover.
        check: more that may go wrong in this trainer.
    """

    write: Callable[[Handover], str]
    suffix: str
    about: str
    places: Callable[[Handover], list[str]] | None = None
    needs: tuple[str, ...] = ("{}",)
    layout: str = ""
    budget: Callable[[Handover], str] | None = None
    check: Callable[[Handover], list[str]] = lambda handover: []


FORMATS: dict[str, Format] = {
    "json": Format(configs.as_json, ".json", "weights, tokens and epochs as JSON"),
    "yaml": Format(configs.as_yaml, ".yaml", "domain: weight; what `climb-opt enqueue` reads"),
    "megatron": Format(
        configs.megatron,
        ".txt",
        "Megatron-LM's --data-args-path: weight prefix",
        configs.prefixes,
        ("{}.bin", "{}.idx"),
        "megatron",
        lambda h: f"--train-samples {h.sequences} --seq-length {h.sequence}",
    ),
    "nemo": Format(
        configs.nemo,
        ".yaml",
        "NeMo 2 PreTrainingDataModule, Megatron Bridge: paths",
        configs.prefixes,
        ("{}.bin", "{}.idx"),
        "megatron",
        lambda h: f"num_train_samples is {h.sequences}; max_steps: that / global_batch_size",
    ),
    "nanotron": Format(
        configs.nanotron,
        ".yaml",
        "nanotron's data_stages over Nanosets",
        configs.nanosets,
        ("{}/*.ds",),
        "nanotron",
        lambda h: f"tokens.train_steps: {h.sequences} / the sequences of a step",
    ),
    "olmo-core": Format(
        configs.olmo_core,
        ".yaml",
        "OLMo-core's SourceMixtureList",
        configs.olmo_paths,
        layout="megatron",
        budget=lambda h: f"requested_tokens={h.tokens} of SourceMixtureDatasetConfig",
        check=configs.olmo_shortfall,
    ),
    "mosaicml": Format(
        configs.mosaicml,
        ".yaml",
        "LLM Foundry: the streams of a train_loader",
        configs.streams,
        ("{}/train/index.json",),
        "jsonl",
        lambda h: f"epoch_size is {h.sequences} samples; give the trainer max_duration: 1ep",
        configs.mosaicml_conversion,
    ),
    "torchtitan": Format(
        code.torchtitan,
        ".py",
        "torchtitan: a data loader's config that mixes packed sources",
        code.places,
        layout="jsonl",
        budget=lambda h: f"training.steps: {h.sequences} / the sequences of a step",
    ),
    "huggingface": Format(
        code.hugging_face,
        ".py",
        "Python: datasets.interleave_datasets",
        code.places,
        layout="jsonl",
        budget=lambda h: f"max_steps: {h.sequences} / the sequences of a step",
    ),
}


def render(name: str, handover: Handover) -> str:
    """The handover in the named format. What the reader must know is in the text, where the format
    has comments, and logged as warnings.

    Raises:
        UserError: an unknown format (all are listed), or one that needs what is not known.
    """
    chosen = FORMATS[checked(name)]
    notes = notes_of(chosen, handover)
    for note in notes:
        logger.warning("%s", note)
    return chosen.write(replace(handover, notes=tuple(notes)))


def checked(name: str) -> str:
    """The name of a format.

    Raises:
        UserError: there is none of that name; all are listed.
    """
    if name in FORMATS:
        return name
    hint = did_you_mean(name, [*FORMATS, MATERIALISE])
    raise UserError(f"Unknown format {name!r}.{hint} Known: {', '.join(FORMATS)}, {MATERIALISE}.")
