"""Rows of the whole corpus brought together by hash, a bounded number in memory at a time.

Equal hashes must meet. Up to `ROWS_AT_ONCE` rows that is a concatenation. More are written to disk
first, each to the bucket of its hash's range, in one pass over the corpus: the cost stays
proportional to the corpus, whatever its size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from climb_opt.corpus.documents import gathered

ROWS_AT_ONCE = 500_000  # of a bucket, on average: 33 MB while its rows are sorted

Rows = tuple[np.ndarray, np.ndarray]  # hashes (n, width) uint64, ascending document numbers (n,)


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
