"""Files that appear under their final name only when they are complete; locks and names of them."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from climb_opt.errors import UserError

OTHER_FILES = 512  # libraries, logs, sockets


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
    with _beneath(path):
        write_whole(path, text)


@contextmanager
def _beneath(path: Path) -> Iterator[None]:
    """A folder for `path`; what the system says against it in words."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror}.") from None


def write_whole(path: Path, text: str) -> None:
    """The text as a file, whole or not at all; half surrogate pairs are escaped as JSON does."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def allow_open_files(count: int) -> None:
    """Raise this process's limit for `count` files open at once, as far as the system lets it.

    Most systems start a process with 256 or 1024 and let it have many more.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHER_FILES
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def take_flock(file: Path, *, wait: bool = True) -> int:
    """Lock a file (created if missing) and return its descriptor; closing it frees the lock.

    Raises:
        BlockingIOError: with `wait=False`, when another process holds it.
        ImportError: on Windows, which has no such locks.
    """
    import fcntl

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def short_key(name: str) -> int:
    """63 bits for a name, what databases take as the name of a lock; the same in every version."""
    digest = hashlib.sha256(f"climb_opt/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
