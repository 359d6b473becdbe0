"""Documents -> corpus: the stages in order. Stop it anywhere and run it again.

    documents -> exact -> tokenizer -> tokens -> (sketches -> near) -> targets -> roles
              -> encoder -> embeddings -> centroids -> clusters -> (scores) -> domains -> shards

Every stage's folder below `work/` is named by what it depends on (workspace.py), so a changed
option redoes only what follows from it. The manifest is written last: a folder without one is not
a corpus.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus import cluster, dedup, domains, embed, labels, quality, roles, tokenise
from climb_opt.corpus.documents import DOMAIN_FIELD, Block
from climb_opt.corpus.gather import gather
from climb_opt.corpus.ingest import Inventory, ingest
from climb_opt.corpus.options import DEFAULT_DOMAINS, Plan, plain
from climb_opt.corpus.sample import sample_documents
from climb_opt.corpus.workspace import (
    Stage,
    Workspace,
    atomic,
    load_array,
    load_json,
    locked,
)
from climb_opt.errors import UserError
from climb_opt.recipes import difference
from climb_opt.shards import MANIFEST, Corpus

logger = logging.getLogger(__name__)

WORK = "work"


@dataclass
class Build:
    """The stages done so far of one build."""

    plan: Plan
    output: Path
    workspace: Workspace

    def run(self) -> Corpus:
        """Do what is missing and return the finished corpus."""
        stages = self.prepare()
        found = self.decide(stages)
        return self._finish(stages, found)

    def prepare(self) -> domains.Stages:
        """Every stage that does not depend on how clusters become domains."""
        self._read()
        self._tokenise()
        self._roles()
        clusters = self._given_clusters() if self.plan.clustered else None
        if clusters is None or self.plan.options.merge.domains or self._by_distance:
            self._embed()
        if clusters is None:
            clusters = self._cluster()
        self._scores(clusters)
        return self.stages

    @property
    def _by_distance(self) -> bool:
        return self.plan.options.merge.distance is not None

    def _read(self) -> None:
        plan = self.plan
        facts = [plain(s) for s in plan.sources]
        self.documents = self.workspace.stage("documents", facts, plain(plan.read))
        self.inventory: Inventory = ingest(self.documents, plan.sources, plan.read)
        self.blocks: tuple[Block, ...] = self.inventory.blocks
        for line in self.inventory.lines():
            logger.warning("%s", line)
        logger.info("%d documents read.", self.inventory.documents)
        self.exact = self.workspace.stage("exact", self.documents)
        self.copies = dedup.find_exact(self.exact, self.documents, self.blocks)
        if self.copies["repeated_ids"]:
            logger.warning(
                "%d documents repeat an earlier id (e.g. document %s); they are kept.",
                self.copies["repeated_ids"],
                ", ".join(map(str, self.copies["examples"])),
            )
        seed = self.plan.options.seed
        self.chosen = self.workspace.stage(
            "targets", self.documents, [plain(t) for t in plan.targets], seed
        )
        roles.choose_targets(self.chosen, self.documents, self.blocks, plan.targets, seed)

    def _first(self, block: Block) -> np.ndarray:
        """Documents that are no copy."""
        return load_array(self.exact.file(f"{block.name}.first.npy"))

    def _may_train(self, block: Block) -> np.ndarray:
        """Documents that are no copy and not chosen for a target."""
        chosen = load_array(self.chosen.file(f"{block.name}.target.npy"))
        return np.asarray(self._first(block)) & (np.asarray(chosen) == 0)

    def _tokenise(self) -> None:
        options, seed = self.plan.options.tokens, self.plan.options.seed
        upstream = (self.exact, self.chosen, seed) if options.tokenizer is None else ()
        stage = self.workspace.stage("tokenizer", plain(options), *upstream)
        self.tokenizer_file = stage.once("tokenizer.json", self._make_tokenizer)
        loaded = tokenise.load_tokenizer(str(self.tokenizer_file))
        self.facts = tokenise.facts_of(loaded, options.eos)
        self.tokens = self.workspace.stage("tokens", stage, self.exact, options.eos)
        tokenise.tokenise(
            self.tokens, self.documents, self.blocks, self.exact, self.tokenizer_file, self.facts
        )

    def _make_tokenizer(self, path: Path) -> None:
        options, seed = self.plan.options.tokens, self.plan.options.seed
        if options.tokenizer is not None:
            made = tokenise.load_tokenizer(options.tokenizer)
        else:
            sample = sample_documents(
                self.documents, self.blocks, options.train_bytes, self._may_train, seed
            )
            with self.workspace.bar("tokenizer", None) as bar:
                texts = (d.text for d in _counted(sample, bar))
                made = tokenise.train_tokenizer(texts, options.vocab_size)
        made.save(str(path))

    def _roles(self) -> None:
        plan, threshold = self.plan, self.plan.options.near_duplicates
        links = {roles.COPY: self.exact.file("links.npy")}
        upstream: list[Any] = [self.exact, self.chosen]
        if threshold is not None:
            sketches = self.workspace.stage("sketches", self.tokens)
            dedup.sketch(sketches, self.tokens, self.blocks, self.facts.dtype)
            near = self.workspace.stage("near", sketches, threshold)
            dedup.find_near(near, sketches, self.exact, self.blocks, threshold)
            links[roles.NEAR] = near.file("links.npy")
            upstream.append(near)
        self.roles = self.workspace.stage("roles", *upstream)
        counts = roles.assign_roles(self.roles, self.blocks, links, self.chosen, plan.targets)
        self.counts = {int(role): count for role, count in counts.items()}
        logger.info(
            "Dropped %d copies, %d near-copies, %d near-copies of a target.",
            *(self.counts.get(r, 0) for r in (roles.COPY, roles.NEAR, roles.NEAR_TARGET)),
        )

    def _trained(self, block: Block) -> np.ndarray:
        role = load_array(self.roles.file(f"{block.name}.role.npy"))
        return np.asarray(role) == roles.TRAIN

    def _embed(self) -> None:
        options, seed = self.plan.options.embed, self.plan.options.seed
        if options.encoder == embed.TFIDF:
            encoder = self.workspace.stage("encoder", self.tokens, plain(options), seed)
            model = embed.fit_tfidf(
                encoder, self.tokens, self.blocks, self.facts, options, self._first, seed
            )
            self.embeddings = self.workspace.stage("embeddings", encoder)
            embed.embed_tfidf(
                self.embeddings, model, self.tokens, self.blocks, self.facts.dtype, options
            )
            return
        from climb_opt.corpus import sentences

        self.embeddings = self.workspace.stage(
            "embeddings", self.exact, *sentences.identity(options)
        )
        sentences.embed(self.embeddings, self.documents, self.exact, self.blocks, options)

    def _cluster(self) -> Stage:
        options, seed = self.plan.options.cluster, self.plan.options.seed
        count = cluster.number_of_clusters(
            options, self.counts.get(roles.TRAIN, 0), self.wanted_domains
        )
        upstream = (self.embeddings, self.roles, count, plain(options), seed)
        self.centroids = self.workspace.stage("centroids", *upstream)
        self.fitted = cluster.fit_centroids(
            self.centroids, self.embeddings, self.blocks, count, options, self._trained, seed
        )
        clusters = self.workspace.stage("clusters", self.centroids)
        file = self.centroids.file("centroids.npy")
        cluster.assign_clusters(
            clusters, self.embeddings, file, self.blocks, self.fitted["backend"]
        )
        return clusters

    @property
    def wanted_domains(self) -> int:
        """The number of domains to merge into."""
        return self.plan.options.merge.domains or DEFAULT_DOMAINS

    def _given_clusters(self) -> Stage:
        stage = self.workspace.stage("given", self.documents)
        self.given = labels.read_labels(stage, self.documents, self.blocks, DOMAIN_FIELD)
        return stage

    def _scores(self, clusters: Stage) -> None:
        scores = {}
        for name, spec in self.plan.scorers.items():
            stage = self.workspace.stage(f"score-{name}", self.roles, spec)
            quality.score(stage, self.documents, self.blocks, self.roles, name, spec)
            scores[name] = stage
        self.stages = domains.Stages(
            self.documents, self.tokens, self.roles, clusters, scores, self.blocks
        )

    def decide(self, stages: domains.Stages) -> dict[str, Any]:
        """Domains from clusters."""
        options = self.plan.options
        rule = quality.parse_rule(options.prune, list(self.plan.scorers))
        upstream = (stages.clusters, *stages.scores.values(), self.tokens, self.roles)
        stage = self.workspace.stage(
            "domains",
            *upstream,
            plain(options.merge),
            plain(options.split),
            options.prune,
            options.seed,
            domains.SAMPLED,
        )
        given = self.given if self.plan.clustered else None
        return domains.make_domains(
            stage,
            stages,
            self.cluster_centres(),
            given,
            options.merge,
            self.wanted_domains,
            options.split,
            rule,
            options.seed,
        )

    def cluster_centres(self) -> np.ndarray | None:
        """Centroids to merge by; of given clusters, the means of their documents."""
        if not self.plan.clustered:
            found: np.ndarray = np.load(self.centroids.file("centroids.npy"))
            return found
        if self.plan.options.merge.domains is None and not self._by_distance:
            return None
        return _means(self.stages, self.embeddings, len(self.given))

    def _finish(self, stages: domains.Stages, found: dict[str, Any]) -> Corpus:
        manifest = self.output / MANIFEST
        if self.workspace.part[0] != 1:
            logger.info("This part is done; part 1 writes the shards.")
        else:
            options = self.plan.options
            made, targets = gather(
                self.output, stages, found, self.plan.targets, self.facts.dtype, options.seed
            )
            with atomic(self.output / "tokenizer.json") as partial_file:
                partial_file.write_bytes(self.tokenizer_file.read_bytes())
            Corpus(
                self.output,
                options.name,
                made,
                targets,
                self.facts.dtype,
                self.facts.vocab_size,
                self.facts.eos,
                self._provenance(found),
            ).save()
        return Corpus.load(manifest.parent)

    def _provenance(self, found: dict[str, Any]) -> dict[str, Any]:
        names = {roles.COPY: "copies", roles.NEAR: "near_copies", roles.NEAR_TARGET: "near_target"}
        facts: dict[str, Any] = {
            "build": build_facts(self.plan),
            "documents": self.inventory.documents,
            "skipped": self.inventory.bad,
            "damaged": list(self.inventory.damaged),
            "dropped": {text: self.counts.get(role, 0) for role, text in names.items()},
            "repeated_ids": self.copies["repeated_ids"],
            "kmeans": getattr(self, "fitted", None),
            "removed": found["removed"],
            "thresholds": found["thresholds"],
            "cluster_sizes": found["sizes"],
        }
        if self.plan.options.label_field:
            facts["labels"] = self._against_labels(found)
        return facts

    def _against_labels(self, found: dict[str, Any]) -> dict[str, Any]:
        field = str(self.plan.options.label_field)
        stage = self.workspace.stage("labels", self.documents, field)
        names = labels.read_labels(stage, self.documents, self.blocks, field)
        of_cluster = np.array(found["of_cluster"])
        shape = (len(of_cluster), len(names))
        table = labels.contingency(self.stages.clusters, stage, self.blocks, self.roles, shape)
        merged = np.zeros((len(found["domains"]), len(names)), dtype=np.int64)
        np.add.at(merged, of_cluster[of_cluster >= 0], table[of_cluster >= 0])
        nmi, purity = labels.agreement(merged)
        logger.info("Against %s: NMI %.3f, purity %.3f.", field, nmi, purity)
        counts = [
            {names[j]: int(row[j]) for j in np.argsort(-row, kind="stable") if row[j]}
            for row in merged
        ]
        return {"field": field, "nmi": nmi, "purity": purity, "domains": counts}


def build(
    plan: Plan,
    output: Path,
    *,
    part: tuple[int, int] = (1, 1),
    workers: int = 1,
    progress: bool | None = None,
    overwrite: bool = False,
) -> Corpus:
    """Build a corpus in `output`, or finish one that was begun there.

    Raises:
        UserError: bad input; another corpus in `output`; no space left on the disk.
    """
    with _prepared(plan, output, part, overwrite) as finished:
        if finished is not None:
            logger.info("%s is already built.", output)
            return finished
        return Build(plan, output, Workspace(output / WORK, part, workers, progress)).run()


def build_facts(plan: Plan) -> dict[str, Any]:
    """What decides a corpus's content, as the manifest stores it."""
    sources = [{"name": s.name, "version": s.version} for s in plan.sources]
    options = plain(replace(plan.options))
    return {"options": load_json_like(options), "sources": sources}


def load_json_like(data: Any) -> Any:
    """Plain data as it comes back from JSON (tuples as lists), to compare with what was stored."""
    import json

    return json.loads(json.dumps(data))


@contextmanager
def _prepared(
    plan: Plan, output: Path, part: tuple[int, int], overwrite: bool
) -> Iterator[Corpus | None]:
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {str(output)!r} is a file; name a folder.")
    foreign = output.is_dir() and any(output.iterdir())
    if foreign and not (output / MANIFEST).exists() and not (output / WORK).is_dir():
        raise UserError(
            f"--output {str(output)!r} holds other files and no corpus; name a new folder."
        )
    try:
        (output / WORK).mkdir(parents=True, exist_ok=True)
        with locked(output / WORK, part):
            yield _finished(plan, output, overwrite)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"No space left on the disk of {str(output)!r}. Free some and run the same "
                "command again: finished stages are kept."
            ) from None
        if isinstance(error, PermissionError):
            raise UserError(f"--output {str(output)!r} cannot be written: {error}") from None
        raise


def _finished(plan: Plan, output: Path, overwrite: bool) -> Corpus | None:
    manifest = output / MANIFEST
    if not manifest.exists():
        return None
    stored = load_json(manifest).get("provenance", {}).get("build")
    ours = build_facts(plan)
    if stored == ours:
        return Corpus.load(output)
    if not overwrite:
        lines = difference(stored or {}, ours)
        raise UserError(
            f"{str(output)!r} holds another corpus ({'; '.join(lines[:5])}). Name another "
            "--output, or replace it with --overwrite (finished stages are reused)."
        )
    manifest.unlink()
    return None


def _counted(items: Iterator[Any], bar: Any) -> Iterator[Any]:
    for item in items:
        bar.update(1)
        yield item


def _means(stages: domains.Stages, embeddings: Stage, count: int) -> np.ndarray:
    total: np.ndarray | None = None
    documents = np.zeros(count)
    for block in stages.blocks:
        rows, clusters = domains.trained_on(stages, block)
        vectors = np.asarray(embed.read_embeddings(embeddings.path, block)[rows], np.float64)
        total = np.zeros((count, vectors.shape[1])) if total is None else total
        np.add.at(total, clusters, vectors)
        documents += np.bincount(clusters, minlength=count)
    assert total is not None  # ingest refuses an input without documents
    means: np.ndarray = total / np.maximum(documents, 1)[:, None]
    return means
