"""Files that appear under their final name only when they are complete; locks and names of them."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from climb_opt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OTHER_FILES = 512  # libraries, logs, sockets
BEGINNING = 65536  # characters of a file by which it is told what it is


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
    """Write a file that a person asked for, with its folder: whole, or what was there stays.

    Raises:
        UserError: it cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a pipe or a device: nothing can take its place
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        else:
            write_whole(path.resolve(), text)  # a link stays one


def check_replaced(path: Path, what: str, known: Callable[[str], bool]) -> None:
    """Refuse to replace a file of a person's own; one that is empty may be.

    Args:
        what: is written, in words.
        known: whether a text, or the beginning of a long one, is such.

    Raises:
        UserError: there is a file, and it is something else; there is a folder.
    """
    with writing(path):
        if not (path.is_file() or path.is_dir()):
            return
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(BEGINNING)
    if text and not known(text):
        raise UserError(
            f"{str(path)!r} exists already and is no {what}: give another --output or remove it."
        )


@contextmanager
def writing(path: Path, kept: str = "") -> Iterator[None]:
    """Where a person's file or folder is written: what the system says against it in words.

    Args:
        kept: what is said of what was written before.

    Raises:
        UserError: what is in the way, and what to do.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{against(path, error)}{kept}") from error


def check_folder(path: Path) -> None:
    """Make a folder, with those above it, and see that files can be made there.

    Raises:
        UserError: they cannot; what is in the way, and what to do.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """A folder for what the block writes: without it again where the block ends with an error, as
    half of it would stand in the way of the same command.

    Raises:
        UserError: as of `check_folder`.
    """
    check_folder(path)
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def against(path: Path, error: OSError) -> str:
    """Why `path` cannot be written, and what to do."""
    there = next((p for p in (path, *path.absolute().parents) if os.path.lexists(p)), path)
    said = f"{str(path)!r} cannot be written: "
    if is_full(error):
        return f"{said}{no_space(there)}"
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and not there.is_dir():
        return f"{said}{str(there)!r} is a file, no folder. Give another path, or move the file."
    if isinstance(error, IsADirectoryError) and path.is_dir():
        return f"{said}it is a folder. Give the path of a file."
    place = f" {str(there)!r}" if isinstance(error, PermissionError) else ""
    return f"{said}{error.strerror}{place}. Give another path, or change that."


def is_full(error: BaseException | None) -> bool:
    """Whether a disk, a quota or a file that may grow no more is what this error comes from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def no_space(place: str | Path) -> str:
    """That the disk of `place` is full, how much room it has, and what to do."""
    folder = next((p for p in (Path(place), *Path(place).absolute().parents) if p.is_dir()), ".")
    try:
        free = f" ({shutil.disk_usage(folder).free / 1e6:,.1f} MB free)"
    except OSError:
        free = ""
    return (
        f"no space left on the disk of {str(place)!r}{free}. Make room there, or raise the quota, "
        "and run the same command again."
    )


def write_whole(path: Path, text: str) -> None:
    """The text as a file, whole or not at all; half surrogate pairs are escaped as JSON does."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def save_array(path: Path, array: np.ndarray) -> None:
    """An array as .npy, whole or not at all."""
    import numpy as np  # a command line is read without it

    with atomic(path) as partial, partial.open("wb") as file:
        # Not the file itself: numpy's `tofile` then loses why a disk takes no more.
        np.save(SimpleNamespace(write=file.write), array)


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
