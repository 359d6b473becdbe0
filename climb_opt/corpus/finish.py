"""The last step of a build: shards, tokenizer, the clusters' map, and then the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.files import save_arrays
from climb_opt.corpus.folder import build_facts
from climb_opt.corpus.order import Build
from climb_opt.corpus.stages.counts import Stages
from climb_opt.corpus.stages.gather import completed, gather
from climb_opt.corpus.stages.roles import COPY, NEAR, NEAR_TARGET
from climb_opt.files import atomic
from climb_opt.shards import Corpus

CLUSTERS = "clusters.npz"
DROPPED = {COPY: "copies", NEAR: "near_copies", NEAR_TARGET: "near_copies_of_targets"}


def write_corpus(output: Path, build: Build, stages: Stages, found: dict[str, Any]) -> Corpus:
    """Write everything and return the corpus as it loads.

    Args:
        found: what `domains.make_domains` decided.
    """
    plan, facts = build.plan, build.facts
    for stem in ("domain_*", "target_*"):
        for old in [*output.glob(f"{stem}.bin"), *output.glob(f"{stem}.idx")]:
            old.unlink()  # of an interrupted or replaced build; there is no manifest now
    domains, targets = gather(output, stages, found, plan.targets, facts.dtype, build.seed)
    with atomic(output / "tokenizer.json") as partial:
        partial.write_bytes(build.tokenizer_file.read_bytes())
    _write_clusters(output / CLUSTERS, build.centres, found["of_cluster"])
    tokens = (facts.dtype, facts.vocab_size, facts.eos)
    name, origin = plan.options.name, provenance(build, found)
    return completed(Corpus(output, name, domains, targets, *tokens, origin))


def provenance(build: Build, found: dict[str, Any]) -> dict[str, Any]:
    """Where a corpus comes from: all that decides its content, and what was left out and why.

    Nothing here depends on when or how fast it was built: the same build gives the same bytes.
    """
    read = build.inventory
    return {
        "build": build_facts(build.plan),
        "end_of_text": asdict(build.end),
        "documents": read.documents,
        "skipped": read.bad,
        "damaged": list(read.damaged),
        **({"without": read.without} if read.without else {}),
        "dropped": {text: build.counts.get(role, 0) for role, text in DROPPED.items()},
        "repeated_ids": build.copies["repeated_ids"],
        "kmeans": build.fitted,
        "clusters": found["sizes"],
        "unclustered": found["unclustered"],
        "fewer_domains": found.get("fewer"),
        "removed": found["removed"],
        "ward_distance_to_domains": found["thresholds"],
        "labels": build.labelled,
    }


def _write_clusters(path: Path, centres: np.ndarray | None, of_cluster: Sequence[int]) -> None:
    if centres is None:
        path.unlink(missing_ok=True)
        return
    domain = np.array(of_cluster, dtype=np.int32)
    save_arrays(path, {"centroids": centres.astype(np.float32), "domain": domain})
