"""Options of a build: those that cannot be, and what the others make of the documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.corpus.build import build, build_corpus
from climb_opt.corpus.options import BuildOptions, make_plan
from climb_opt.corpus.read.source import ReadOptions
from climb_opt.corpus.stages import counts
from climb_opt.corpus.stages.cluster import ClusterOptions
from climb_opt.corpus.stages.domains import SplitOptions
from climb_opt.corpus.stages.embed import EmbedOptions
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.corpus.stages.tokenise import TokenOptions
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import (
    TOPICS,
    small_corpus,
    small_options,
    topic_documents,
    topic_options,
    write_jsonl,
)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"merge": MergeOptions(domains=4, distance=1.5)}, "exclude each other"),
        ({"merge": MergeOptions(distance=50.0)}, "leaves one domain"),
        ({"merge": MergeOptions(domains=500)}, "documents are fewer than 500 domains"),
        ({"cluster": ClusterOptions(clusters=5000)}, "--clusters 5000 is more than"),
        ({"cluster": ClusterOptions(clusters=12, fit_points=5)}, "--fit-points 5 is less"),
        ({"cluster": ClusterOptions(clusters=12, backend="cuml")}, "'cuml' is not available"),
        ({"embed": EmbedOptions(precision="int8")}, "--precision must be auto, bf16, fp32, but"),
        ({"tokens": TokenOptions(vocab_size=10)}, "--vocab-size must be at least 257"),
        ({"tokens": TokenOptions(tokenizer="./nowhere")}, "No tokenizer at"),
        ({"read": ReadOptions(text_field="body")}, "no document has the field 'body'"),
        ({"embed": EmbedOptions(encoder="./nowhere")}, "cannot be loaded"),
        ({"label_field": "colour"}, "no document has the field 'colour'"),
        ({"domain_field": "colour"}, "--domain-field: no document has the field 'colour'"),
    ],
)
def test_options_that_cannot_be(
    inputs: list[Path], tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(make_plan(topic_options(inputs, **more)), tmp_path / "out", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("domains", 1, "at least 2"),
        ("merge_distance", -1.0, "positive, but is -1.0"),
        ("near_duplicates", 0.1, r"in \[0.5, 1\]"),
        ("seed", -1, r"in \[0, 2147483647\], but is -1"),
        ("seed", 2**31, "in"),
        ("clusters", 0, "at least 2, but is 0"),
        ("fit_points", 0, "at least 1"),
        ("dimensions", 0, "at least 1, but is 0"),
        ("max_tokens", 0, "at least 1, but is 0"),
        ("batch", 0, "at least 1, but is 0"),
        ("heldout_tokens", -1, "at least 0"),
        ("heldout", 0.9, r"in \[0, 0.5\]"),
        ("target_share", 0.0, r"in \(0, 1\]"),
    ],
)
def test_numbers_that_cannot_be(tmp_path: Path, key: str, value: float, message: str) -> None:
    with pytest.raises(UserError, match=f"corpus.{key} must be {message}") as caught:
        build_corpus("a.jsonl", tmp_path / "out", **{key: value})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_fewer_documents_than_domains(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(1))
    with pytest.raises(UserError, match="4 documents are fewer than 16 domains"):
        plan = make_plan(BuildOptions((str(tmp_path / "a.jsonl"),)))
        build(plan, tmp_path / "out", progress=False)


def test_domains_that_the_input_brings_are_kept_by_name(tmp_path: Path) -> None:
    for topic in TOPICS:
        documents = [d for d in topic_documents(20) if d["topic"] == topic]
        write_jsonl(tmp_path / "in" / topic / "a.jsonl", documents)
    kept = small_corpus(tmp_path / "out", f"domains:{tmp_path / 'in'}", merge=MergeOptions())
    assert sorted(d.name for d in kept.domains) == sorted(TOPICS)
    merged = small_corpus(tmp_path / "three", f"domains:{tmp_path / 'in'}",
                          merge=MergeOptions(domains=3))  # fmt: skip
    clusters = sorted(c for d in merged.domains for c in d.info["clusters"])
    assert clusters == sorted(TOPICS) and len(merged.domains) == 3


def test_domains_that_a_field_names_are_those_of_folders(tmp_path: Path) -> None:
    documents = [d | {"meta": {"set": d["topic"]}} for d in topic_documents(20)]
    for topic in TOPICS:
        own = [d for d in documents if d["topic"] == topic]
        write_jsonl(tmp_path / "in" / topic / "a.jsonl", own)
    file = write_jsonl(tmp_path / "a.jsonl", [d for d in documents if d["topic"] != "court"])
    rest = write_jsonl(tmp_path / "b.jsonl", [d for d in documents if d["topic"] == "court"])
    named = {"domain_field": "meta.set", "merge": MergeOptions()}
    kept = small_corpus(tmp_path / "out", file, rest, **named)
    folders = small_corpus(tmp_path / "f", f"domains:{tmp_path / 'in'}", merge=MergeOptions())

    def known(corpus: Corpus) -> dict[str, int]:
        return {d.name: sum(s.documents for s in (*d.shards, d.heldout)) for d in corpus.domains}

    assert known(kept) == known(folders)
    merged = small_corpus(tmp_path / "three", file, rest, **named | {"merge": MergeOptions(3)})
    assert sorted(c for d in merged.domains for c in d.info["clusters"]) == sorted(TOPICS)
    small_corpus(tmp_path / "out", file, rest, **named)  # already built
    with pytest.raises(UserError, match=r"holds another corpus \(.*domain_field"):
        small_corpus(tmp_path / "out", file, rest, merge=MergeOptions())


def test_documents_that_name_no_domain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = topic_documents(20)
    for document, nothing in zip(documents, (None, "", 1), strict=False):
        document["topic"] = nothing
    file = write_jsonl(tmp_path / "a.jsonl", documents)
    named = {"domain_field": "topic", "merge": MergeOptions(), "near_duplicates": None}
    kept = small_corpus(tmp_path / "out", file, **named)
    assert "2 documents are in no cluster and left out" in caplog.text
    named_by = {tuple(d.info["clusters"]): d.name for d in kept.domains}
    assert named_by.keys() == {("1",), *((topic,) for topic in TOPICS)}
    assert named_by["court",] == "court" and "-" in named_by["1",]
    monkeypatch.setattr("climb_opt.corpus.order.MOST_NAMED", 79)
    with pytest.raises(UserError, match=r"id: the documents have 80 different values \('c.*79 dom"):
        small_corpus(tmp_path / "ids", file, **named | {"domain_field": "id"})


def test_domains_of_a_field_that_differ_by_case_only(tmp_path: Path) -> None:
    documents = [d | {"lang": "EN" if i % 2 else "en"} for i, d in enumerate(topic_documents(20))]
    file = write_jsonl(tmp_path / "a.jsonl", documents)
    with pytest.raises(UserError, match="'EN' and 'en' differ by case"):
        small_corpus(tmp_path / "out", file, domain_field="lang", merge=MergeOptions())


def test_a_field_names_no_domains_beside_folders_that_do(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a" / "a.jsonl", topic_documents(2))
    with pytest.raises(UserError, match="--domain-field topic: some inputs bring their own"):
        make_plan(small_options(f"domains:{tmp_path / 'in'}", domain_field="topic"))


def test_inputs_with_and_without_domains_do_not_mix(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a" / "a.jsonl", topic_documents(2))
    write_jsonl(tmp_path / "b.jsonl", topic_documents(2))
    with pytest.raises(UserError, match="Some inputs bring their own domains"):
        make_plan(small_options(f"domains:{tmp_path / 'in'}", tmp_path / "b.jsonl"))


def test_a_given_tokenizer_is_used_and_kept(
    inputs: list[Path], tmp_path: Path, tiny_corpus: Corpus
) -> None:
    given = TokenOptions(tokenizer=str(tiny_corpus.path))
    corpus = small_corpus(tmp_path / "out", *inputs, tokens=given)
    stored = json.loads(corpus.tokenizer_file.read_text())
    assert stored["model"] == json.loads(tiny_corpus.tokenizer_file.read_text())["model"]
    assert corpus.vocab_size == tiny_corpus.vocab_size


def test_the_scikit_learn_back_end_builds_a_corpus_too(inputs: list[Path], tmp_path: Path) -> None:
    plain = ClusterOptions(clusters=12, backend="sklearn")
    corpus = small_corpus(tmp_path / "out", *inputs, cluster=plain, label_field="topic")
    assert corpus.provenance["kmeans"]["backend"] == "sklearn"
    assert corpus.provenance["labels"]["purity"] > 0.9


def test_nothing_is_held_out_where_none_is_asked_for(inputs: list[Path], tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "out", *inputs, split=SplitOptions(share=0.0))
    assert all(d.heldout is None for d in corpus.domains)


def test_held_out_shares_are_capped_in_tokens(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(200, length=30))
    whole = small_corpus(tmp_path / "a", tmp_path / "a.jsonl", split=SplitOptions(share=0.3))
    capped = small_corpus(
        tmp_path / "b", tmp_path / "a.jsonl", split=SplitOptions(share=0.3, most_tokens=600)
    )
    for domain in whole.domains:
        assert domain.heldout is not None and 40 <= domain.heldout.documents <= 80
    for domain in capped.domains:
        assert domain.heldout is not None and domain.heldout.tokens < 1500


def test_seeded_held_out_parts_do_not_depend_on_the_order_of_documents(tmp_path: Path) -> None:
    documents = topic_documents(40)
    write_jsonl(tmp_path / "a.jsonl", documents)
    write_jsonl(tmp_path / "b.jsonl", documents[::-1])
    held = []
    for name in ("a", "b"):
        corpus = small_corpus(tmp_path / name, tmp_path / f"{name}.jsonl")
        held.append(sorted(d.heldout.bytes for d in corpus.domains if d.heldout))
    assert np.array_equal(held[0], held[1])


def test_a_document_of_huge_length_is_trained_on_and_not_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = topic_documents(20)
    # Some are long beside the limit, whatever their keys; the others are enough to hold out.
    for document in documents[::4]:
        document["text"] = " ".join([document["text"]] * 20)
    write_jsonl(tmp_path / "a.jsonl", documents)
    monkeypatch.setattr(counts, "LONGEST_HELD_OUT", 600)
    made = small_corpus(tmp_path / "out", tmp_path / "a.jsonl", split=SplitOptions(share=0.5))
    for domain in made.domains:
        assert domain.heldout is not None and domain.heldout.documents >= 8
        tokens = made.read(domain.heldout)
        ends = np.flatnonzero(tokens == made.eos)
        assert np.diff(ends, prepend=-1).max() <= 600
    monkeypatch.setattr(counts, "LONGEST_HELD_OUT", 1)
    none = small_corpus(tmp_path / "none", tmp_path / "a.jsonl")
    assert all(d.heldout is None for d in none.domains)
