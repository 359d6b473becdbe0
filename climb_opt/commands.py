"""Commands that a message tells its reader to run, complete enough to be copied."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STORAGE: ContextVar[str | None] = ContextVar("the --storage that was typed", default=None)


@contextmanager
def typed_with(storage: str | None) -> Iterator[None]:
    """Where commands go on from one that was typed with this `--storage`.

    Args:
        storage: as it may be shown. None where none was typed; and where the text is stored with a
            study or in a file, which people read who have a storage of their own.
    """
    before = _STORAGE.set(storage)
    try:
        yield
    finally:
        _STORAGE.reset(before)


def command(verb: str, *words: str) -> str:
    """`climb-opt VERB WORDS`, as a shell takes it, on the storage of the command that runs.

    >>> from climb_opt.commands import command
    >>> command("retry", "my study")
    "climb-opt retry 'my study'"
    """
    given = _STORAGE.get()
    where = [] if given is None else ["--storage", given]
    return shlex.join(["climb-opt", verb, *words, *where])
