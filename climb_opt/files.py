"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from climb_opt.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an error."""
    # Several machines may write below one folder: a process number alone does not tell them apart.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file that a person asked for, with its folder.

    Raises:
        UserError: it cannot be written.
    """
    with _beneath(path):
        path.write_text(text, encoding="utf-8")


def replace_text(path: Path, text: str) -> None:
    """As `write_text`, where others may be writing or reading the file at the same time."""
    with _beneath(path), atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def _beneath(path: Path) -> Iterator[None]:
    """A folder for `path`; what the system says against it in words."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror}.") from None
