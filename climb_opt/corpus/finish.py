"""The last step of a build: shards, tokenizer, the clusters' map, and then the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.files import save_arrays
from climb_opt.corpus.folder import build_facts
from climb_opt.corpus.options import Plan
from climb_opt.corpus.stages.counts import Stages
from climb_opt.corpus.stages.gather import gather
from climb_opt.corpus.stages.ingest import Inventory
from climb_opt.corpus.stages.roles import COPY, NEAR, NEAR_TARGET
from climb_opt.corpus.stages.tokenise import TokenFacts
from climb_opt.files import atomic
from climb_opt.indexed import index_shards
from climb_opt.shards import Corpus, file_digest
from climb_opt.tokenizer import EndOfText

CLUSTERS = "clusters.npz"
DROPPED = {COPY: "copies", NEAR: "near_copies", NEAR_TARGET: "near_copies_of_targets"}


@dataclass(frozen=True)
class Findings:
    """What a build found out, for the manifest."""

    domains: dict[str, Any]  # see domains.make_domains
    centres: np.ndarray | None
    tokenizer_file: Path
    tokens: TokenFacts
    end: EndOfText
    inventory: Inventory
    copies: Mapping[str, Any]
    roles: Mapping[int, int]  # role -> documents
    fitted: Mapping[str, Any] | None
    labelled: Mapping[str, Any] | None


def write_corpus(output: Path, plan: Plan, stages: Stages, findings: Findings) -> Corpus:
    """Write everything and return the corpus as it loads."""
    for stem in ("domain_*", "target_*"):
        for old in [*output.glob(f"{stem}.bin"), *output.glob(f"{stem}.idx")]:
            old.unlink()  # of an interrupted or replaced build; there is no manifest now
    facts, seed = findings.tokens, plan.options.seed
    domains, targets = gather(output, stages, findings.domains, plan.targets, facts.dtype, seed)
    with atomic(output / "tokenizer.json") as partial:
        partial.write_bytes(findings.tokenizer_file.read_bytes())
    _write_clusters(output / CLUSTERS, findings.centres, findings.domains["of_cluster"])
    corpus = Corpus(
        output,
        plan.options.name,
        domains,
        targets,
        facts.dtype,
        facts.vocab_size,
        facts.eos,
        provenance(plan, findings),
        file_digest(output / "tokenizer.json"),
    )
    index_shards(corpus)
    corpus.save()
    return Corpus.load(output)


def provenance(plan: Plan, findings: Findings) -> dict[str, Any]:
    """Where a corpus comes from: all that decides its content, and what was left out and why.

    Nothing here depends on when or how fast it was built: the same build gives the same bytes.
    """
    found = findings.domains
    return {
        "build": build_facts(plan),
        "end_of_text": asdict(findings.end),
        "documents": findings.inventory.documents,
        "skipped": findings.inventory.bad,
        "damaged": list(findings.inventory.damaged),
        **({"without": without} if (without := findings.inventory.without) else {}),
        "dropped": {text: findings.roles.get(role, 0) for role, text in DROPPED.items()},
        "repeated_ids": findings.copies["repeated_ids"],
        "kmeans": findings.fitted,
        "clusters": found["sizes"],
        "unclustered": found["unclustered"],
        "fewer_domains": found.get("fewer"),
        "removed": found["removed"],
        "ward_distance_to_domains": found["thresholds"],
        "labels": findings.labelled,
    }


def _write_clusters(path: Path, centres: np.ndarray | None, of_cluster: Sequence[int]) -> None:
    if centres is None:
        path.unlink(missing_ok=True)
        return
    domain = np.array(of_cluster, dtype=np.int32)
    save_arrays(path, {"centroids": centres.astype(np.float32), "domain": domain})
