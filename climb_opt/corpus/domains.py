"""Stage `domains`: clusters -> domains. Count, prune, merge, split, describe; all in domains.json.

Everything here is small: a few numbers per cluster and a few sample documents per domain.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.describe import SAMPLES, excerpt, names_from, top_terms
from climb_opt.corpus.documents import Block, Document, read_block, read_rows, split_keys
from climb_opt.corpus.merge import MergeOptions, extremes, merge, threshold_table
from climb_opt.corpus.quality import Rule
from climb_opt.corpus.roles import TRAIN
from climb_opt.corpus.workspace import Stage, load_array, load_json, save_json
from climb_opt.errors import UserError

logger = logging.getLogger(__name__)

SAMPLED = 128  # documents of a domain that its terms are taken from
LEAST_HELD_OUT = 8  # documents, where a domain has twice as many
LARGE_SHARE = 0.5  # of all documents in one domain: worth a warning


@dataclass(frozen=True)
class SplitOptions:
    """How much of every domain is held out: a share of its documents, up to so many tokens."""

    share: float = 0.02
    most_tokens: int = 2_000_000


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
    """Per cluster (K,): documents, tokens, bytes of text, sum of each score."""

    documents: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    scores: Mapping[str, np.ndarray]

    def means(self, cluster: int) -> dict[str, float]:
        """Mean scores of a cluster's documents."""
        count = max(1, int(self.documents[cluster]))
        return {name: float(total[cluster] / count) for name, total in self.scores.items()}


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
    for block in stages.blocks:
        rows, cluster = trained_on(stages, block)
        lengths = load_array(stages.tokens.file(f"{block.name}.lengths.npy"))[rows]
        sizes = read_rows(stages.documents.path, block.name)["bytes"][rows]
        for total, weights in zip(totals, (None, lengths, sizes), strict=True):
            total += np.bincount(cluster, weights, minlength=clusters)
        for name, stage in stages.scores.items():
            values = load_array(stage.file(f"{block.name}.npy"))[rows]
            scores[name] += np.bincount(cluster, values, minlength=clusters)
    documents, tokens, size = totals.astype(np.int64)
    return Statistics(documents, tokens, size, scores)


def removed_clusters(found: Statistics, rule: Rule | None) -> dict[int, str]:
    """Non-empty clusters that the rule drops, with the reason."""
    if rule is None:
        return {}
    reasons = {
        int(c): rule.reason(found.means(int(c))) for c in np.flatnonzero(found.documents > 0)
    }
    return {c: reason for c, reason in reasons.items() if reason is not None}


def make_domains(
    stage: Stage,
    stages: Stages,
    centroids: np.ndarray | None,
    labels: Sequence[str] | None,
    options: MergeOptions,
    domains: int,
    split: SplitOptions,
    rule: Rule | None,
    seed: int,
) -> dict[str, Any]:
    """Decide the domains.

    Args:
        centroids: (K, dimensions), or None where the input brings its own clusters and they are
            not to be merged.
        labels: names of the clusters, where the input brings them.

    Returns:
        What domains.json holds: `domains` (name, terms, clusters, counts, held-out threshold,
        samples, quality), `of_cluster` (domain of each cluster, -1 for none), `removed`,
        `thresholds` (Ward distance -> count), `sizes` (extremes of the clusters).
    """
    make = partial(_make, stages, centroids, labels, options, domains, split, rule, seed)
    found: dict[str, Any] = load_json(stage.once("domains.json", make))
    return found


def _make(
    stages: Stages,
    centroids: np.ndarray | None,
    labels: Sequence[str] | None,
    options: MergeOptions,
    domains: int,
    split: SplitOptions,
    rule: Rule | None,
    seed: int,
    path: Path,
) -> None:
    count = len(labels) if labels is not None else len(_need(centroids))
    found = statistics(stages, count)
    removed = removed_clusters(found, rule)
    kept = np.array([c for c in np.flatnonzero(found.documents > 0) if c not in removed], int)
    if len(kept) < 2:
        raise UserError(
            f"{len(kept)} of {count} clusters are left after pruning; a mixture needs at least "
            "two domains. Lower the thresholds; --dry-run shows what they would remove."
        )
    merged = np.arange(len(kept))
    if centroids is not None:
        merged = merge(centroids[kept], options, domains)
    of_cluster = np.full(count, -1, dtype=np.int64)
    of_cluster[kept] = _by_size(merged, found.tokens[kept])
    sizes = extremes(found.documents)
    _warn(sizes, found, of_cluster)
    smallest = _smallest_keys(stages, of_cluster, seed)
    facts = _describe(stages, found, of_cluster, labels, smallest, split)
    thresholds = {} if centroids is None else threshold_table(centroids[kept])
    gone = [
        {
            "cluster": c,
            "reason": reason,
            "documents": int(found.documents[c]),
            "tokens": int(found.tokens[c]),
        }
        for c, reason in sorted(removed.items())
    ]
    data = {"domains": facts, "of_cluster": of_cluster.tolist(), "removed": gone}
    save_json(path, {**data, "thresholds": thresholds, "sizes": sizes, "split": asdict(split)})


def _need(centroids: np.ndarray | None) -> np.ndarray:
    assert centroids is not None  # one of labels and centroids is given
    return centroids


def _by_size(merged: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Domains renumbered so that the largest is the first."""
    totals = np.bincount(merged, tokens)
    rank = np.empty(len(totals), dtype=np.int64)
    rank[np.argsort(-totals, kind="stable")] = np.arange(len(totals))
    ranked: np.ndarray = rank[merged]
    return ranked


def _warn(sizes: Mapping[str, float], found: Statistics, of_cluster: np.ndarray) -> None:
    logger.info(
        "Clusters: smallest %d documents, median %.0f, largest %d; %d empty ones dropped.",
        sizes["smallest"],
        sizes["median"],
        sizes["largest"],
        sizes["empty"],
    )
    kept = of_cluster >= 0
    totals = np.bincount(of_cluster[kept], found.documents[kept])
    if totals.max() > LARGE_SHARE * totals.sum():
        logger.warning(
            "One domain holds %.0f %% of the documents; more clusters or domains may help.",
            100 * totals.max() / totals.sum(),
        )


def _smallest_keys(
    stages: Stages, of_cluster: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each domain the SAMPLED smallest split keys, ascending, and the documents' numbers."""
    domains = int(of_cluster.max()) + 1
    kept = [(np.zeros(0, np.uint64), np.zeros(0, np.int64)) for _ in range(domains)]
    for block in stages.blocks:
        rows, cluster = trained_on(stages, block)
        domain = of_cluster[cluster]
        keys = split_keys(np.asarray(read_rows(stages.documents.path, block.name)), seed)[rows]
        for index in np.unique(domain[domain >= 0]):
            mine = domain == index
            keys_now = np.concatenate([kept[index][0], keys[mine]])
            numbers = np.concatenate([kept[index][1], rows[mine] + block.start])
            order = np.argsort(keys_now, kind="stable")[:SAMPLED]
            kept[index] = keys_now[order], numbers[order]
    return kept


def _describe(
    stages: Stages,
    found: Statistics,
    of_cluster: np.ndarray,
    labels: Sequence[str] | None,
    smallest: Sequence[tuple[np.ndarray, np.ndarray]],
    split: SplitOptions,
) -> list[dict[str, Any]]:
    samples = _read_samples(stages, [numbers for _, numbers in smallest])
    terms = top_terms(samples)
    names = names_from(terms)
    facts = []
    for index, (keys, _) in enumerate(smallest):
        clusters = [int(c) for c in np.flatnonzero(of_cluster == index)]
        named = labels is not None and len(clusters) == 1 and not labels[clusters[0]].isdigit()
        documents, tokens = found.documents[clusters].sum(), found.tokens[clusters].sum()
        quality = {n: float(t[clusters].sum() / documents) for n, t in found.scores.items()}
        facts.append(
            {
                "name": labels[clusters[0]] if labels is not None and named else names[index],
                "terms": terms[index],
                "clusters": [c if labels is None else labels[c] for c in clusters],
                "documents": int(documents),
                "tokens": int(tokens),
                "bytes": int(found.bytes[clusters].sum()),
                "quality": quality,
                "samples": [excerpt(d) for d in samples[index][-SAMPLES:]],
                "held_out_below": _threshold(int(documents), int(tokens), keys, split),
            }
        )
    return facts


def _threshold(documents: int, tokens: int, keys: np.ndarray, split: SplitOptions) -> int:
    """Documents whose split key is below this are held out."""
    if split.share <= 0 or documents < 2:
        return 0
    share = min(split.share, split.most_tokens / max(1, tokens))
    least = min(LEAST_HELD_OUT, documents // 2)
    return max(int(share * 2**64), int(keys[least - 1]) + 1)


def _read_samples(stages: Stages, numbers: Sequence[np.ndarray]) -> list[list[Document]]:
    wanted = {int(n): d for d, some in enumerate(numbers) for n in some}
    found: list[list[Document]] = [[] for _ in numbers]
    for block in stages.blocks:
        mine = [n for n in wanted if block.start <= n < block.start + block.documents]
        if mine:
            rows = {n - block.start for n in mine}
            for row, document in enumerate(read_block(stages.documents.path, block.name)):
                if row in rows:
                    found[wanted[row + block.start]].append(document)
    return found
