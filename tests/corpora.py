"""Documents made of the words of a few topics, for tests of the corpus commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.build import build
from climb_opt.corpus.options import BuildOptions, make_plan
from climb_opt.corpus.stages.cluster import ClusterOptions
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.corpus.stages.tokenise import TokenOptions
from climb_opt.shards import Corpus

TOPICS = {
    "kitchen": "flour butter oven sugar stir bake salt whisk cream dough knead simmer garlic",
    "stars": "orbit planet telescope galaxy comet nebula gravity lunar eclipse asteroid cosmic",
    "court": "statute appeal verdict plaintiff jury clause tribunal lawsuit judge evidence oath",
    "garden": "soil prune blossom mulch seedling hedge compost orchid lawn shovel watering weed",
}


def topic_documents(
    count: int, seed: int = 0, length: int = 40, prefix: str = ""
) -> list[dict[str, Any]]:
    """`count` documents of each topic, in mixed order."""
    rng = np.random.default_rng(seed)
    found = []
    for topic, words in TOPICS.items():
        choices = words.split()
        for index in range(count):
            text = " ".join(rng.choice(choices, size=length))
            found.append({"id": f"{prefix}{topic}-{index}", "text": text, "topic": topic})
    return [found[i] for i in rng.permutation(len(found))]


def write_jsonl(path: Path, documents: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(d) + "\n" for d in documents), encoding="utf-8")
    return path


def small_options(*inputs: Path | str, **more: Any) -> BuildOptions:
    """Options for a corpus of a few hundred documents."""
    defaults: dict[str, Any] = {
        "tokens": TokenOptions(vocab_size=400),
        "cluster": ClusterOptions(clusters=12, iterations=5),
        "merge": MergeOptions(domains=4),
    }
    return BuildOptions(tuple(map(str, inputs)), **{**defaults, **more})


def topic_files(folder: Path) -> list[Path]:
    """Three files of different size with 160 documents, and copies of five of them."""
    documents = topic_documents(40, length=60)
    parts = (documents[:70], documents[70:90], documents[90:] + documents[:5])
    return [write_jsonl(folder / f"{n}.jsonl", d) for n, d in zip("abc", parts, strict=True)]


def topic_options(inputs: list[Path], **more: Any) -> BuildOptions:
    """Options for `topic_files`, with a target and known labels."""
    known = {"targets": ("sky=topic:stars",), "label_field": "topic", "name": "test"}
    return small_options(*inputs, **{**known, **more})


def small_corpus(output: Path, *inputs: Path | str, **more: Any) -> Corpus:
    corpus = build(make_plan(small_options(*inputs, **more)), output, progress=False)
    assert corpus is not None
    return corpus


def files_of(corpus: Path) -> dict[str, bytes]:
    """Every file of a corpus but its stages."""
    return {p.name: p.read_bytes() for p in corpus.iterdir() if p.is_file()}


def lengths(texts: list[str]) -> list[int]:
    """A scorer: characters."""
    return [len(text) for text in texts]


def not_numbers(texts: list[str]) -> list[str]:
    """What a scorer must not return."""
    return ["good" for _ in texts]
