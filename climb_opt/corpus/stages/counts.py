"""Passes over the blocks that end in a few numbers per cluster or domain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from climb_opt.corpus.documents import Block, read_rows, split_keys
from climb_opt.corpus.files import load_array
from climb_opt.corpus.run.workspace import Stage
from climb_opt.corpus.stages.embed import informative, read_embeddings
from climb_opt.corpus.stages.roles import TRAIN

LONGEST_HELD_OUT = 250_000  # tokens; a longer document would be its domain's held-out part alone
NEVER = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Stages:
    """The finished stages that the domains are made from."""

    documents: Stage
    tokens: Stage
    roles: Stage
    clusters: Stage
    scores: Mapping[str, Stage]
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Statistics:
    """Per cluster (K,): documents, tokens, bytes of text; of each score the sum, and the number of
    documents that have one."""

    documents: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    scores: Mapping[str, np.ndarray]
    scored: Mapping[str, np.ndarray]
    unclustered: int = 0  # documents to train on that are in no cluster

    def means(self, clusters: int | Sequence[int]) -> dict[str, float]:
        """Mean scores of the documents of one or several clusters; NaN where none has a score."""
        held = {name: int(scored[clusters].sum()) for name, scored in self.scored.items()}
        sums = {name: total[clusters].sum() for name, total in self.scores.items()}
        return {n: float(sums[n] / count) if count else math.nan for n, count in held.items()}

    def facts(self, cluster: int) -> dict[str, int]:
        """Size of a cluster."""
        return {"documents": int(self.documents[cluster]), "tokens": int(self.tokens[cluster])}


def trained_on(stages: Stages, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a block's documents that are trained on and clustered, and their clusters."""
    role = load_array(stages.roles.file(f"{block.name}.role.npy"), mapped=False)
    cluster = load_array(stages.clusters.file(f"{block.name}.npy"), mapped=False)
    rows = np.flatnonzero((role == TRAIN) & (cluster >= 0))
    return rows, cluster[rows]


def statistics(stages: Stages, clusters: int) -> Statistics:
    """What each cluster holds."""
    totals = np.zeros((3, clusters), dtype=np.float64)
    scores = {name: np.zeros(clusters) for name in stages.scores}
    scored = {name: np.zeros(clusters, dtype=np.int64) for name in stages.scores}
    to_train = 0
    for block in stages.blocks:
        rows, cluster = trained_on(stages, block)
        role = load_array(stages.roles.file(f"{block.name}.role.npy"))
        to_train += int((np.asarray(role) == TRAIN).sum())
        lengths = load_array(stages.tokens.file(f"{block.name}.lengths.npy"))[rows]
        sizes = read_rows(stages.documents.path, block.name)["bytes"][rows]
        for total, weights in zip(totals, (None, lengths, sizes), strict=True):
            total += np.bincount(cluster, weights, minlength=clusters)
        for name, stage in stages.scores.items():
            values = load_array(stage.file(f"{block.name}.npy"))[rows]
            scores[name] += np.bincount(cluster, np.nan_to_num(values), minlength=clusters)
            scored[name] += np.bincount(cluster[~np.isnan(values)], minlength=clusters)
    documents, tokens, size = totals.astype(np.int64)
    return Statistics(documents, tokens, size, scores, scored, to_train - int(documents.sum()))


def cluster_means(stages: Stages, embeddings: Stage, clusters: int) -> np.ndarray:
    """The mean of each cluster's embeddings that tell something, (clusters, dimensions)."""
    total: np.ndarray | None = None
    documents = np.zeros(clusters)
    for block in stages.blocks:
        rows, cluster = trained_on(stages, block)
        vectors = np.asarray(read_embeddings(embeddings.path, block)[rows], np.float64)
        telling = informative(vectors)
        vectors, cluster = vectors[telling], cluster[telling]
        total = np.zeros((clusters, vectors.shape[1])) if total is None else total
        np.add.at(total, cluster, vectors)
        documents += np.bincount(cluster, minlength=clusters)
    assert total is not None  # there is at least one block
    return total / np.maximum(documents, 1)[:, None]


def held_out_keys(stages: Stages, block: Block, rows: np.ndarray, seed: int) -> np.ndarray:
    """Split keys of these documents; the largest possible for those too long to be held out."""
    keys = split_keys(np.asarray(read_rows(stages.documents.path, block.name)), seed)[rows]
    lengths = load_array(stages.tokens.file(f"{block.name}.lengths.npy"))[rows]
    keys[np.asarray(lengths) > LONGEST_HELD_OUT] = NEVER
    return keys


def smallest_keys(
    stages: Stages, of_cluster: np.ndarray, seed: int, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each domain the `count` smallest split keys, ascending, and the documents' numbers."""
    domains = int(of_cluster.max()) + 1
    kept = [(np.zeros(0, np.uint64), np.zeros(0, np.int64)) for _ in range(domains)]
    for block in stages.blocks:
        rows, cluster = trained_on(stages, block)
        domain = of_cluster[cluster]
        keys = held_out_keys(stages, block, rows, seed)
        for index in np.unique(domain[domain >= 0]):
            mine = domain == index
            keys_now = np.concatenate([kept[index][0], keys[mine]])
            numbers = np.concatenate([kept[index][1], rows[mine] + block.start])
            order = np.argsort(keys_now, kind="stable")[:count]
            kept[index] = keys_now[order], numbers[order]
    return kept
