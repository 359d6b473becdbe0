"""Stage `domains`: clusters -> domains. Count, prune, merge, split, describe; all in domains.json.

Everything here is small: a few numbers per cluster and a few sample documents per domain.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Document, read_block
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.counts import NEVER, Stages, Statistics, smallest_keys, statistics
from climb_opt.corpus.stages.describe import LOOKED_AT, SAMPLES, excerpt, names_from, top_terms
from climb_opt.corpus.stages.ingest import MAX_BAD
from climb_opt.corpus.stages.merge import MergeOptions, extremes, merge, threshold_table, ward_tree
from climb_opt.corpus.stages.pruning import Rule
from climb_opt.corpus_recipe import LEAST_HELD_OUT, CorpusRecipe
from climb_opt.errors import UserError

logger = logging.getLogger(__name__)

SAMPLED = 128  # documents of a domain that its terms are taken from
MOST_LOST = 3  # domains without documents that an error names
LARGE_SHARE = 0.5  # of all documents in one domain: worth a warning


@dataclass(frozen=True)
class SplitOptions:
    """How much of every domain is held out: a share of its documents, up to so many tokens."""

    share: float = CorpusRecipe.heldout
    most_tokens: int = CorpusRecipe.heldout_tokens


def removed_clusters(found: Statistics, rule: Rule | None) -> dict[int, str]:
    """Non-empty clusters that the rule drops, with the reason."""
    if rule is None:
        return {}
    filled = np.flatnonzero(found.documents > 0).tolist()
    reasons = {c: rule.reason(found.means(c)) for c in filled}
    return {c: reason for c, reason in reasons.items() if reason is not None}


@dataclass(frozen=True)
class Given:
    """What the decision starts from.

    Attributes:
        centroids: (K, dimensions), or None where given clusters are not to be merged.
        names: of the K clusters, where the input brings them.
        domains: the number to merge into, where no distance is given.
        unread: how many domains that the input names hold no document at all.
        lost: a line for each domain that it names and no document is left of, those included.
    """

    centroids: np.ndarray | None
    names: Sequence[str] | None
    domains: int
    unread: int = 0
    lost: Sequence[str] = ()

    @property
    def clusters(self) -> int:
        """K, empty clusters included."""
        assert self.names is not None or self.centroids is not None
        return len(self.names) if self.names is not None else len(self.centroids)  # type: ignore


@once("domains.json")
def make_domains(
    stage: Stage,
    stages: Stages,
    given: Given,
    options: MergeOptions,
    split: SplitOptions,
    rule: Rule | None,
    seed: int,
) -> dict[str, Any]:
    """Decide the domains.

    Returns:
        What domains.json holds: `domains` (name, terms, clusters, counts, held-out threshold,
        samples, quality), `of_cluster` (domain of each cluster, -1 for none), `removed`,
        `thresholds` (Ward distance -> count), `sizes` (extremes of the clusters), `fewer` (why
        there are fewer domains than wanted, or None).
    """
    found = statistics(stages, given.clusters)
    removed = removed_clusters(found, rule)
    kept = np.array([c for c in np.flatnonzero(found.documents > 0) if c not in removed], int)
    documents = np.append(found.documents, np.zeros(given.unread, np.int64))
    lost = _lost(documents, removed)
    if len(kept) < 2:
        raise UserError(_too_few(len(kept), given, lost, rule))
    merged, thresholds = np.arange(len(kept)), {}
    if given.centroids is not None:
        tree = ward_tree(given.centroids[kept])
        merged = merge(tree, options, given.domains)
        thresholds = threshold_table(tree)
    of_cluster = np.full(given.clusters, -1, dtype=np.int64)
    of_cluster[kept] = _by_size(merged, found.tokens[kept])
    sizes = extremes(documents)
    _warn(sizes, given, found, of_cluster)
    _check_unclustered(found)
    smallest = smallest_keys(stages, of_cluster, seed, SAMPLED)
    facts = _describe(stages, found, of_cluster, given.names, smallest, split)
    gone = [{"cluster": c, "reason": r, **found.facts(c)} for c, r in sorted(removed.items())]
    data = {"domains": facts, "of_cluster": of_cluster.tolist(), "removed": gone}
    more = {"thresholds": thresholds, "sizes": sizes, "unclustered": found.unclustered}
    fewer = None
    if given.centroids is not None and options.distance is None and len(facts) < given.domains:
        fewer = _fewer(len(facts), given, options, lost)
    return {**data, **more, "fewer": fewer}


def _lost(documents: np.ndarray, removed: Mapping[int, str]) -> str:
    """Clusters that give no domain, in parentheses, if there are any."""
    empty = int((documents == 0).sum())
    lost = [f"{empty} hold no documents"] * (empty > 0) + [f"{len(removed)} pruned"] * bool(removed)
    return f" ({', '.join(lost)})" if lost else ""


def _too_few(left: int, given: Given, lost: str, rule: Rule | None) -> str:
    named = given.names is not None
    things = "domains" if named else "clusters"
    why = "".join(f" {line[0].upper()}{line[1:]}." for line in given.lost[:MOST_LOST])
    more = len(given.lost) - MOST_LOST
    why += f" {more} more have none." if more > 0 else ""
    remedy = "the inputs" if named else "the inputs and the encoder"
    pruning = "" if rule is None else ", or lower the thresholds of --prune (see --dry-run)"
    return (
        f"{left} of {given.clusters + given.unread} {things} are left{lost}; a mixture needs at "
        f"least two domains.{why} Check {remedy}{pruning}."
    )


def _fewer(domains: int, given: Given, options: MergeOptions, lost: str) -> str:
    wanted = f"the {given.domains} asked for" if options.domains else f"{given.domains}"
    if given.names is not None:
        brought = given.clusters + given.unread
        return f"{domains} domains, not {wanted}: the inputs bring {brought}{lost}"
    return (
        f"{domains} domains, not {wanted}: there are {given.clusters} clusters{lost}. More "
        "clusters (--clusters), more different documents or another encoder may give more"
    )


def removable(stages: Stages, clusters: int, rule: Rule | None, seed: int) -> list[dict[str, Any]]:
    """The clusters that the rule would remove, the largest first, with sample documents."""
    found = statistics(stages, clusters)
    removed = removed_clusters(found, rule)
    order = sorted(removed, key=lambda c: -found.tokens[c])
    index = np.full(clusters, -1, dtype=np.int64)
    index[order] = np.arange(len(order))
    numbers = [n for _, n in smallest_keys(stages, index, seed, SAMPLES)] if order else []
    samples = [[excerpt(d) for d in some] for some in _read_samples(stages, numbers)]
    rows = zip(order, samples, strict=True)
    return [{"cluster": c, "reason": removed[c], **found.facts(c), "samples": s} for c, s in rows]


def _by_size(merged: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Domains renumbered so that the largest is the first."""
    order = np.argsort(-np.bincount(merged, tokens), kind="stable")
    return np.argsort(order)[merged]


def _check_unclustered(found: Statistics) -> None:
    """Documents that no cluster took: their embedding tells nothing, or they name no domain."""
    total = found.unclustered + int(found.documents.sum())
    if found.unclustered > MAX_BAD * total:
        raise UserError(
            f"{found.unclustered} of {total} documents have no cluster, more than a tenth: their "
            "embeddings tell nothing (not numbers, zero or constant), or they name no domain. "
            "Check the encoder and the inputs."
        )
    if found.unclustered:
        logger.warning(
            "%d documents are in no cluster and left out: their embeddings tell nothing, or they "
            "name no domain.",
            found.unclustered,
        )


def _warn(
    sizes: Mapping[str, float], given: Given, found: Statistics, of_cluster: np.ndarray
) -> None:
    logger.info(
        "%s: smallest %d documents, median %.0f, largest %d; %d empty ones dropped.",
        "Clusters" if given.names is None else "Domains of the inputs",
        *(sizes[name] for name in ("smallest", "median", "largest", "empty")),
    )
    kept = of_cluster >= 0
    totals = np.bincount(of_cluster[kept], found.documents[kept])
    if totals.max() > LARGE_SHARE * totals.sum():
        logger.warning(
            "One domain holds %.0f %% of the documents; more clusters or domains may help.",
            100 * totals.max() / totals.sum(),
        )


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
    parts = [[int(c) for c in np.flatnonzero(of_cluster == i)] for i in range(len(smallest))]
    brought = [_label_of(clusters, labels) for clusters in parts]
    names = names_from(terms, {name for name in brought if name is not None})
    facts = []
    for index, (keys, _) in enumerate(smallest):
        clusters = parts[index]
        documents, tokens = found.documents[clusters].sum(), found.tokens[clusters].sum()
        facts.append(
            {
                "name": brought[index] or names[index],
                "terms": terms[index],
                "clusters": [c if labels is None else labels[c] for c in clusters],
                "documents": int(documents),
                "tokens": int(tokens),
                "bytes": int(found.bytes[clusters].sum()),
                "quality": {n: m for n, m in found.means(clusters).items() if m == m},  # not NaN
                "samples": [excerpt(d) for d in samples[index][-SAMPLES:]],
                "held_out_below": _threshold(int(documents), int(tokens), keys, split),
            }
        )
    return facts


def _label_of(clusters: Sequence[int], labels: Sequence[str] | None) -> str | None:
    """The name that the input gave a domain; a number is none."""
    if labels is None or len(clusters) != 1 or labels[clusters[0]].isdigit():
        return None
    return labels[clusters[0]] or None


def _threshold(documents: int, tokens: int, keys: np.ndarray, split: SplitOptions) -> int:
    """Documents whose split key is below this are held out."""
    if split.share <= 0 or documents < 2:
        return 0
    share = min(split.share, split.most_tokens / max(1, tokens))
    least = min(LEAST_HELD_OUT, documents // 2, int((keys < NEVER).sum()))
    return max(int(share * 2**64), int(keys[least - 1]) + 1 if least else 0)


def _read_samples(stages: Stages, numbers: Sequence[np.ndarray]) -> list[list[Document]]:
    """The documents of these numbers, in the order of the corpus: their beginnings."""
    wanted = np.concatenate([np.zeros(0, np.int64), *numbers])
    owner = np.repeat(np.arange(len(numbers)), [len(some) for some in numbers])
    order = np.argsort(wanted)
    wanted, owner = wanted[order], owner[order]
    found: list[list[Document]] = [[] for _ in numbers]
    for block in stages.blocks:
        low, high = np.searchsorted(wanted, [block.start, block.start + block.documents])
        if high > low:
            keep = np.zeros(block.documents, dtype=bool)
            keep[wanted[low:high] - block.start] = True
            some = read_block(stages.documents.path, block.name, keep)
            for index, document in zip(owner[low:high].tolist(), some, strict=True):
                found[index].append(Document(document.id, document.text[:LOOKED_AT]))
    return found
