"""Stage `labels`: a field of every document as a number, for domains that the input already names.

Also used to hold the found domains against known labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, read_fields
from climb_opt.corpus.files import load_array, load_json
from climb_opt.corpus.read.fields import label_of
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.counts import Stages, trained_on
from climb_opt.errors import UserError


def read_labels(stage: Stage, documents: Stage, blocks: Sequence[Block], field: str) -> list[str]:
    """Write `<block>.npy`, int32 indices into the returned, sorted labels (-1: no such field)."""
    task = partial(_labels_of_block, documents.path, field)
    stage.over(blocks, task, marker=".json", how=How(processes=True))
    names: list[str] = _collect(stage, blocks)
    if not names:
        raise UserError(f"No document has the field {field!r}.")
    stage.over(blocks, partial(_number_block, stage.path, names), marker=".npy")
    return names


def _labels_of_block(
    documents: Path, field: str, block: Block, advance: Advance
) -> list[str | None]:
    found = [fields.get(field) for _, fields in read_fields(documents, block.name)]
    return [None if v in (None, "") else label_of(v) for v in found]


@once("labels.json")
def _collect(stage: Stage, blocks: Sequence[Block]) -> list[str]:
    names: set[str] = set()
    for block in blocks:
        names |= {v for v in load_json(stage.file(f"{block.name}.json")) if v is not None}
    return sorted(names)


def _number_block(folder: Path, names: Sequence[str], block: Block, _: Advance) -> np.ndarray:
    index: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    found = load_json(folder / f"{block.name}.json")
    return np.array([index.get(v, -1) for v in found], np.int32)


def against_labels(
    stages: Stages, labels: Stage, of_cluster: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """NMI and purity of the domains, and each domain's documents by label, most first."""
    domains = np.array(of_cluster)
    table = np.zeros((int(domains.max()) + 1, len(names)), dtype=np.int64)
    for block in stages.blocks:
        rows, cluster = trained_on(stages, block)
        domain, label = domains[cluster], load_array(labels.file(f"{block.name}.npy"))[rows]
        both = (domain >= 0) & (label >= 0)
        np.add.at(table, (domain[both], label[both]), 1)
    nmi, purity = agreement(table)
    counts = [
        {names[j]: int(row[j]) for j in np.argsort(-row, kind="stable") if row[j]} for row in table
    ]
    return {"nmi": nmi, "purity": purity, "domains": counts}


def agreement(table: np.ndarray) -> tuple[float, float]:
    """NMI (arithmetic) and purity of clusters (rows) against labels (columns); 0 without any."""
    if not table.any():  # every document with a label is in a target
        return 0.0, 0.0
    joint = table / table.sum()
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    expected = np.outer(rows, columns)
    inside = joint > 0
    information = float((joint[inside] * np.log(joint[inside] / expected[inside])).sum())
    entropies = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (rows, columns)]
    purity = float(table.max(axis=1).sum() / table.sum())
    return 2 * information / max(sum(entropies), 1e-12), purity
