"""Formats that are Python: a mixture as a program that builds the mixed data set.

Names and paths enter as Python literals (`repr`) or comments, never as text pasted into code.
"""

from __future__ import annotations

from typing import Any

from climb_opt.exports.handover import Handover
from climb_opt.lookup import facts

BUDGET = '''
# The run's length; None where the export was given no --tokens.
TOKENS: int | None = {tokens!r}
SEQUENCE = {sequence!r}  # tokens


def steps(sequences_a_step: int) -> int:
    """Optimizer steps that read TOKENS, for so many sequences in all of them together a step."""
    if TOKENS is None:
        raise ValueError("TOKENS is not set; export with --tokens, or set it here.")
    return -(-TOKENS // (SEQUENCE * sequences_a_step))
'''

HUGGING_FACE = '''{head}"""A mixture of domains as one stream of documents.

    from this_file import mixture, steps
    for document in mixture():
        ...
    TrainingArguments(max_steps=steps(sequences_a_step=256), ...)
"""

import glob
import os

from datasets import IterableDataset, interleave_datasets, load_dataset

# domain: (weight, where its documents are: JSONL or Parquet files, a pattern, or a folder of them)
SOURCES = {{
{rows}}}

# domain: tokens of a document on average. Weights are shares of tokens, but documents are drawn:
# a domain of long documents is drawn less often for the same weight. Where nothing is known (the
# corpus was not at hand), fill it in, or documents of all domains count as equally long.
TOKENS_A_DOCUMENT = {{
{lengths}}}
{budget}

def mixture(seed: int = {seed}, text_field: str = "text") -> IterableDataset:
    """Documents in the mixture's proportions, without end: a domain that ends begins again."""
    opened = [_open(path).select_columns([text_field]) for _, path in SOURCES.values()]
    streams = [documents.repeat(None) for documents in opened]
    draws = [weight / TOKENS_A_DOCUMENT.get(name, 1.0) for name, (weight, _) in SOURCES.items()]
    probabilities = [draw / sum(draws) for draw in draws]
    return interleave_datasets(streams, probabilities=probabilities, seed=seed)


def _open(path: str) -> IterableDataset:
    files = [path]
    if os.path.isdir(path):
        files = sorted(f for f in glob.glob(os.path.join(glob.escape(path), "*")) if ".json" in f)
        files = files or sorted(glob.glob(os.path.join(glob.escape(path), "*.parquet")))
    kind = "parquet" if files[0].endswith(".parquet") else "json"
    return load_dataset(kind, data_files=files, split="train", streaming=True)
'''

TORCHTITAN = '''{head}"""A mixture of domains for torchtitan (its Grain loader: August 2026 on).

Import this module in your config registry and set `config.dataloader = dataloader()` and
`config.training.steps = steps(...)`. Each domain is packed into sequences before they are mixed, so
weights are shares of tokens; a domain that ends begins again.
"""

from torchtitan.components.data import (
    ConcatThenSplitPackingConfig,
    DatasetMixConfig,
    GrainDataLoader,
    HuggingFaceStreamingSource,
    SingleDatasetConfig,
    WeightedDataset,
)
from torchtitan.hf_datasets.text_datasets import TextProcessor

# domain: (weight, where its documents are: JSONL or Parquet files, or a pattern)
SOURCES = {{
{rows}}}
{budget}

def _packed(path: str) -> ConcatThenSplitPackingConfig:
    source = HuggingFaceStreamingSource.Config(
        path="parquet" if path.endswith(".parquet") else "json",
        split="train",
        load_dataset_kwargs={{"data_files": path}},
    )
    documents = SingleDatasetConfig(
        source=source,
        processor=TextProcessor.Config(),
        post_filters=(lambda sample: sample is not None,),
    )
    return ConcatThenSplitPackingConfig(dataset=documents)


def dataloader() -> GrainDataLoader.Config:
    """The data loader's config."""
    mixed = DatasetMixConfig(
        datasets=tuple(
            WeightedDataset(dataset=_packed(path), weight=weight)
            for weight, path in SOURCES.values()
        )
    )
    return GrainDataLoader.Config(dataset=mixed, seed={seed})
'''


DOCUMENTS: dict[str, Any] = {
    "places": lambda h: h.paths("data/domain_{index}.jsonl"),
    "layout": "jsonl",
}


@facts(**DOCUMENTS, budget=lambda h: f"max_steps: {h.sequences} / the sequences of a step")
def hugging_face(handover: Handover) -> str:
    """Python: a module whose `mixture()` is `datasets.interleave_datasets` over the domains."""
    lengths = "".join(
        f"    {s.name!r}: {s.tokens / s.documents:.6g},\n"
        for s in handover.sources
        if s.tokens and s.documents
    )
    return _filled(HUGGING_FACE, handover, lengths=lengths)


@facts(**DOCUMENTS, budget=lambda h: f"training.steps: {h.sequences} / the sequences of a step")
def torchtitan(handover: Handover) -> str:
    """torchtitan: a module whose `dataloader()` is a config that mixes packed sources."""
    return _filled(TORCHTITAN, handover)


def _filled(template: str, handover: Handover, **more: str) -> str:
    rows = "".join(
        f"    {source.name!r}: ({source.weight!r}, {path!r}),\n"
        for source, path in zip(handover.sources, DOCUMENTS["places"](handover), strict=True)
    )
    budget = BUDGET.format(tokens=handover.tokens, sequence=handover.sequence)
    head = "".join(f"# {line}\n" for line in handover.head)
    return template.format(head=head, rows=rows, budget=budget, seed=handover.seed, **more)
