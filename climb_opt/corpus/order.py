"""The stages of a build in their order.

    documents -> exact -> targets -> tokenizer -> tokens -> (sketches -> near) -> roles
              -> (encoder) -> embeddings -> centroids -> clusters -> (scores) -> domains -> shards

Every stage's folder below `work/` is named by what it depends on (run/workspace.py), so a changed
option redoes only what follows from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import DOMAIN_FIELD, FORMAT, Block, Pool, is_unread, sample_texts
from climb_opt.corpus.files import load_array
from climb_opt.corpus.options import DEFAULT_DOMAINS, Plan
from climb_opt.corpus.read.once import refuse_alike
from climb_opt.corpus.run.workspace import Stage, Workspace
from climb_opt.corpus.stages import (
    bpe,
    cluster,
    counts,
    describe,
    domains,
    embed,
    exact,
    labels,
    lost,
    near,
    roles,
    scores,
    sketches,
    tokenise,
)
from climb_opt.corpus.stages.ingest import forget_unread, ingest
from climb_opt.errors import UserError, listed
from climb_opt.tokenizer import load_tokenizer, save_tokenizer

logger = logging.getLogger(__name__)

MOST_NAMED = 10_000  # domains that a field names: of more it is an id, an address or a date
EXAMPLES = 3


class Build:
    """The stages of one build, done one after the other; each method does those of its name."""

    def __init__(self, plan: Plan, workspace: Workspace) -> None:
        self.plan = plan
        self.workspace = workspace
        self.seed = plan.options.seed
        self.fitted: dict[str, Any] | None = None  # how k-means was fitted
        self.given: list[str] | None = None  # names of clusters that the input brings
        self.lost: list[str] = []  # lines: domains that it names and no document is left of
        merge = plan.options.merge
        self._wanted_domains = merge.domains or DEFAULT_DOMAINS
        self._merges_given = merge.domains is not None or merge.distance is not None

    def prepare(self, *, retry: bool = False) -> counts.Stages:
        """Every stage before the decision how clusters become domains.

        Args:
            retry: read again what could not be read; what it changes is done again.
        """
        self._read(retry)
        clusters = self._named() if self.plan.clustered else None
        self._tokenise()
        self._roles()
        if clusters is None or self._merges_given:
            self._embed()
        return self._score(self._cluster() if clusters is None else clusters)

    def decide(self, stages: counts.Stages) -> dict[str, Any]:
        """Domains from clusters: see `domains.make_domains`."""
        options = self.plan.options
        self.centres = self._centres(stages)
        stage = self.workspace.stage(
            "domains",
            *(stages.clusters, *stages.scores.values(), self.tokens, self.roles),
            asdict(options.merge),
            asdict(options.split),
            [options.prune, self.seed, counts.LONGEST_HELD_OUT],
            [domains.SAMPLED, describe.LOOKED_AT],
        )
        unread = self.inventory.unread
        if self.given is not None:
            self.lost = lost.lost_domains(stages, self.given, unread)
        for line in self.lost:
            logger.warning("%s.", line)
        given = domains.Given(
            self.centres, self.given, self._wanted_domains, len(unread), self.lost
        )
        found: dict[str, Any] = domains.make_domains(
            stage, stages, given, options.merge, options.split, self.plan.rule, self.seed
        )
        if found.get("fewer"):
            logger.warning("%s.", found["fewer"])
        self.labelled = self._against_labels(stages, found) if options.label_field else None
        return found

    @property
    def clusters_count(self) -> int:
        """How many clusters there are, empty ones included."""
        return len(self.given) if self.given is not None else int((self.fitted or {})["clusters"])

    # --- documents ----------------------------------------------------------------------------

    def _read(self, retry: bool) -> None:
        plan, seed = self.plan, self.seed
        facts = [asdict(s) for s in plan.sources]
        self.documents = self.workspace.stage("documents", FORMAT, facts, asdict(plan.read))
        if retry:
            forget_unread(self.documents)
        self.inventory = ingest(self.documents, plan.sources, plan.read, plan.wanted)
        self.blocks: tuple[Block, ...] = self.inventory.blocks
        if is_unread(self.inventory.damaged, self.inventory.bad):
            self.documents = self.documents.holding([asdict(b) for b in self.blocks])
        for line in self.inventory.lines():
            logger.warning("%s", line)
        logger.info("%d documents read.", self.inventory.documents)
        self.exact = self.workspace.stage("exact", self.documents)
        self.copies = exact.find_exact(self.exact, self.documents, self.blocks)
        if self.copies["repeated_ids"]:
            logger.warning(
                "%d documents repeat an earlier id (e.g. documents %s); they are kept.",
                self.copies["repeated_ids"],
                ", ".join(map(str, self.copies["examples"])),
            )
        targets = [asdict(t) for t in plan.targets]
        self.chosen = self.workspace.stage("targets", self.documents, targets, seed)
        roles.choose_targets(self.chosen, self.documents, self.blocks, plan.targets, seed)

    def _roles(self) -> None:
        plan, threshold = self.plan, self.plan.options.near_duplicates
        links = {roles.COPY: self.exact.file("links.npy")}
        upstream: list[Any] = [self.exact, self.chosen]
        if threshold is not None:
            sketched = self.workspace.stage("sketches", self.tokens)
            sketches.sketch(sketched, self.tokens, self.blocks, self.facts.dtype)
            alike = self.workspace.stage("near", sketched, threshold, near.COUNTED)
            similar = near.Similarity(self.tokens.path, self.blocks, self.facts)
            near.find_near(alike, sketched, self.exact, self.blocks, similar, threshold)
            links[roles.NEAR] = alike.file("links.npy")
            upstream.append(alike)
        self.roles = self.workspace.stage("roles", *upstream)
        found = roles.assign_roles(self.roles, self.blocks, links, self.chosen, plan.targets)
        self.counts = {int(role): count for role, count in found.items()}
        logger.info(
            "Dropped %d copies, %d near-copies, %d near-copies of a target.",
            *(self.counts.get(r, 0) for r in (roles.COPY, roles.NEAR, roles.NEAR_TARGET)),
        )

    def _first(self, block: Block) -> np.ndarray:
        """Documents that are no copy."""
        return load_array(self.exact.file(f"{block.name}.first.npy"), mapped=False)

    def _may_train(self, block: Block) -> np.ndarray:
        """Documents that are no copy and not chosen for a target."""
        chosen = load_array(self.chosen.file(f"{block.name}.target.npy"), mapped=False)
        return self._first(block) & (chosen == 0)

    def _trained(self, block: Block) -> np.ndarray:
        """Documents that are trained on."""
        role = load_array(self.roles.file(f"{block.name}.role.npy"), mapped=False)
        return role == roles.TRAIN

    # --- tokens -------------------------------------------------------------------------------

    def _tokenise(self) -> None:
        options = self.plan.options.tokens
        upstream: tuple[Any, ...] = (tokenise.identity(options),)
        if options.tokenizer is None:
            upstream = (asdict(options), self.exact, self.chosen, self.seed)
        stage = self.workspace.stage("tokenizer", *upstream)
        self.tokenizer_file = stage.once("tokenizer.json", self._make_tokenizer)
        loaded = load_tokenizer(str(self.tokenizer_file))
        self.end = tokenise.end_of(options, loaded)
        self.facts = tokenise.facts_of(loaded, self.end)
        asked = tokenise.eos_asked(options, loaded, self.end)
        self.tokens = self.workspace.stage("tokens", stage, self.exact, asked)
        tokenise.tokenise(
            self.tokens, self.documents, self.blocks, self.exact, self.tokenizer_file, self.facts
        )

    def _make_tokenizer(self, path: Path) -> None:
        options = self.plan.options.tokens
        if options.tokenizer is not None:
            made = load_tokenizer(options.tokenizer)
        else:
            pool = Pool(self.blocks, self._may_train, self.seed)
            texts = sample_texts(self.documents.path, pool, options.train_bytes, tokenise.PIECE)
            with self.workspace.bar("tokenizer", None) as bar:
                made = bpe.train_tokenizer(_counted(texts, bar), options.vocab_size, bar.refresh)
        save_tokenizer(made, path)

    # --- clusters -----------------------------------------------------------------------------

    def _named(self) -> Stage:
        """The domains that the inputs, or a field of their documents, name."""
        field = self.plan.options.domain_field
        told = [] if field is None else [field]
        clusters = self.workspace.stage("given", self.documents, *told)
        self.given = labels.read_labels(
            clusters, self.documents, self.blocks, DOMAIN_FIELD if field is None else field
        )
        if field is not None and len(self.given) > MOST_NAMED:
            examples = listed(map(repr, self.given), EXAMPLES)
            raise UserError(
                f"--domain-field {field}: the documents have {len(self.given):,} different values "
                f"({examples}), and {MOST_NAMED:,} domains are the most; name a field of fewer."
            )
        refuse_alike(self.given)
        return clusters

    def _embed(self) -> None:
        options = self.plan.options.embed
        if options.encoder != embed.TFIDF:
            from climb_opt.corpus.stages import sentences

            facts = sentences.identity(options)
            self.embeddings = self.workspace.stage("embeddings", self.exact, *facts)
            sentences.embed(self.embeddings, self.documents, self.exact, self.blocks, options)
            return
        upstream = (self.tokens, asdict(options), embed.ITERATIONS, self.seed)
        encoder = self.workspace.stage("encoder", *upstream)
        pool, dtype = Pool(self.blocks, self._first, self.seed), self.facts.dtype
        model = embed.fit_tfidf(encoder, self.tokens, pool, self.facts, options)
        self.embeddings = self.workspace.stage("embeddings", encoder)
        fitted = embed.TfIdf(**model, max_tokens=options.limit)
        embed.embed_tfidf(self.embeddings, fitted, self.tokens, self.blocks, dtype)

    def _cluster(self) -> Stage:
        options = self.plan.options.cluster
        documents = self.counts.get(roles.TRAIN, 0)
        count = cluster.number_of_clusters(options, documents, self._wanted_domains)
        points = cluster.number_of_points(options, count)
        upstream = (self.embeddings, self.roles, count, points, asdict(options), self.seed)
        self.centroids = self.workspace.stage("centroids", *upstream)
        pool = Pool(self.blocks, self._trained, self.seed)
        self.fitted = cluster.fit_centroids(self.centroids, self.embeddings, pool, count, options)
        clusters = self.workspace.stage("clusters", self.centroids)
        file, backend = self.centroids.file("centroids.npy"), self.fitted["backend"]
        cluster.assign_clusters(clusters, self.embeddings, file, self.blocks, backend)
        return clusters

    def _score(self, clusters: Stage) -> counts.Stages:
        found = {}
        for name, spec in self.plan.scorers.items():
            stage = self.workspace.stage(f"score-{name}", self.roles, scores.identity(spec))
            scores.score(stage, self.documents, self.blocks, self.roles, name, spec)
            found[name] = stage
        return counts.Stages(self.documents, self.tokens, self.roles, clusters, found, self.blocks)

    def _centres(self, stages: counts.Stages) -> np.ndarray | None:
        """Centroids to merge by; of given clusters, the means of their documents."""
        if self.given is None:
            return np.load(self.centroids.file("centroids.npy"))
        if not self._merges_given:
            return None
        return counts.cluster_means(stages, self.embeddings, len(self.given))

    def _against_labels(self, stages: counts.Stages, found: dict[str, Any]) -> dict[str, Any]:
        field = str(self.plan.options.label_field)
        stage = self.workspace.stage("labels", self.documents, field)
        names = labels.read_labels(stage, self.documents, self.blocks, field)
        facts = labels.against_labels(stages, stage, found["of_cluster"], names)
        logger.info("Against %s: NMI %.3f, purity %.3f.", field, facts["nmi"], facts["purity"])
        return {"field": field, **facts}


def _counted(items: Iterator[Any], bar: Any) -> Iterator[Any]:
    for item in items:
        bar.update(1)
        yield item
