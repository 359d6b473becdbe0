"""A build as a whole: the same bytes however it was run, and never a half-written corpus."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.corpus.after.megatron import import_megatron
from climb_opt.corpus.build import build
from climb_opt.corpus.options import make_plan
from climb_opt.corpus.run import local, workspace
from climb_opt.corpus.stages import domains, gather, tokenise
from climb_opt.corpus.stages.cluster import ClusterOptions
from climb_opt.corpus.stages.describe import LOOKED_AT
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.errors import UserError
from corpora import (
    TOPICS,
    files_of,
    small_corpus,
    topic_documents,
    topic_options,
    write_jsonl,
)


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


def test_of_sampled_documents_only_the_beginnings_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, held = domains.top_terms, list[int]()

    def top_terms(samples: Any) -> Any:
        held.extend(len(d.text) for some in samples for d in some)
        return real(samples)

    monkeypatch.setattr(domains, "top_terms", top_terms)
    long = write_jsonl(tmp_path / "long.jsonl", topic_documents(40, length=1000))
    corpus = small_corpus(tmp_path / "out", long)
    assert set(held) == {LOOKED_AT}  # whole, 128 documents a domain fill the memory
    assert all(len(d.info["samples"]) == 3 for d in corpus.domains)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    inputs: list[Path], tmp_path: Path
) -> None:
    made = [
        build(make_plan(topic_options(inputs, seed=seed)), tmp_path / f"o{i}", progress=False)
        for i, seed in enumerate((0, 0, 1))
    ]
    first, second, third = (files_of(c.path) for c in made if c is not None)
    assert first == second
    assert first["target_sky.bin"] != third["target_sky.bin"]


def test_a_build_interrupted_at_any_write_ends_the_same(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(topic_options(inputs))
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
    plan = make_plan(topic_options(inputs))
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
    plan = make_plan(topic_options(inputs))
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
    monkeypatch.setattr(local, "BYTES_WORTH_PROCESSES", 0)
    for workers in (2, tokenise.MOST_THREADED + 1):  # more tokenise in processes, too
        made = build(plan, tmp_path / f"{workers}", workers=workers, progress=False)
        assert made is not None
        assert files_of(made.path) == files_of(expected.path)


def test_parts_do_not_wait_for_one_that_failed(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "POLL_SECONDS", 0.01)
    plan = make_plan(topic_options(inputs, merge=MergeOptions(distance=50.0)))
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
    from climb_opt.corpus.stages.embed import TfIdf

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
    plan = make_plan(topic_options(inputs, cluster=given))
    expected = build(plan, tmp_path / "whole", progress=False)
    monkeypatch.setattr(documents, "BLOCK_DOCUMENTS", 7)
    made = build(plan, tmp_path / "blocks", progress=False)
    assert made is not None and expected is not None
    assert files_of(made.path) == files_of(expected.path)


def test_a_domain_in_several_shards_holds_what_one_would(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(topic_options(inputs))
    one = build(plan, tmp_path / "one", progress=False)
    monkeypatch.setattr(gather, "SHARD_TOKENS", 1)  # whole documents of a block stay together
    many = build(plan, tmp_path / "many", progress=False)
    assert one is not None and many is not None
    for domain, parted in zip(one.domains, many.domains, strict=True):
        assert len(domain.shards) == 1 < len(parted.shards)
        parts = [many.read(shard) for shard in parted.shards]
        assert np.array_equal(np.concatenate(parts), one.read(domain.shards[0]))
        assert domain.heldout is not None and parted.heldout is not None
        assert np.array_equal(many.read(parted.heldout), one.read(domain.heldout))
    assert np.array_equal(many.read(many.target("sky")), one.read(one.target("sky")))


def test_hundreds_of_domains_beside_targets_with_few_open_files_allowed(tmp_path: Path) -> None:
    count = 130
    for index in range(count):
        mine = [{"text": f"text {index} {i} of its own", "kind": "plain"} for i in range(2)]
        mine += [{"text": f"text {index} of target {index % 3}", "kind": f"t{index % 3}"}]
        write_jsonl(tmp_path / "in" / f"d{index:03d}.jsonl", mine)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 100
    targets = tuple(f"t{i}=kind:t{i}" for i in range(3))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
        corpus = small_corpus(
            tmp_path / "out",
            f"domains:{tmp_path / 'in'}",
            targets=targets,
            target_share=1.0,
            near_duplicates=None,
            merge=MergeOptions(),
        )
        maps = [corpus.read(stream) for stream in corpus.streams()]
        pairs = [str(corpus.path / domain.shards[0].file) for domain in corpus.domains]
        tokenizer = str(corpus.tokenizer_file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (few + len(maps), hard))
        imported = import_megatron(pairs, tokenizer, tmp_path / "imported", name="imported")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(corpus.domains) == count and len(maps) > 100
    assert len(imported.domains) == count
    assert sum(s.documents for s in corpus.streams()) == 3 * count
    assert [corpus.targets[f"t{i}"].documents for i in range(3)] == [44, 43, 43]


def test_more_targets_than_a_role_can_number_are_refused(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": "some text"}])
    targets = tuple(f"t{i}=kind:{i}" for i in range(241))
    with pytest.raises(UserError, match="241 targets are given; a corpus has at most 240"):
        make_plan(topic_options([file], targets=targets))
