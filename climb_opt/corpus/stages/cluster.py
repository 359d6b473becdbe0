"""Stages `centroids` and `clusters`: k-means on a sample, then every document's nearest centroid.

faiss on a GPU, faiss on the CPU, or scikit-learn, whichever is there, in this order; the one used
is logged and recorded. Centroids are left as k-means made them, not re-normalised, as NeMo
Curator's are (docs/notes/corpus.md#curators-layout).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, Pool, sample_rows
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.embed import informative, read_embeddings
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.extras import need
from climb_opt.files import save_array

logger = logging.getLogger(__name__)

BACKENDS = ("faiss-gpu", "faiss", "sklearn")  # of k-means, in the order of "auto"

# Of the default number of clusters. 40 make no worse domains, but pruning by score then leaves more
# of what should go; 5 iterations instead of 10 remove more of what should stay. This and what
# follows on the development pack: docs/notes/corpus.md#known-kinds.
DOCUMENTS_A_CLUSTER = 20
MOST_CLUSTERS = 1000  # Section 4.1: K_init
# k-means is fitted on so many documents a cluster, and on no fewer than FIT_POINTS. faiss warns of
# fewer than 39 a cluster; its own default of 256 takes six times the memory and time. Share of
# documents of their cluster's main source (400 clusters, 8 runs): .9862 at 40 a cluster, .9869 at
# 64, .9873 at 82; no difference in the domains.
POINTS_A_CLUSTER = 40
FIT_POINTS = 32_768
ROWS_AT_ONCE = 65_536  # of a distance computation


@dataclass(frozen=True)
class ClusterOptions:
    """How the fine clusters are found.

    Attributes:
        clusters: K_init; None: a twentieth of the documents, at most 1000.
        iterations: of k-means; 20 found no better clusters (docs/notes/corpus.md#known-kinds).
        fit_points: documents k-means is fitted on; None: 40 per cluster, at least 32,768.
        backend: "auto", "faiss-gpu", "faiss" or "sklearn".
    """

    clusters: int | None = None
    iterations: int = 10
    fit_points: int | None = None
    backend: str = CorpusRecipe.kmeans


def check(options: ClusterOptions) -> None:
    """Raise a `UserError` for options that no corpus can be clustered with here."""
    if options.backend != "auto":
        choose_backend(options.backend)
    if options.clusters is not None:
        number_of_points(options, options.clusters)


def number_of_clusters(options: ClusterOptions, documents: int, domains: int) -> int:
    """K_init for so many documents.

    Raises:
        UserError: more clusters or domains than documents.
    """
    if documents < domains:
        raise UserError(
            f"{documents} documents are fewer than {domains} domains; "
            "give more documents or a smaller --domains."
        )
    if options.clusters is None:
        wanted = min(MOST_CLUSTERS, documents // DOCUMENTS_A_CLUSTER)
        return min(documents, max(wanted, 2 * domains))
    if options.clusters > documents:
        raise UserError(
            f"--clusters {options.clusters} is more than the {documents} documents; "
            "lower it or leave it out."
        )
    return options.clusters


def number_of_points(options: ClusterOptions, clusters: int) -> int:
    """Documents to fit k-means on, if there are so many.

    Raises:
        UserError: fewer than clusters.
    """
    if options.fit_points is None:
        return max(clusters * POINTS_A_CLUSTER, FIT_POINTS)
    if options.fit_points < clusters:
        raise UserError(f"--fit-points {options.fit_points} is less than the {clusters} clusters.")
    return options.fit_points


@once("facts.json")
def fit_centroids(
    stage: Stage, embeddings: Stage, pool: Pool, clusters: int, options: ClusterOptions
) -> dict[str, Any]:
    """Write centroids.npy (clusters, dimensions) float32; returns how they were fitted."""
    count = number_of_points(options, clusters)
    points = _sampled_points(embeddings.path, sample_rows(pool, count))
    if len(points) < clusters:
        raise UserError(
            f"Only {len(points)} embeddings tell anything (the others are not numbers, zero or "
            f"constant), for {clusters} clusters. Check the encoder and the inputs."
        )
    backend = choose_backend(options.backend)
    logger.info("k-means: %d clusters on %d documents with %s.", clusters, len(points), backend)
    centroids = kmeans(points, clusters, options.iterations, pool.seed, backend)
    save_array(stage.file("centroids.npy"), centroids)
    return {"clusters": clusters, "fit_points": len(points), "backend": backend}


def _sampled_points(embeddings: Path, sample: Sequence[tuple[Block, np.ndarray]]) -> np.ndarray:
    """The embeddings of these rows that tell something (n, dimensions) float32, held once."""
    total = sum(len(rows) for _, rows in sample)
    points = np.zeros((total, read_embeddings(embeddings, sample[0][0]).shape[1]), np.float32)
    filled = 0
    for block, rows in sample:
        some = np.asarray(read_embeddings(embeddings, block)[rows])
        some = some[informative(some)]
        points[filled : filled + len(some)] = some
        filled += len(some)
    return points[:filled]


def choose_backend(wanted: str) -> str:
    """The back end to use: "faiss-gpu", "faiss" or "sklearn".

    Raises:
        UserError: the one asked for is not there.
    """
    faiss = _faiss()
    # faiss-cpu for Apple's chips sees their GPU, but cannot put an index on all GPUs.
    on_gpus = hasattr(faiss, "index_cpu_to_gpu_multiple") and faiss.get_num_gpus()
    usable = (on_gpus, faiss is not None, True)
    there = [name for name, ok in zip(BACKENDS, usable, strict=True) if ok]
    if wanted == "auto":
        return there[0]
    if wanted not in there:
        raise UserError(
            f"k-means back end {wanted!r} is not available here. Available: {', '.join(there)}."
        )
    return wanted


def _faiss() -> Any:
    try:
        import faiss
    except (ImportError, RuntimeError):  # faiss-gpu without its CUDA wheels raises RuntimeError
        return None
    # After `pip uninstall` of one of two faiss packages the import succeeds and is empty.
    return faiss if hasattr(faiss, "Kmeans") else None


def kmeans(
    points: np.ndarray, clusters: int, iterations: int, seed: int, backend: str
) -> np.ndarray:
    """Centroids (clusters, dimensions) float32 of points (n, dimensions) float32."""
    if backend == "sklearn":
        cluster = need("sklearn.cluster", "k-means")
        fitted = cluster.MiniBatchKMeans(
            clusters, batch_size=4096, max_iter=iterations, n_init=1, random_state=seed
        ).fit(points)
        return np.asarray(fitted.cluster_centers_, dtype=np.float32)
    # All points are used, however many (faiss would take a sample, or warn of too few).
    fitted = _faiss().Kmeans(
        points.shape[1],
        clusters,
        niter=iterations,
        seed=seed,
        gpu=backend == "faiss-gpu",
        min_points_per_centroid=1,
        max_points_per_centroid=max(1, -(-len(points) // clusters)),
    )
    fitted.train(points)
    return np.asarray(fitted.centroids, dtype=np.float32)


def assign_clusters(
    stage: Stage, embeddings: Stage, centroids: Path, blocks: Sequence[Block], backend: str
) -> None:
    """Write `<block>.npy`: int32 nearest centroid, -1 where the embedding tells nothing."""
    task = partial(_assign_block, embeddings.path, centroids, backend)
    stage.over(blocks, task, marker=".npy", how=How(gpu=backend == "faiss-gpu"))


@lru_cache(maxsize=1)  # of a process that does block after block
def _assigner(centroids: Path, backend: str) -> Callable[[np.ndarray], np.ndarray]:
    return nearest_centroids(np.load(centroids), backend)


def nearest_centroids(centroids: np.ndarray, backend: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of points (n, dimensions) float32 that returns their nearest centroids (n,)."""
    faiss = _faiss()
    if backend == "sklearn" or faiss is None:
        metrics = need("sklearn.metrics", "Assigning clusters")
        return lambda points: np.asarray(metrics.pairwise_distances_argmin(points, centroids))
    index = faiss.IndexFlatL2(centroids.shape[1])
    if backend == "faiss-gpu":
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(centroids)
    return lambda points: np.asarray(index.search(points, 1)[1][:, 0])


def _assign_block(
    embeddings: Path, centroids: Path, backend: str, block: Block, advance: Advance
) -> np.ndarray:
    nearest = _assigner(centroids, backend)
    vectors = read_embeddings(embeddings, block)
    found = np.full(block.documents, -1, dtype=np.int32)
    for low in range(0, len(vectors), ROWS_AT_ONCE):
        points = np.asarray(vectors[low : low + ROWS_AT_ONCE], dtype=np.float32)
        telling = informative(points)
        if telling.any():
            part = np.ascontiguousarray(points[telling])
            found[low : low + ROWS_AT_ONCE][telling] = nearest(part)
        advance(len(points))
    return found
