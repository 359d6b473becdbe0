"""Stages `targets` and `roles`: what becomes of every document.

A target is a set of documents that is held out whole and never trained on. Copies, exact or near,
form groups. A group with a target document belongs to the target: its first target member is kept
there and all else is dropped. Of any other group the first member is trained on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import TARGET_FIELD, Block, read_fields, read_rows, split_keys
from climb_opt.corpus.files import load_array
from climb_opt.corpus.read.fields import label_of
from climb_opt.corpus.read.inputs import names_input
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.errors import UserError
from climb_opt.files import save_array
from climb_opt.text import shorten

TRAIN, COPY, NEAR, NEAR_TARGET = 0, 1, 2, 3
TARGET = 16  # role of the first target's documents; the next target's is one more
MOST_TARGETS = 256 - TARGET  # a role is a byte
MOST_LISTED, LONGEST_LISTED = 10, 40  # values, and columns of one, in a message
TARGET_SEED = 0x7A67  # so that choosing targets and choosing held-out parts are independent


@dataclass(frozen=True)
class Target:
    """A held-out target: the documents of its own inputs, or of those with a field's value.

    Attributes:
        name: what evaluators call it.
        field: a document belongs to it when `document.fields[field] == value`; `TARGET_FIELD`
            for the documents of the target's own inputs.
        share: fraction of the matching documents that is held out; the rest is trained on.
    """

    name: str
    field: str
    value: str
    share: float = 1.0


def parse_target(text: str, share: float) -> tuple[Target, str | None]:
    """`NAME=FIELD:VALUE` or `NAME=FILES` -> the target, and the inputs to add for the latter.

    What exists, or begins with a prefix of inputs (`hf:`), is FILES. A field may be put into double
    quotes: one that is called like a prefix, or with a colon in it.

    Raises:
        UserError: neither form.
    """
    name, sign, rest = text.partition("=")
    if not sign or not rest or not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(
            f"--target {text!r}: expected NAME=FIELD:VALUE, e.g. prose=kind:prose, or NAME=FILES, "
            "e.g. science=science/*.jsonl; a name is letters, digits, - and _."
        )
    quoted = re.fullmatch(r'"(.+?)":(.+)', rest, re.DOTALL)
    field, value = (quoted[1], quoted[2]) if quoted else rest.partition(":")[::2]
    if field and value and (rest.startswith('"') or not names_input(rest)):
        return Target(name, field, value, share), None
    return Target(name, TARGET_FIELD, name), rest


def choose_targets(
    stage: Stage, documents: Stage, blocks: Sequence[Block], targets: Sequence[Target], seed: int
) -> None:
    """Write `<block>.target.npy`: 0, or one more than the index of the document's target."""
    task = partial(_choose_block, documents.path, tuple(targets), seed)
    stage.over(blocks, task, marker=".target.npy", how=How(processes=True))
    if targets:
        _check_found(stage, documents, blocks, targets)


def _check_found(
    stage: Stage, documents: Stage, blocks: Sequence[Block], targets: Sequence[Target]
) -> None:
    found = np.zeros(len(targets) + 1, dtype=np.int64)
    for block in blocks:
        chosen = load_array(stage.file(f"{block.name}.target.npy"), mapped=False)
        found += np.bincount(chosen, minlength=len(found))
    for target, count in zip(targets, found[1:], strict=True):
        if not count and target.field == TARGET_FIELD:
            raise UserError(
                f"Target {target.name!r} has no documents: its inputs hold no text that could be "
                "read. What was skipped, and why, is said above."
            )
        if not count:
            rare = "" if target.share == 1 else f", or none fell into its share of {target.share:g}"
            raise UserError(
                f"Target {target.name!r} has no documents: none has field {target.field!r} equal "
                f"to {target.value!r}{rare}. {_values(documents, blocks, target.field)}"
            )


def _values(documents: Stage, blocks: Sequence[Block], name: str) -> str:
    """Of the first block, for a message: what a field's values are, the most frequent first."""
    rows = read_fields(documents.path, blocks[0].name)
    values = [f[name] for _, f in rows if f.get(name) is not None]
    labels = Counter(shorten(label_of(value), LONGEST_LISTED) for value in values)
    listed = ", ".join(label for label, _ in labels.most_common(MOST_LISTED))
    return f"Its values are, among others: {listed or 'none'}."


def _choose_block(
    documents: Path, targets: tuple[Target, ...], seed: int, block: Block, advance: Advance
) -> np.ndarray:
    chosen = np.zeros(block.documents, dtype=np.uint8)
    if targets:
        keys = split_keys(read_rows(documents, block.name), seed ^ TARGET_SEED)
        fractions = keys.astype(np.float64) / 2.0**64
        for row, (_, fields) in enumerate(read_fields(documents, block.name)):
            for index, target in enumerate(targets):
                value = fields.get(target.field)
                matches = value is not None and label_of(value) == target.value
                if matches and fractions[row] < target.share:
                    chosen[row] = index + 1
                    break
    return chosen


def assign_roles(
    stage: Stage,
    blocks: Sequence[Block],
    links: Mapping[int, Path],
    chosen: Stage,
    targets: Sequence[Target],
) -> dict[str, int]:
    """Write `<block>.role.npy`, and return how many documents have each role.

    Args:
        links: role of a copy (`COPY`, `NEAR`) -> the file of its links.

    Raises:
        UserError: a target without documents.
    """
    counts: dict[str, int] = _assign(stage, blocks, links, chosen.path)
    for index, target in enumerate(targets):
        if not counts.get(str(TARGET + index)):
            raise UserError(
                f"Target {target.name!r} has no documents left: all of them are copies of others."
            )
    return counts


@once("summary.json")
def _assign(
    stage: Stage, blocks: Sequence[Block], links: Mapping[int, Path], chosen: Path
) -> dict[str, int]:
    pairs = {role: load_array(file, mapped=False) for role, file in links.items()}
    members, group = _groups(np.concatenate([np.zeros((0, 2), np.int64), *pairs.values()]))
    target = _targets_of(blocks, chosen, members, pairs[COPY])
    roles = _member_roles(members, group, target, pairs[COPY])
    counts: dict[str, int] = {}
    for block in blocks:
        marks = load_array(chosen / f"{block.name}.target.npy", mapped=False)
        role = np.where(marks > 0, marks + (TARGET - 1), TRAIN).astype(np.uint8)
        low, high = np.searchsorted(members, [block.start, block.start + block.documents])
        role[members[low:high] - block.start] = roles[low:high]
        save_array(stage.file(f"{block.name}.role.npy"), role)
        for value, count in zip(*np.unique(role, return_counts=True), strict=True):
            counts[str(value)] = counts.get(str(value), 0) + int(count)
    return counts


def _groups(links: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The linked documents, ascending, and the index of each one's group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    members = np.unique(links)
    ends = np.searchsorted(members, links)
    shape = (len(members), len(members))
    graph: Any = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape)
    if not len(members):
        return members, np.zeros(0, dtype=np.int64)
    return members, connected_components(graph, directed=False)[1].astype(np.int64)


def _targets_of(
    blocks: Sequence[Block], chosen: Path, members: np.ndarray, copies: np.ndarray
) -> np.ndarray:
    target = np.zeros(len(members), dtype=np.uint8)
    for block in blocks:
        low, high = np.searchsorted(members, [block.start, block.start + block.documents])
        if high > low:
            marks = load_array(chosen / f"{block.name}.target.npy")
            target[low:high] = marks[members[low:high] - block.start]
    # A copy has no tokens of its own: its original, the same text, stands for it.
    # Of several copies the first: numpy keeps what is assigned last.
    copy, original = np.searchsorted(members, copies[::-1]).T
    marked = target[copy] > 0
    ours, theirs = target[original[marked]], target[copy[marked]]
    target[original[marked]] = np.where(ours > 0, ours, theirs)
    return target


def _member_roles(
    members: np.ndarray, group: np.ndarray, target: np.ndarray, copies: np.ndarray
) -> np.ndarray:
    roles = np.full(len(members), NEAR, dtype=np.uint8)
    if not len(members):
        return roles
    held = np.zeros(group.max() + 1, dtype=bool)
    held[group[target > 0]] = True
    roles[held[group]] = NEAR_TARGET
    roles[np.searchsorted(members, copies[:, 0])] = COPY
    # Members are ascending, so a group's first candidate is its first document.
    fits = np.where(held[group], target > 0, True) & (roles != COPY)
    candidates = np.flatnonzero(fits)
    _, first = np.unique(group[candidates], return_index=True)
    kept = candidates[first]
    roles[kept] = np.where(target[kept] > 0, target[kept] + (TARGET - 1), TRAIN)
    return roles
