"""Copies of samplers: for another process, or another study."""

from __future__ import annotations

from typing import Any, ClassVar


class Forgetful:
    """Leaves locks and caches out of copies: a lock cannot be pickled, a cache need not be.

    A subclass names them in `_dropped` and makes them in `_forget`, which its `__init__` calls.
    """

    _dropped: ClassVar[tuple[str, ...]]

    def _forget(self) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()
