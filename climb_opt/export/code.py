"""Formats that are Python: a mixture as a program that builds the mixed data set.

Names and paths enter as Python literals (`repr`), never as text pasted into code.
"""

from __future__ import annotations

from climb_opt.export.handover import Handover
from climb_opt.text import printable

HUGGING_FACE = '''"""{title}

    from {module} import mixture
    for document in mixture():
        ...
"""

from datasets import IterableDataset, interleave_datasets, load_dataset

# domain: (weight, where its documents are: JSONL, Parquet or a folder of them)
SOURCES = {{
{rows}}}


def mixture(seed: int = {seed}, text_field: str = "text") -> IterableDataset:
    """Documents drawn with the mixture's weights; a domain that ends begins again.

    Weights are shares of tokens, draws are of documents: where domains differ in the length of
    their documents, divide each weight by its domain's mean length first.
    """
    streams = [_open(path).select_columns([text_field]) for _, path in SOURCES.values()]
    weights = [weight for weight, _ in SOURCES.values()]
    return interleave_datasets(
        streams, probabilities=weights, seed=seed, stopping_strategy="all_exhausted"
    )


def _open(path: str) -> IterableDataset:
    kind = "parquet" if path.endswith(".parquet") else "json"
    return load_dataset(kind, data_files=path, split="train", streaming=True)
'''

TORCHTITAN = '''"""{title}

Import this module in your config registry and set `dataloader=dataloader()`: torchtitan packs each
source into sequences before it interleaves them, so weights are shares of tokens.
"""

from datasets import load_dataset
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import (
    DATASETS,
    HFDataSource,
    InterleavedHuggingFaceTextDataLoader,
)

# name in torchtitan: (weight, where its documents are)
SOURCES = {{
{rows}}}


def _load(path: str):
    kind = "parquet" if path.endswith(".parquet") else "json"
    return load_dataset(kind, data_files=path, split="train", streaming=True)


def _text(sample: dict) -> str:
    return sample["text"]


def register() -> None:
    """Make the domains known to torchtitan by name."""
    for name, (_, path) in SOURCES.items():
        DATASETS[name] = DatasetConfig(path=path, loader=_load, sample_processor=_text)


def dataloader() -> InterleavedHuggingFaceTextDataLoader.Config:
    """The data loader's config; domains repeat for as long as the run lasts."""
    register()
    return InterleavedHuggingFaceTextDataLoader.Config(
        sources=[
            HFDataSource(dataset=name, dataset_path=path, weight=weight, infinite=True)
            for name, (weight, path) in SOURCES.items()
        ],
        seed={seed},
    )
'''


def hugging_face(handover: Handover) -> str:
    """A module whose `mixture()` is an `interleave_datasets` over the domains' documents."""
    rows = _rows(handover, [s.name for s in handover.sources])
    return HUGGING_FACE.format(
        title=_title(handover), module="this_file", rows=rows, seed=handover.seed
    )


def torchtitan(handover: Handover) -> str:
    """A module whose `dataloader()` is torchtitan's interleaved text data loader."""
    # torchtitan looks names up in lower case.
    rows = _rows(handover, [s.slug.lower() for s in handover.sources])
    return TORCHTITAN.format(title=_title(handover), rows=rows, seed=handover.seed)


def _rows(handover: Handover, names: list[str]) -> str:
    paths = handover.paths("data/{domain}.jsonl")
    return "".join(
        f"    {name!r}: ({source.weight!r}, {path!r}),\n"
        for name, source, path in zip(names, handover.sources, paths, strict=True)
    )


def _title(handover: Handover) -> str:
    text = f"The mixture of study {handover.study}"
    if handover.rule:
        text += f", rule {handover.rule}"
    # Inside a docstring: no quotes, no backslashes, no braces for `format`.
    safe = "".join(c if c not in '"\\' else "'" for c in printable(text))
    return safe + "."
