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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from climb_opt.corpus.documents import Block
from climb_opt.corpus.files import load_array
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.sample import Pool, sample_rows
from climb_opt.corpus.stages.tfidf import TfIdf, fit, token_counts
from climb_opt.corpus.stages.tokenise import TokenFacts, read_tokens
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError

logger = logging.getLogger(__name__)

TFIDF = "tfidf"
PRECISIONS = ("auto", "bf16", "fp32")  # of a model


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


@once("tfidf.npz")
def fit_tfidf(
    stage: Stage,
    tokens: Stage,
    pool: Pool,
    facts: TokenFacts,
    options: EmbedOptions,
) -> dict[str, np.ndarray]:
    """TF-IDF and its SVD, fitted on a sample: `idf` and `components` (see `TfIdf`)."""
    from scipy import sparse

    parts = []
    limit = _limit(options)
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


def fitted_tfidf(model: Mapping[str, np.ndarray], options: EmbedOptions) -> TfIdf:
    """The encoder of what `fit_tfidf` found."""
    return TfIdf(model["idf"], model["components"], _limit(options))


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


def _limit(options: EmbedOptions) -> int:
    return options.max_tokens or 1000
