"""A trial's state on disk: written whole or not at all, one file a trial.

The checkpoint carries a fingerprint of what it was trained on (mixture, seed, recipe, corpus): a
retry with anything changed starts afresh rather than continuing another run. So does one that finds
a file which is cut short, empty, or of another program: a checkpoint saves time, and no state of
the disk may cost a slot its attempts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from climb_opt.errors import brief
from climb_opt.files import atomic

log = logging.getLogger(__name__)

FILE = "checkpoint.pt"


def save(folder: Path, fingerprint: str, state: dict[str, Any]) -> int:
    """Write the state of a trial; returns its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    # Under a name of its own: who lost the trial and who has it now may write at once.
    with atomic(folder / FILE) as partial:
        with partial.open("wb") as file:
            torch.save({"fingerprint": fingerprint, **state}, file)
        sync(partial)
        size = partial.stat().st_size
    sync(folder)
    return size


def load(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of a trial with this fingerprint, tensors on the CPU; None if there is none."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state.pop("fingerprint")
    except Exception as error:  # of damaged or foreign bytes torch and pickle raise anything
        _start_afresh(path, f"cannot be read as a checkpoint ({brief(error, 120)})")
        return None
    if found != fingerprint:
        _start_afresh(path, "belongs to another mixture, seed, recipe or method")
        return None
    return state


def resume(
    folder: Path,
    fingerprint: str,
    restore: Callable[[dict[str, Any]], None],
    *,
    begin: Callable[[], None],
) -> None:
    """Hand the state of a trial, if there is one, to `restore`.

    Where `restore` cannot use it, `begin` is called, to build anew what was changed. Memory that
    does not suffice is no fault of the file, and is raised.
    """
    state = load(folder, fingerprint)
    if state is None:
        return
    try:
        restore(state)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a state of another torch or transformers: any
        _start_afresh(folder / FILE, f"does not fit this trial ({brief(error, 120)})")
        begin()


def remove(folder: Path) -> None:
    """Forget a trial's state: it is finished, or lost for good."""
    for path in folder.glob(f"{FILE}*"):  # and what writers who were killed left
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk: a power cut leaves no empty file behind."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folder
    place = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _start_afresh(path: Path, why: str) -> None:
    log.warning("%s %s; starting afresh.", path, why)
