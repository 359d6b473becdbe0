"""Domains that the inputs name and the corpus lacks, and why: what was skipped, what was a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from climb_opt.corpus.files import load_array
from climb_opt.corpus.stages.counts import Stages
from climb_opt.corpus.stages.roles import COPY, NEAR, NEAR_TARGET, TARGET, TRAIN
from climb_opt.text import counted

ROLES = 256  # a role is a byte


def lost_domains(
    stages: Stages, names: Sequence[str], unread: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """A line for each domain without a document to train on; sorted by name.

    Args:
        names: of the domains whose documents were read, as `stages.clusters` numbers them.
        unread: domain of which no document was -> what was skipped, by reason.
    """
    why = {name: _unread(skipped) for name, skipped in unread.items()}
    table = _roles(stages, len(names))
    for cluster in np.flatnonzero(table[:, TRAIN] == 0).tolist():
        why[names[cluster]] = _untrained(table[cluster])
    return [f"domain {name!r}: {reason}, left out" for name, reason in sorted(why.items())]


def _unread(skipped: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count} skipped: {reason}" for reason, count in sorted(skipped.items()))
    return f"no documents ({reasons})" if reasons else "no documents"


def _untrained(roles: np.ndarray) -> str:
    """Why no document is left, by how many have each role (`ROLES`,)."""
    what = {COPY: "copies", NEAR: "near-copies", NEAR_TARGET: "near-copies of a target"}
    parts = [f"{roles[role]} {text}" for role, text in what.items() if roles[role]]
    if in_targets := int(roles[TARGET:].sum()):
        parts.append(f"{in_targets} in a target")
    documents = counted(int(roles.sum()), "document")
    return f"none of its {documents} is left to train on ({', '.join(parts)})"


def _roles(stages: Stages, clusters: int) -> np.ndarray:
    """How many documents of each cluster have each role (clusters, `ROLES`)."""
    table = np.zeros(clusters * ROLES, dtype=np.int64)
    for block in stages.blocks:
        role = load_array(stages.roles.file(f"{block.name}.role.npy"), mapped=False)
        cluster = load_array(stages.clusters.file(f"{block.name}.npy"), mapped=False)
        inside = cluster >= 0
        places = cluster[inside].astype(np.int64) * ROLES + role[inside]
        table += np.bincount(places, minlength=len(table))
    return table.reshape(clusters, ROLES)
