"""Stage `exact`: which documents are copies of an earlier one, by a 128-bit hash of the text.

It ends, as near.py does, in links (copy, original): pairs of document numbers. `roles.py` joins the
links into groups and decides what becomes of each member.

Equal hashes must meet. Up to `ROWS_AT_ONCE` rows that is a concatenation. More are written to disk
first, each to the bucket of its hash's range, in one pass over the corpus: the cost stays
proportional to the corpus, whatever its size. Only the links are held whole, 16 bytes a copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.corpus.documents import Block, gathered, read_rows
from climb_opt.corpus.run.workspace import Stage, once
from climb_opt.files import save_array

EXAMPLES = 3
ROWS_AT_ONCE = 500_000  # of a bucket, on average: 33 MB while its rows are sorted

Rows = tuple[np.ndarray, np.ndarray]  # hashes (n, width) uint64, ascending document numbers (n,)


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


def _text_or_id(documents: Path, blocks: Sequence[Block], field: str, bar: Any) -> Iterator[Rows]:
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


# --- equal hashes together ------------------------------------------------------------------------


def by_hash(parts: Iterable[Rows], total: int, folder: Path) -> Iterator[Rows]:
    """All rows, gathered so that equal hashes come together; a bucket's numbers ascend.

    Args:
        parts: the corpus's rows, in order.
        total: how many there are.
        folder: where there is space for 8 bytes a number and a hash, if they do not fit in memory.
    """
    buckets = -(-total // ROWS_AT_ONCE)
    if buckets <= 1:
        yield _joined(list(parts))
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix="buckets-") as place:
        width = _scatter(parts, buckets, Path(place))
        for index in range(buckets):
            file = Path(place) / f"{index}"
            data = np.fromfile(file, dtype=np.uint64) if file.exists() else np.zeros(0, np.uint64)
            file.unlink(missing_ok=True)
            table = data.reshape(-1, width + 1)
            yield table[:, :width], table[:, width].astype(np.int64)


def _scatter(parts: Iterable[Rows], buckets: int, folder: Path) -> int:
    """Append every row to its bucket's file; returns the width of a hash."""
    width, most = 1, ROWS_AT_ONCE // 2  # few, long appends
    for held in gathered(parts, most, most, lambda rows: len(rows[1])):
        rows = _joined(held)
        width = rows[0].shape[1]
        _append(rows, buckets, folder)
    return width


def _append(rows: Rows, buckets: int, folder: Path) -> None:
    hashes, numbers = rows
    bucket = _bucket_of(hashes[:, 0], buckets)
    order = np.argsort(bucket, kind="stable")  # numbers stay ascending within a bucket
    ends = np.cumsum(np.bincount(bucket, minlength=buckets))
    table = np.concatenate([hashes, numbers.astype(np.uint64)[:, None]], axis=1)[order]
    for index, end in enumerate(ends):
        start = ends[index - 1] if index else 0
        if end > start:
            with (folder / f"{index}").open("ab") as file:
                file.write(table[start:end].data)  # `tofile` loses why a disk takes no more


def _bucket_of(hashes: np.ndarray, buckets: int) -> np.ndarray:
    # The upper 32 bits decide, as an integer product without overflow.
    return (((hashes >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)).astype(np.int64)


def _joined(parts: list[Rows]) -> Rows:
    return np.concatenate([h for h, _ in parts]), np.concatenate([n for _, n in parts])
