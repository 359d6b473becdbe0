"""Stage `exact`: which documents are copies of an earlier one, by a 128-bit hash of the text.

It ends, as near.py does, in links (copy, original): pairs of document numbers. `roles.py` joins the
links into groups and decides what becomes of each member.

Equal hashes meet by way of buckets.py, so that memory does not grow with the corpus; only the links
are held whole, 16 bytes for each copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, read_rows
from climb_opt.corpus.files import save_array
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.corpus.stages.buckets import by_hash

EXAMPLES = 3


@once("summary.json")
def find_exact(stage: Stage, documents: Stage, blocks: Sequence[Block]) -> dict[str, Any]:
    """Write links.npy and `<block>.first.npy` (False for copies); count copies and repeated ids."""
    texts, ids = [], 0
    examples: list[int] = []
    total = sum(b.documents for b in blocks)
    with stage.workspace.bar(stage.name, 2 * total) as bar:
        for field in ("text", "id"):
            hashes = _text_or_id(documents.path, blocks, field, bar)
            for rows, numbers in by_hash(hashes, total, stage.path):
                links = equal_runs(rows, numbers)
                if field == "text":
                    texts.append(links)
                else:
                    ids += len(links)
                    examples += [int(n) for n in links[: EXAMPLES - len(examples), 0]]
    links = np.concatenate(texts)
    links = links[np.argsort(links[:, 0], kind="stable")]
    save_array(stage.file("links.npy"), links)
    for block in blocks:
        first = np.ones(block.documents, dtype=bool)
        low, high = np.searchsorted(links[:, 0], [block.start, block.start + block.documents])
        first[links[low:high, 0] - block.start] = False
        save_array(stage.file(f"{block.name}.first.npy"), first)
    return {"copies": len(links), "repeated_ids": ids, "examples": examples}


def _text_or_id(
    documents: Path, blocks: Sequence[Block], field: str, bar: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes (n, width) and document numbers (n,) of each block."""
    for block in blocks:
        values = np.array(read_rows(documents, block.name)[field])  # a view keeps its file open
        numbers = np.arange(block.start, block.start + block.documents)
        yield values.reshape(block.documents, -1), numbers
        bar.update(block.documents)


def equal_runs(hashes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Links (copy, first) between rows of equal hashes; numbers must be ascending."""
    order = np.lexsort([numbers, *hashes.T[::-1]])
    hashes, numbers = hashes[order], numbers[order]
    same = np.zeros(len(numbers), dtype=bool)
    same[1:] = np.all(hashes[1:] == hashes[:-1], axis=1)
    starts = np.maximum.accumulate(np.where(same, 0, np.arange(len(numbers))))
    return np.stack([numbers[same], numbers[starts[same]]], axis=1).astype(np.int64)
