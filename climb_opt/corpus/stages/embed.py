"""Stages `encoder` and `embeddings`: a vector per document, unit length, stored once as float16.

tfidf   TF-IDF over the corpus's own tokens, then SVD. No download, no second reading of the
        text: about a fiftieth of the cost of tokenising. On the development pack it finds the
        known sources better than TF-IDF over words (NMI .86-.90 against .77-.79 at 16:
        docs/notes/corpus.md#known-kinds): case, punctuation and layout tell kinds of text apart.
        128 dimensions find the sources no better than 64 (.87-.92; 6 seeds each).
other   a sentence-transformers model: corpus/stages/sentences.py
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, Pool, sample_rows
from climb_opt.corpus.files import load_array
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.tokenise import TokenFacts, read_tokens, token_indices
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.threads import one_blas_thread

logger = logging.getLogger(__name__)

TFIDF = "tfidf"
PRECISIONS = ("auto", "bf16", "fp32")  # of a model
TOKENS_AT_ONCE = 250_000
ITERATIONS = 2  # of the SVD; more find no better clusters: docs/notes/corpus.md#known-kinds
TOLERANCE = 1e-5  # of its residuals


@dataclass(frozen=True)
class EmbedOptions:
    """Which encoder.

    Attributes:
        encoder: `tfidf`, or a sentence-transformers model (folder or hub name).
        dimensions: of TF-IDF + SVD.
        fit_documents: the SVD is fitted on so many documents, drawn uniformly.
        max_tokens: tokens of a document that are looked at; None: 1000 for TF-IDF, a model's own
            limit otherwise.
        devices: for a model, e.g. ("cuda:0", "cuda:1"); empty: every GPU, else the CPU.
        precision: of a model; "auto" is bf16 where the device multiplies it natively.
        batch: documents a model encodes at once.
        trust_remote_code: let a hub model run its own code (stella needs it).
    """

    encoder: str = CorpusRecipe.encoder
    dimensions: int = CorpusRecipe.dimensions
    fit_documents: int = 10_000
    max_tokens: int | None = None
    devices: tuple[str, ...] = ()
    precision: str = CorpusRecipe.precision
    batch: int = CorpusRecipe.batch
    trust_remote_code: bool = False

    @property
    def limit(self) -> int:
        """Tokens of a document that TF-IDF looks at."""
        return self.max_tokens or 1000


@once("tfidf.npz")
def fit_tfidf(
    stage: Stage, tokens: Stage, pool: Pool, facts: TokenFacts, options: EmbedOptions
) -> dict[str, np.ndarray]:
    """TF-IDF and its SVD, fitted on a sample: `idf` and `components` (see `TfIdf`)."""
    from scipy import sparse

    parts = []
    limit = options.limit
    for block, rows in sample_rows(pool, options.fit_documents):
        values, ends = read_tokens(tokens.path, block, facts.dtype)
        parts.append(token_counts(values, ends, limit, facts.vocab_size, rows))
    counts = sparse.vstack(parts).tocsr()
    dimensions = min(options.dimensions, *(s - 1 for s in counts.shape))
    if dimensions < 1:
        raise UserError("Too few documents to embed: at least 2 are needed.")
    found = fit(counts, dimensions, facts.eos, limit, pool.seed)
    logger.info("TF-IDF + SVD-%d fitted on %d documents.", dimensions, counts.shape[0])
    return {"idf": found.idf, "components": found.components}


def embed_tfidf(
    stage: Stage, encoder: TfIdf, tokens: Stage, blocks: Sequence[Block], dtype: str
) -> None:
    """Write `<block>.npy`: float16 embeddings (documents, dimensions)."""
    task = partial(_embed_block, tokens.path, dtype, encoder)
    stage.over(blocks, task, marker=".npy", how=How(threads=stage.workspace.engine.workers))


def _embed_block(
    tokens: Path, dtype: str, encoder: TfIdf, block: Block, advance: Advance
) -> np.ndarray:
    return encoder.transform(*read_tokens(tokens, block, dtype)).astype(np.float16)


def read_embeddings(folder: Path, block: Block) -> np.ndarray:
    """The float16 embeddings of a block, memory-mapped, (documents, dimensions)."""
    return load_array(folder / f"{block.name}.npy")


def informative(vectors: np.ndarray) -> np.ndarray:
    """Which vectors (n, dimensions) tell something (n,).

    Not those that are not finite, are zero or nearly so (a unit vector's largest value is hundreds
    of times what float16 holds in full), or have the same value everywhere.
    """
    size = np.abs(vectors).max(axis=1, initial=0)
    found: np.ndarray = np.isfinite(vectors).all(axis=1) & (size >= np.finfo(np.float16).tiny)
    if vectors.shape[1] > 2:  # on a line and in a plane such vectors are as good as others
        found &= (vectors != vectors[:, :1]).any(axis=1)
    return found


# --- TF-IDF over tokens and its truncated SVD, of documents that lie end to end in one array ------
# Counts are found by sorting (document, token) pairs as one integer each, a cache's worth of
# documents at a time: a third of the time that summing a sparse matrix's duplicates takes. Times:
# docs/notes/corpus.md#time-and-memory.


@dataclass(frozen=True)
class TfIdf:
    """idf (vocabulary,) and the right singular vectors (vocabulary, dimensions), float32."""

    idf: np.ndarray
    components: np.ndarray
    max_tokens: int

    def transform(self, tokens: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Embeddings (documents, dimensions), unit length; a document without tokens is zero."""
        vectors = np.zeros((len(ends), self.components.shape[1]), dtype=np.float32)
        for rows in _slices(ends, self.max_tokens):
            counts = token_counts(tokens, ends, self.max_tokens, len(self.idf), rows)
            vectors[rows] = weighted(counts, self.idf) @ self.components
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(norms, 1e-12)
        return vectors


def fit(counts: Any, dimensions: int, eos: int, max_tokens: int, seed: int) -> TfIdf:
    """TF-IDF and its SVD, fitted on a sparse matrix of token counts (documents, vocabulary).

    Args:
        eos: a token that is in every document, and tells nothing.
    """
    present = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = (np.log((1 + counts.shape[0]) / (1 + present)) + 1).astype(np.float32)
    idf[eos] = 0
    matrix = weighted(counts, idf)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    squares = np.bincount(rows, matrix.data**2, minlength=matrix.shape[0])
    lengths = np.maximum(np.sqrt(squares), 1e-12).astype(np.float32)
    matrix.data /= np.repeat(lengths, np.diff(matrix.indptr))
    return TfIdf(idf, right_vectors(matrix, dimensions, seed), max_tokens)


def token_counts(
    tokens: np.ndarray, ends: np.ndarray, limit: int, vocab_size: int, rows: np.ndarray
) -> Any:
    """How often each token is among the first `limit` of these documents, (rows, vocabulary)."""
    from scipy import sparse

    lengths = np.minimum(np.diff(ends, prepend=0)[rows], limit)
    bits = int(vocab_size - 1).bit_length()
    wide = np.dtype(np.uint32 if len(rows) << bits <= 2**32 else np.uint64)
    bounds = np.arange(len(rows) + 1, dtype=np.uint64) << np.uint64(bits)
    pairs = np.repeat(bounds[:-1].astype(wide), lengths)
    pairs |= tokens[token_indices(ends, rows, limit)].astype(wide)
    pairs.sort()
    heads = np.flatnonzero(np.diff(pairs, prepend=~pairs[:1]))
    counts = np.diff(heads, append=len(pairs)).astype(np.float32)
    pairs = pairs[heads]
    pointers = np.searchsorted(pairs, bounds)
    indices = (pairs & wide.type((1 << bits) - 1)).astype(np.int32)
    return sparse.csr_array((counts, indices, pointers), shape=(len(rows), vocab_size))


def weighted(counts: Any, idf: np.ndarray) -> Any:
    """Counts -> (1 + log count) x idf."""
    from scipy import sparse

    if not counts.nnz:
        return counts
    logs = 1 + np.log(np.arange(1, int(counts.data.max()) + 1, dtype=np.float32))
    values = logs[counts.data.astype(np.int64) - 1] * idf[counts.indices]
    return sparse.csr_array((values, counts.indices, counts.indptr), shape=counts.shape)


def right_vectors(matrix: Any, count: int, seed: int) -> np.ndarray:
    """The right singular vectors (columns, count) of the largest singular values, largest first.

    LOBPCG on the Gram matrix, from a random sketch of the rows: after two iterations it holds more
    of the matrix than a randomised SVD after four, in the same time, and needs no scikit-learn,
    whose import takes longer than the SVD.
    """
    from scipy.linalg import LinAlgWarning
    from scipy.sparse.linalg import LinearOperator, lobpcg

    def gram(x: np.ndarray) -> np.ndarray:
        return np.asarray(matrix.T @ (matrix @ x))

    columns = matrix.shape[1]
    draws = np.random.default_rng(seed).standard_normal((matrix.shape[0], count), np.float32)
    # More threads only spin here (6 times the CPU time), and the result would depend on
    # their number.
    with one_blas_thread(), warnings.catch_warnings():
        # It warns that it could go on, and of matrices of low rank, which it solves all the same.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        start = np.linalg.qr(matrix.T @ draws)[0]
        operator = LinearOperator((columns, columns), gram, matmat=gram, dtype=np.float32)
        values, found = lobpcg(operator, start, largest=True, maxiter=ITERATIONS, tol=TOLERANCE)
    return np.ascontiguousarray(found[:, np.argsort(-values)], dtype=np.float32)


def _slices(ends: np.ndarray, limit: int) -> Iterator[np.ndarray]:
    """Row numbers, in order, of so many documents that TOKENS_AT_ONCE are looked at."""
    looked_at = np.cumsum(np.minimum(np.diff(ends, prepend=0), limit))
    cuts = np.flatnonzero(np.diff(looked_at // TOKENS_AT_ONCE)) + 1
    for low, high in pairwise([0, *cuts.tolist(), len(ends)]):
        yield np.arange(low, high)
