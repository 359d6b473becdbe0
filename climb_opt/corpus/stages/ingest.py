"""Stage `documents`: sources -> blocks. Bad documents are counted, named, skipped; many stop it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from climb_opt.corpus.documents import (
    BLOCK_BYTES,
    BLOCK_DOCUMENTS,
    DOMAIN_FIELD,
    TARGET_FIELD,
    Bad,
    Block,
    Document,
    gathered,
    is_unread,
    write_block,
)
from climb_opt.corpus.files import load_json
from climb_opt.corpus.read.json_values import CONTROL
from climb_opt.corpus.read.look import check_fields
from climb_opt.corpus.read.records import EMPTY, read
from climb_opt.corpus.read.source import ReadOptions, Source
from climb_opt.corpus.run.jobs import Advance, How
from climb_opt.corpus.run.workspace import Stage
from climb_opt.errors import UserError
from climb_opt.reading import AS_LINES, AS_UTF8, ESCAPED
from climb_opt.unpacking import Damaged

logger = logging.getLogger(__name__)

MAX_BAD = 0.1  # share of the documents, and of the inputs, that may be bad
ENOUGH_TO_JUDGE = 1000  # documents after which a source with too many bad ones stops at once
EXAMPLES = 3
REMEDIES = {
    "not UTF-8": f"If they are in another encoding, {AS_UTF8}.",
    "not JSON": AS_LINES,
    "not a JSON object": AS_LINES,
    CONTROL: f"JSON has it escaped, a tab as \\t; {ESCAPED}.",
}
STEP = 100_000  # bytes read between two looks at the bar


@dataclass(frozen=True)
class _Unit:
    """A source as a stage's unit: its name is its place in the order of the corpus."""

    name: str
    source: Source
    bytes: int
    documents: int = 0  # not known before it is read


@dataclass(frozen=True)
class Inventory:
    """What was read: the blocks in order, what was skipped, by reason, and fields that were not
    there: in how many of the documents that were kept.

    Attributes:
        unread: domain that inputs name and no document was kept of -> what was skipped, by reason.
    """

    blocks: tuple[Block, ...]
    bad: dict[str, int]
    examples: dict[str, list[str]]
    damaged: tuple[str, ...]
    without: dict[str, int] = field(default_factory=dict)
    unread: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def documents(self) -> int:
        """Documents that were kept."""
        return sum(b.documents for b in self.blocks)

    def lines(self) -> list[str]:
        """What was skipped and why, for people."""
        found = [
            f"{count} skipped: {reason} (e.g. {', '.join(self.examples[reason])})"
            for reason, count in sorted(self.bad.items())
        ]
        found += [
            f"{count} of {self.documents} documents have no field {name!r} (or null)"
            for name, count in self.without.items()
        ]
        return found + [f"damaged: {text}" for text in self.damaged]


def ingest(
    stage: Stage, sources: Sequence[Source], options: ReadOptions, wanted: Mapping[str, str]
) -> Inventory:
    """Read every source into blocks below the stage's folder.

    Args:
        wanted: field that a document must have -> the option that names it.

    Raises:
        UserError: more than a tenth of the documents or inputs are bad, nothing is left, or no
            document has a wanted field.
    """
    units = [_Unit(f"{i:05d}", s, s.bytes) for i, s in enumerate(sources)]
    if wanted and not all(stage.file(f"{u.name}.json").exists() for u in units):
        check_fields(sources, options, wanted)
    task = partial(_read_source, stage.path, options)
    stage.over(units, task, marker=".json", how=How(processes=True))
    parts = [load_json(stage.file(f"{u.name}.json")) for u in units]
    inventory = replace(_inventory(parts), unread=_unread(sources, parts))
    try:
        _check(inventory, len(sources))
    except UserError:
        if stage.workspace.part == (1, 1):  # others may be reading what each has written
            for unit, part in zip(units, parts, strict=True):
                if part["damaged"] or set(part["bad"]) - {EMPTY}:
                    stage.file(f"{unit.name}.json").unlink()
        raise
    for name, count in inventory.without.items():
        if count == inventory.documents and name in wanted:
            lost = f"no document has the field {name!r}, or it is null in all."
            raise UserError(f"{wanted[name]}: {lost}")
    return inventory


def forget_unread(stage: Stage) -> None:
    """Let `ingest` read again what could not be read: once its disk or connection is back, or it
    may be read, it has the same time and size as before."""
    for file in sorted(stage.path.glob("[0-9]*.json")):
        part = load_json(file)
        if is_unread(part["damaged"], part["bad"]):
            file.unlink()


def _read_source(
    folder: Path, options: ReadOptions, unit: _Unit, advance: Advance
) -> dict[str, Any]:
    tally = _Tally(options)
    records = _good(read(unit.source, options, _Steps(advance)), tally)
    parts = gathered(records, BLOCK_DOCUMENTS, BLOCK_BYTES, lambda d: len(d.text))
    named = ((f"{unit.name}-{i:05d}", part) for i, part in enumerate(parts))
    blocks = [asdict(write_block(folder, name, part)) for name, part in named]
    tally.settle()
    facts = {"blocks": blocks, "bad": tally.bad, "examples": tally.examples}
    return {**facts, "damaged": tally.damaged, "without": tally.without}


class _Steps:
    """Positions in an input -> steps that are worth showing."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._told = 0

    def __call__(self, position: int) -> None:
        if position - self._told >= STEP:
            self._advance(position - self._told)
            self._told = position


class _Tally:
    """Counts a source's bad documents by reason, and stops when there are too many."""

    def __init__(self, options: ReadOptions) -> None:
        self._id_field = options.id_field if options.id_field != ReadOptions().id_field else None
        self._fields = options.fields
        self._absent = f"no field {options.text_field!r}"
        self.without: Counter[str] = Counter()
        self.seen = 0
        self.bad: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.damaged = ""

    def look(self, document: Document) -> None:
        """Count the fields that the document lacks."""
        self.without.update(f for f in self._fields if document.fields.get(f) is None)
        if self._id_field is not None and not document.named:
            self.without[self._id_field] += 1

    def add(self, bad: Bad) -> None:
        self.bad[bad.reason] += 1
        examples = self.examples.setdefault(bad.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(bad.where)

    def judge(self) -> None:
        if self.seen >= ENOUGH_TO_JUDGE:
            wrong = {r: n for r, n in self.bad.items() if r != self._absent}  # others may have it
            _refuse(wrong, self.examples, self.seen)

    def settle(self) -> None:
        """A text that is missing is an empty one, where other documents have the field."""
        if self.bad[self._absent] and self.seen > self.bad[self._absent]:
            self.bad[EMPTY] += self.bad.pop(self._absent)
            found = self.examples.pop(self._absent) + self.examples.get(EMPTY, [])
            self.examples[EMPTY] = found[:EXAMPLES]


def _good(records: Iterator[Document | Bad], tally: _Tally) -> Iterator[Document]:
    try:
        for record in records:
            tally.seen += 1
            if isinstance(record, Document):
                tally.look(record)
                yield record
            else:
                tally.add(record)
                tally.judge()
    except Damaged as error:
        good = tally.seen - sum(tally.bad.values())
        tally.damaged = f"{error}, after {good} documents"
        logger.warning("%s", tally.damaged)


def _inventory(parts: Sequence[dict[str, Any]]) -> Inventory:
    bad: Counter[str] = Counter()
    without: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    blocks: list[Block] = []
    start = 0
    for part in parts:
        bad.update(part["bad"])
        without.update(part.get("without", {}))  # version 0.1.0 did not count them
        for reason, where in part["examples"].items():
            examples[reason] = (examples.get(reason, []) + where)[:EXAMPLES]
        for data in part["blocks"]:
            block = Block(data["name"], data["documents"], data["bytes"], start)
            start += block.documents
            blocks.append(block)
    damaged = tuple(p["damaged"] for p in parts if p["damaged"])
    return Inventory(tuple(blocks), dict(bad), examples, damaged, dict(without))


def _unread(
    sources: Sequence[Source], parts: Sequence[dict[str, Any]]
) -> dict[str, dict[str, int]]:
    """Domains that the sources name and that have no document: what was skipped of each."""
    skipped: dict[str, Counter[str]] = {}
    there: set[str] = set()
    for source, part in zip(sources, parts, strict=True):
        name = source.fields.get(DOMAIN_FIELD)
        if name is not None and TARGET_FIELD not in source.fields:
            skipped.setdefault(name, Counter()).update(part["bad"])
            there |= {name} if part["blocks"] else set()
    return {name: dict(bad) for name, bad in skipped.items() if name not in there}


def _check(inventory: Inventory, sources: int) -> None:
    _refuse(inventory.bad, inventory.examples, inventory.documents + sum(inventory.bad.values()))
    if len(inventory.damaged) > MAX_BAD * sources:
        raise UserError(
            f"{len(inventory.damaged)} of {sources} inputs are damaged, more than a tenth: "
            f"{inventory.damaged[0]}. Repair or leave out these files."
        )
    if inventory.documents == 0:
        raise UserError("The inputs hold no documents with text.")


def _refuse(bad: Counter[str] | dict[str, int], examples: dict[str, list[str]], seen: int) -> None:
    # Empty documents carry no information about whether the input is read rightly.
    wrong = {reason: count for reason, count in bad.items() if reason != EMPTY}
    if sum(wrong.values()) <= MAX_BAD * seen:
        return
    reason = max(wrong, key=lambda r: wrong[r])
    raise UserError(
        f"{sum(wrong.values())} of the first {seen} documents are bad, more than a tenth. "
        f"Most often: {reason} ({wrong[reason]}; e.g. {examples[reason][0]}). "
        f"{REMEDIES.get(reason, 'Check the files, --text-field and the format.')}"
    )
