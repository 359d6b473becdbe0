"""A trial's state on disk: written whole or not at all, one file a trial.

The checkpoint carries a fingerprint of what it was trained on (mixture, seed, recipe, corpus): a
retry with anything changed starts afresh rather than continuing another run.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

FILE = "checkpoint.pt"


def save(folder: Path, fingerprint: str, state: dict[str, Any]) -> int:
    """Write the state of a trial; returns its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{FILE}.partial"
    with partial.open("wb") as file:
        torch.save({"fingerprint": fingerprint, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    size = partial.stat().st_size
    os.replace(partial, folder / FILE)
    return size


def load(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of a trial with this fingerprint, tensors on the CPU; None if there is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state.pop("fingerprint") != fingerprint:
        log.warning("%s belongs to another mixture, seed or recipe; starting afresh.", path)
        return None
    return state


def remove(folder: Path) -> None:
    """Forget a trial's state: it is finished, or lost for good."""
    for path in (folder / FILE, folder / f"{FILE}.partial"):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
