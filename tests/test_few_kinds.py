"""Fewer kinds of documents than domains wanted; documents whose embeddings tell nothing."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb_opt.corpus.after.show import history, summary
from climb_opt.corpus.stages import sentences
from climb_opt.corpus.stages.cluster import ClusterOptions
from climb_opt.corpus.stages.embed import EmbedOptions
from climb_opt.corpus.stages.merge import MergeOptions
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from corpora import small_corpus, topic_documents, write_jsonl

Vectors = Callable[[str], np.ndarray]


def of_three_kinds(text: str) -> np.ndarray:
    kinds: np.ndarray = np.eye(16, dtype=np.float32)
    return kinds[zlib.crc32(text.split()[0].encode()) % 3]


@pytest.fixture
def embedded_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Vectors], dict[str, Any]]:
    """Options of a build with a model that gives these vectors."""

    class Model:
        max_seq_length = 128

        def __init__(self, vectors: Vectors) -> None:
            self.vectors = vectors

        def get_embedding_dimension(self) -> int:
            return 16

        def encode(self, texts: list[str], **_: Any) -> np.ndarray:
            return np.stack([self.vectors(t) for t in texts]).astype(np.float32)

    def options(vectors: Vectors) -> dict[str, Any]:
        monkeypatch.setattr(sentences, "_load", lambda *_: Model(vectors))
        return {"embed": EmbedOptions(encoder="made-up", precision="fp32", devices=("cpu",))}

    return options


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "a.jsonl", topic_documents(40))


def said(corpus: Corpus, text: str) -> bool:
    return any(text in line for line in summary(corpus))


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_fewer_kinds_of_embeddings_than_domains(
    backend: str, file: Path, tmp_path: Path, embedded_by: Any, caplog: pytest.LogCaptureFixture
) -> None:
    more = {
        **embedded_by(of_three_kinds),
        "cluster": ClusterOptions(backend=backend),
        "merge": MergeOptions(domains=8),
    }
    corpus = small_corpus(tmp_path / "out", file, **more)
    assert len(corpus.domains) == 3
    line = "3 domains, not the 8 asked for: there are 16 clusters (13 hold no documents)"
    assert said(corpus, line) and line in caplog.text
    assert line in corpus.provenance["fewer_domains"]


def test_fewer_clusters_than_domains(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"cluster": ClusterOptions(clusters=3), "merge": MergeOptions(domains=8)}
    corpus = small_corpus(tmp_path / "out", file, **more)
    assert len(corpus.domains) == 3 and said(corpus, "not the 8 asked for: there are 3 clusters")
    corpus = small_corpus(tmp_path / "default", file, **{**more, "merge": MergeOptions()})
    assert said(corpus, "3 domains, not 16: there are 3 clusters")
    assert "3 domains, not 16" in caplog.text


def test_fewer_given_domains_than_asked_for(tmp_path: Path) -> None:
    documents = topic_documents(20)
    for name in ("stars", "court"):
        some = [d for d in documents if d["topic"] == name]
        write_jsonl(tmp_path / "given" / name / "a.jsonl", some)
    given = f"domains:{tmp_path / 'given'}"
    corpus = small_corpus(tmp_path / "out", given, merge=MergeOptions(domains=5))
    assert len(corpus.domains) == 2 and said(corpus, "not the 5 asked for: the inputs bring 2")
    as_they_are = small_corpus(tmp_path / "two", given, merge=MergeOptions())
    assert as_they_are.provenance["fewer_domains"] is None


def test_given_domains_without_documents_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = tmp_path / "given"
    for name in ("court", "stars", "kitchen"):
        some = [d for d in topic_documents(20) if d["topic"] == name]
        write_jsonl(given / name / "a.jsonl", some)
    write_jsonl(given / "zéro" / "a.jsonl", [{"text": ""}, {"text": None}])
    (given / "again").mkdir()
    shutil.copy(given / "court" / "a.jsonl", given / "again" / "a.jsonl")  # read before court
    (given / "nothing").mkdir()
    (given / "nothing" / "a.jsonl").touch()
    corpus = small_corpus(tmp_path / "out", f"domains:{given}", merge=MergeOptions(domains=6))
    assert sorted(d.name for d in corpus.domains) == ["again", "kitchen", "stars"]
    for line in (
        "domain 'zéro': no documents (2 skipped: empty), left out",
        "domain 'nothing': no documents, left out",
        "domain 'court': none of its 20 documents is left to train on (20 copies), left out",
    ):
        assert line in history(corpus.provenance) and line in caplog.text
    assert said(corpus, "not the 6 asked for: the inputs bring 6 (3 hold no documents)")
    assert corpus.provenance["clusters"]["empty"] == 3


def test_one_given_domain_with_documents_is_refused_by_naming_the_others(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "given" / "x" / "a.jsonl", topic_documents(5))
    write_jsonl(tmp_path / "given" / "y" / "a.jsonl", [])
    with pytest.raises(UserError) as error:
        small_corpus(tmp_path / "out", f"domains:{tmp_path / 'given'}", merge=MergeOptions())
    assert str(error.value) == (
        "1 of 2 domains are left (1 hold no documents); a mixture needs at least two domains. "
        "Domain 'y': no documents, left out. Check the inputs."
    )


def test_pruned_clusters_are_said_where_they_are_missed(tmp_path: Path, embedded_by: Any) -> None:
    documents = [
        {**d, "grade": int(of_three_kinds(str(d["text"]))[0])} for d in topic_documents(40)
    ]
    file = write_jsonl(tmp_path / "graded.jsonl", documents)
    more = {
        **embedded_by(of_three_kinds),
        "cluster": ClusterOptions(clusters=6),
        "merge": MergeOptions(domains=3),
        "scores": ("grade=column:grade",),
        "prune": ("grade<=0.5",),
    }
    corpus = small_corpus(tmp_path / "out", file, **more)
    assert said(corpus, "2 domains, not the 3 asked for: there are 6 clusters (3 hold no documents")
    assert said(corpus, "1 pruned")


def test_as_many_domains_as_asked_for_need_no_word(file: Path, tmp_path: Path) -> None:
    assert small_corpus(tmp_path / "out", file).provenance["fewer_domains"] is None


def test_embeddings_that_are_all_the_same_leave_one_cluster(
    file: Path, tmp_path: Path, embedded_by: Any
) -> None:
    with pytest.raises(UserError, match=r"1 of 12 clusters are left \(11 hold no documents\)"):
        small_corpus(tmp_path / "out", file, **embedded_by(lambda _: np.eye(16)[0]))


@pytest.mark.parametrize("lost", [np.nan, np.inf, 0.0, 1e-12, 0.25], ids=str)
def test_documents_whose_embeddings_tell_nothing_are_left_out_and_counted(
    lost: float, file: Path, tmp_path: Path, embedded_by: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def vectors(text: str) -> np.ndarray:
        known = zlib.crc32(text.encode()) % 20
        return of_three_kinds(text) if known else np.full(16, lost)

    expected = sum(zlib.crc32(d["text"].encode()) % 20 == 0 for d in topic_documents(40))
    corpus = small_corpus(tmp_path / "out", file, **embedded_by(vectors))
    assert 0 < expected == corpus.provenance["unclustered"]
    assert f"{expected} documents are in no cluster and left out" in caplog.text
    trained = sum(s.documents for s in corpus.streams())
    assert trained == 160 - expected
    with pytest.raises(UserError, match="embeddings tell nothing"):
        small_corpus(
            tmp_path / "worse",
            file,
            **embedded_by(lambda t: vectors(t) if len(t) % 3 else np.full(16, lost)),
        )
