"""The index that makes a file of tokens a Megatron data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from climb_opt import indexed
from climb_opt.corpus.after import edit
from climb_opt.corpus.after.megatron import import_megatron, read_pair
from climb_opt.indexed import document_lengths, index_shards, prefix_of
from climb_opt.shards import Corpus
from corpora import small_corpus, topic_documents, write_jsonl


@pytest.fixture
def corpus(tiny_corpus: Corpus, tmp_path: Path) -> Corpus:
    """A corpus as the last release wrote it, without indices."""
    shutil.copytree(tiny_corpus.path, tmp_path / "c", ignore=shutil.ignore_patterns("*.idx"))
    return Corpus.load(tmp_path / "c")


def check(corpus: Corpus) -> None:
    for stream in corpus.streams():
        pair = read_pair(Path(prefix_of(corpus.path / stream.file)))
        assert np.array_equal(pair.tokens, corpus.read(stream))
        assert len(pair.ends) == stream.documents
        assert np.all(pair.tokens[pair.ends - 1] == corpus.eos)


@given(st.lists(st.integers(0, 3)), st.integers(1, 5))
def test_documents_end_at_their_end_token_in_any_chunks(tokens: list[int], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexed, "CHUNK", chunk)
        lengths = document_lengths(np.array(tokens, dtype="<u2"), eos=0)
    parts = np.split(np.array(tokens), np.cumsum(lengths)[:-1]) if tokens else []
    assert sum(map(len, parts)) == len(tokens) == lengths.sum()
    assert all(0 not in part[:-1] for part in parts)
    assert all(part[-1] == 0 for part in parts[:-1])


def test_every_stream_gets_an_index_once(corpus: Corpus) -> None:
    index_shards(corpus)
    check(corpus)
    written = {p: p.stat().st_mtime_ns for p in corpus.path.glob("*.idx")}
    index_shards(corpus)
    assert {p: p.stat().st_mtime_ns for p in corpus.path.glob("*.idx")} == written
    assert len(written) == len(corpus.streams()) == 7


@pytest.mark.parametrize("harm", [b"", b"MMIDIDX\0\0", b"\0" * 100])
def test_an_index_that_is_cut_or_of_other_tokens_is_written_anew(
    corpus: Corpus, harm: bytes
) -> None:
    index_shards(corpus)
    index = corpus.path / "domain_000.idx"
    whole = index.read_bytes()
    for damaged in (harm, whole[:-1], (corpus.path / "domain_001.idx").read_bytes()):
        index.write_bytes(damaged)
        index_shards(corpus)
        assert index.read_bytes() == whole


def test_builds_imports_and_edits_leave_an_index_beside_every_shard(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(30))
    built = small_corpus(tmp_path / "built", tmp_path / "a.jsonl")
    check(built)
    files = [str(built.path / s.file) for d in built.domains for s in d.shards]
    ready = tmp_path / "ready"
    check(import_megatron(files, str(built.path), ready, name="ready", progress=False))
    first, second, third = list(built.tokens())[:3]
    merged = edit.merge(built, "both", [first, second])
    check(merged)
    check(edit.drop(merged, [third]))
    pairs = {p.with_suffix("").name for p in built.path.glob("*.idx")}
    assert pairs == {p.with_suffix("").name for p in built.path.glob("*.bin")}
