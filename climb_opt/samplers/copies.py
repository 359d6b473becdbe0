"""Copies of samplers: for another process, or another study."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Memory(Generic[T]):
    """What a sampler knows of studies, and the lock it works under; a copy of it knows nothing.

    A lock cannot be pickled, and what is known can be learnt again. In-memory storages all count
    their studies and trials from 0, so what is known is kept by storage.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._known: weakref.WeakKeyDictionary[Any, dict[Any, T]] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[Memory[T]], tuple[()]]:
        return Memory, ()

    def of(self, storage: Any) -> dict[Any, T]:
        """What is known of a storage, to be added to."""
        return self._known.setdefault(storage, {})
