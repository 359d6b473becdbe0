"""A build as a whole: the same bytes however it was run, and never a half-written corpus."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.corpus import engines, files, workspace
from climb_opt.corpus.build import build
from climb_opt.corpus.cluster import ClusterOptions
from climb_opt.corpus.domains import SplitOptions
from climb_opt.corpus.embed import EmbedOptions
from climb_opt.corpus.merge import MergeOptions
from climb_opt.corpus.options import BuildOptions, make_plan
from climb_opt.corpus.readers import ReadOptions
from climb_opt.corpus.tokenise import TokenOptions
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import TOPICS, files_of, small_corpus, small_options, topic_documents, write_jsonl


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    """Three files of different size, some copies among them."""
    documents = topic_documents(40, length=60)
    return [
        write_jsonl(tmp_path / "in" / "a.jsonl", documents[:70]),
        write_jsonl(tmp_path / "in" / "b.jsonl", documents[70:90]),
        write_jsonl(tmp_path / "in" / "c.jsonl", documents[90:] + documents[:5]),
    ]


def options(inputs: list[Path], **more: Any) -> BuildOptions:
    more.setdefault("targets", ("sky=topic:stars",))
    more.setdefault("label_field", "topic")
    more.setdefault("name", "test")
    return small_options(*inputs, **more)


def test_domains_are_the_topics(inputs: list[Path], tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "out", *inputs, label_field="topic")
    assert len(corpus.domains) == 4
    assert corpus.provenance["labels"]["purity"] == 1.0
    for domain in corpus.domains:
        assert domain.info["terms"][0] in " ".join(TOPICS.values())
        assert domain.name.split("-")[0] == domain.info["terms"][0]
        assert domain.heldout is not None and domain.heldout.documents >= 8
        assert len(domain.info["samples"]) == 3
    # Every document is somewhere, once; counts are those of the text.
    assert sum(s.documents for s in corpus.streams()) == 160
    texts = {d["text"] for d in topic_documents(40, length=60)}
    assert sum(s.bytes for s in corpus.streams()) == sum(len(t) for t in texts)
    for stream in corpus.streams():
        tokens = corpus.read(stream)
        assert len(tokens) == stream.tokens
        assert (tokens == corpus.eos).sum() == stream.documents


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    inputs: list[Path], tmp_path: Path
) -> None:
    made = [
        build(make_plan(options(inputs, seed=seed)), tmp_path / f"o{i}", progress=False)
        for i, seed in enumerate((0, 0, 1))
    ]
    first, second, third = (files_of(c.path) for c in made if c is not None)
    assert first == second
    assert first["target_sky.bin"] != third["target_sky.bin"]


def test_a_build_interrupted_at_any_write_ends_the_same(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(options(inputs))
    expected = build(plan, tmp_path / "whole", progress=False)
    assert expected is not None
    real, count = os.replace, 0

    def failing(limit: int) -> Any:
        def replace(source: Any, target: Any) -> None:
            nonlocal count
            count += 1
            if count == limit:
                raise KeyboardInterrupt
            real(source, target)

        return replace

    output = tmp_path / "stopped"
    stops = 0
    while True:  # stopped at the first, second, third ... file that it would finish
        count = 0
        monkeypatch.setattr(os, "replace", failing(1 + stops))
        try:
            build(plan, output, progress=False)
            break
        except KeyboardInterrupt:
            stops += 1
            assert not (output / "manifest.json").exists()
            assert not list(output.rglob("*.partial"))
    assert stops > 10
    assert files_of(output) == files_of(expected.path)


def test_a_build_killed_at_any_moment_ends_the_same(inputs: list[Path], tmp_path: Path) -> None:
    plan = make_plan(options(inputs))
    expected = build(plan, tmp_path / "whole", progress=False)
    assert expected is not None
    script = (
        "import sys, pickle; from pathlib import Path; from climb_opt.corpus.build import build;"
        "build(pickle.load(open(sys.argv[1], 'rb')), Path(sys.argv[2]), progress=False)"
    )
    import pickle

    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    output = tmp_path / "killed"
    command = [sys.executable, "-c", script, str(tmp_path / "plan"), str(output)]
    kills = 0
    while not (output / "manifest.json").exists():
        seen = len(list(output.rglob("*")))
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            # Kill it as soon as it has written something new.
            while process.poll() is None and len(list(output.rglob("*"))) <= seen + 8:
                time.sleep(0.002)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        if kills >= 3:
            subprocess.run(command, check=True)
    assert kills >= 1
    assert files_of(output) == files_of(expected.path)


def test_parts_and_processes_give_the_same_bytes(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(options(inputs))
    expected = build(plan, tmp_path / "whole", progress=False)
    assert expected is not None
    monkeypatch.setattr(workspace, "POLL_SECONDS", 0.01)
    results: dict[int, Any] = {}

    def run(index: int) -> None:
        results[index] = build(plan, tmp_path / "parts", part=(index, 3), progress=False)

    threads = [threading.Thread(target=run, args=(i,)) for i in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[2] is None and results[3] is None
    assert files_of(results[1].path) == files_of(expected.path)
    monkeypatch.setattr(engines, "BYTES_WORTH_PROCESSES", 0)
    made = build(plan, tmp_path / "processes", workers=2, progress=False)
    assert made is not None
    assert files_of(made.path) == files_of(expected.path)


def test_parts_do_not_wait_for_one_that_failed(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "POLL_SECONDS", 0.01)
    plan = make_plan(options(inputs, merge=MergeOptions(distance=50.0)))
    errors: dict[int, str] = {}

    def run(index: int) -> None:
        try:
            build(plan, tmp_path / "parts", part=(index, 2), progress=False)
        except UserError as error:
            errors[index] = str(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in (2, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "leaves one domain" in errors[1]
    assert errors[2] == f"Part 1 of 2 stopped: {errors[1]}"


def test_embeddings_that_are_not_finite_are_counted(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from climb_opt.corpus.embed import TfIdf

    real = TfIdf.transform

    def broken(rows: slice) -> Any:
        def transform(self: TfIdf, tokens: Any, ends: Any) -> Any:
            vectors = real(self, tokens, ends)
            vectors[rows] = np.nan
            return vectors

        return transform

    monkeypatch.setattr(TfIdf, "transform", broken(slice(0, 2)))  # of each file
    corpus = small_corpus(tmp_path / "few", *inputs)
    assert corpus.provenance["unclustered"] == 6
    assert sum(s.documents for s in corpus.streams()) == 154
    monkeypatch.setattr(TfIdf, "transform", broken(slice(0, 15)))
    with pytest.raises(UserError, match="45 of 160 documents have no cluster"):
        small_corpus(tmp_path / "many", *inputs)


def test_small_blocks_give_the_same_corpus(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from climb_opt.corpus import documents

    given = ClusterOptions(clusters=12, iterations=5, fit_points=1000)
    plan = make_plan(options(inputs, cluster=given))
    expected = build(plan, tmp_path / "whole", progress=False)
    monkeypatch.setattr(documents, "BLOCK_DOCUMENTS", 7)
    made = build(plan, tmp_path / "blocks", progress=False)
    assert made is not None and expected is not None
    assert files_of(made.path) == files_of(expected.path)


# --- the output folder ------------------------------------------------------------------------


def test_a_finished_corpus_is_not_built_again(inputs: list[Path], tmp_path: Path) -> None:
    plan = make_plan(options(inputs))
    build(plan, tmp_path / "out", progress=False)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.suffix == ".bin"}
    again = build(make_plan(options(inputs)), tmp_path / "out", progress=False)
    assert again is not None
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_another_corpus_in_the_folder_is_refused_and_can_be_replaced(
    inputs: list[Path], tmp_path: Path
) -> None:
    build(make_plan(options(inputs)), tmp_path / "out", progress=False)
    other = make_plan(options(inputs, merge=MergeOptions(domains=3)))
    with pytest.raises(UserError, match=r"holds another corpus \(options.merge.domains: 4 -> 3\)"):
        build(other, tmp_path / "out", progress=False)
    assert len(Corpus.load(tmp_path / "out").domains) == 4
    tokens = {p.name for p in (tmp_path / "out" / "work").glob("tokens-*")}
    made = build(other, tmp_path / "out", progress=False, overwrite=True)
    assert made is not None and len(made.domains) == 3
    assert not (tmp_path / "out" / "domain_003.bin").exists()
    assert {p.name for p in (tmp_path / "out" / "work").glob("tokens-*")} == tokens


def test_changed_inputs_are_another_corpus(inputs: list[Path], tmp_path: Path) -> None:
    build(make_plan(options(inputs)), tmp_path / "out", progress=False)
    write_jsonl(inputs[1], topic_documents(3, seed=5))
    with pytest.raises(UserError, match=r"holds another corpus .*sources"):
        build(make_plan(options(inputs)), tmp_path / "out", progress=False)


def test_a_folder_with_other_files_is_left_alone(inputs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files and no corpus"):
        build(make_plan(options(inputs)), tmp_path / "out", progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; name a folder"):
        build(make_plan(options(inputs)), tmp_path / "file", progress=False)


def test_a_second_build_at_the_same_time_is_refused(inputs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out" / "work").mkdir(parents=True)
    with (
        files.locked(tmp_path / "out" / "work", (1, 1)),
        pytest.raises(UserError, match="Another process is building"),
    ):
        build(make_plan(options(inputs)), tmp_path / "out", progress=False)


@pytest.mark.parametrize("moment", [3, 12, 25])
def test_a_full_disk_is_one_clear_line_and_no_corpus(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    real, count = os.replace, 0

    def full(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    plan = make_plan(options(inputs))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match=r"No space left on the disk .* finished stages"):
            build(plan, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(UserError, match="No corpus at"):
        Corpus.load(tmp_path / "out")
    assert build(plan, tmp_path / "out", progress=False) is not None


def test_a_truncated_shard_does_not_load(inputs: list[Path], tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "out", *inputs)
    file = corpus.path / corpus.domains[0].shards[0].file
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match="truncated or changed"):
        Corpus.load(corpus.path)


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"merge": MergeOptions(domains=1)}, "--domains must be at least 2"),
        ({"merge": MergeOptions(domains=4, distance=1.5)}, "exclude each other"),
        ({"merge": MergeOptions(distance=-1.0)}, "must be positive"),
        ({"merge": MergeOptions(distance=50.0)}, "leaves one domain"),
        ({"merge": MergeOptions(domains=500)}, "documents are fewer than 500 domains"),
        ({"cluster": ClusterOptions(clusters=5000)}, "--clusters 5000 is more than"),
        ({"cluster": ClusterOptions(clusters=12, fit_points=5)}, "--fit-points 5 is less"),
        ({"cluster": ClusterOptions(clusters=12, backend="cuml")}, "'cuml' is not available"),
        ({"near_duplicates": 0.1}, r"must be in \[0.5, 1\]"),
        ({"split": SplitOptions(share=0.9)}, r"--heldout must be in \[0, 0.5\]"),
        ({"tokens": TokenOptions(vocab_size=10)}, "--vocab-size must be at least 257"),
        ({"tokens": TokenOptions(tokenizer="./nowhere")}, "No tokenizer at"),
        ({"read": ReadOptions(text_field="body")}, "no field 'body'"),
        ({"embed": EmbedOptions(encoder="./nowhere")}, "cannot be loaded"),
        ({"label_field": "colour"}, "No document has the field 'colour'"),
    ],
)
def test_options_that_cannot_be(
    inputs: list[Path], tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(make_plan(options(inputs, **more)), tmp_path / "out", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


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
