"""The batches of a run, in the order of its steps; on a GPU the next is read meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np


class Reader:
    """Reads this rank's tokens (n, T + 1) of a step by `read`.

    Args:
        known: the step before which it is decided what is read.
        ahead: read the next step's in a thread.
    """

    def __init__(
        self, read: Callable[[int], np.ndarray], known: Callable[[], int], *, ahead: bool
    ) -> None:
        self.read, self.known = read, known
        self.pool = ThreadPoolExecutor(1) if ahead else None
        self.next: tuple[int, Future] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, step: int) -> np.ndarray:
        """The tokens of a step."""
        if self.pool is None:
            return self.read(step)
        current = self.next[1] if self.next and self.next[0] == step else None
        tokens: np.ndarray = current.result() if current else self.read(step)
        if step + 1 < self.known():
            self.next = (step + 1, self.pool.submit(self.read, step + 1))
        return tokens
