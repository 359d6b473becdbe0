"""The embedded storage: one append-only file, safe for several processes on one machine.

Optuna's own lock for it is a symlink: a killed holder stalls everybody for 30 s
(docs/notes/running.md#optuna). An `flock` is freed by the kernel at once. A line that was cut short
(full disk, power loss) would make Optuna lose the next write silently and then fail for ever; it is
cut off before the next write. Other damage is read around (`salvage.py`).
"""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path

from optuna.storages import JournalStorage

from climb_opt.errors import UserError
from climb_opt.files import against, is_full, take_flock
from climb_opt.storages.database import StorageAway
from climb_opt.storages.salvage import START, SalvagingBackend, in_use

SQLITE_MAGIC = b"SQLite format 3\x00"

# A disk that fails, a network file system that moved: it may be mended.
DISK = {errno.EIO, errno.ESTALE}

log = logging.getLogger(__name__)


class JournalLock:
    """Held while a process appends to the journal; mends a torn last line when taken.

    The file is not `<journal>.lock`: that name belongs to the symlink of Optuna's own lock, which
    the dashboard takes.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file = Path(f"{journal}.flock")
        self._descriptor = -1

    def acquire(self) -> bool:
        with in_use(self._journal):
            descriptor = take_flock(self._file)
            try:
                cut = mend(self._journal)
            except BaseException:  # kept open, it would lock this process out itself
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        if cut:
            log.warning(
                "Journal %r: its last line was cut short; its %d bytes are dropped.",
                str(self._journal),
                cut,
            )
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def mend(journal: Path) -> int:
    """Cut off a last line without its line end. Returns the bytes cut off; needs the lock."""
    with open(journal, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        keep = size
        while keep > 0:
            start = max(0, keep - 65536)
            file.seek(start)
            end = file.read(keep - start).rfind(b"\n")
            if end >= 0:
                keep = start + end + 1
                break
            keep = start
        if keep < size:
            file.truncate(keep)
    return size - keep


def open_journal(path: str | Path, *, write: bool = True) -> JournalStorage:
    """The storage of a journal file, created with its folder unless `write` is False.

    Raises:
        UserError: not a journal, missing, or not writable. One that is damaged is read as far as
            it can be (`salvage.py`).
    """
    path = Path(path)
    _check(path, write)
    backend = SalvagingBackend(str(path), JournalLock(path))
    try:
        storage = JournalStorage(backend)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise UserError(  # a line that only looks fine
            f"Journal {str(path)!r} is damaged in or before line {backend.line} "
            f"({type(error).__name__}: {error}). Delete that line, or restore the file; every line "
            "is one change."
        ) from None
    if not backend.readable and (backend.damaged or not _begins_like_one(path)):
        raise UserError(f"{str(path)!r} is not a journal of Optuna; give another --storage.")
    if not write and _is_torn(path):
        log.warning("Journal %r: its last line is cut short and left out.", str(path))
    return storage


def _begins_like_one(journal: Path) -> bool:
    with open(journal, "rb") as file:
        head = file.read(len(START))
    return head.startswith(START) or START.startswith(head)


def _is_torn(journal: Path) -> bool:
    """Whether the last line has no end, and is not just being written."""
    sizes = []
    for pause in (0.05, 0.0):
        with open(journal, "rb") as file:
            sizes.append(file.seek(0, os.SEEK_END))
            if not sizes[-1] or (file.seek(-1, os.SEEK_END) and file.read(1) == b"\n"):
                return False
        time.sleep(pause)
    return sizes[0] == sizes[1]


def _check(path: Path, write: bool) -> None:
    try:
        if path.is_dir():
            raise UserError(f"Journal {str(path)!r} is a folder; give the path of a file.")
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            for file in (path, Path(f"{path}.flock")):
                with open(file, "ab"):
                    pass
        elif not path.is_file():
            raise UserError(f"No journal {str(path)!r}; give --storage or set OPTUNA_STORAGE.")
        with open(path, "rb") as journal:
            head = journal.read(len(SQLITE_MAGIC))
    except OSError as error:
        if is_full(error):
            raise UserError(f"Journal {against(path, error)}") from None
        kind = StorageAway if error.errno in DISK else UserError
        raise kind(
            f"Journal {str(path)!r} cannot be {'written' if write else 'read'}: {error.strerror}. "
            "Check the rights of the file and its folder, or give another --storage."
        ) from None
    if head == SQLITE_MAGIC:
        raise UserError(f"{str(path)!r} is an SQLite file; give it as sqlite:///{path}.")
