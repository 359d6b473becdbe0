"""Artefacts on disk: they appear under their final name only when they are complete."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.files import atomic, save_array, take_flock, write_whole
from climb_opt.text import storable

logger = logging.getLogger(__name__)


def load_array(path: Path, *, mapped: bool = True) -> np.ndarray:
    """An array of `save_array`, memory-mapped unless it is empty."""
    return np.load(path, mmap_mode="r" if mapped else None)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Named arrays as .npz, atomically."""
    with atomic(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # of a parameter that is not named


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `save_arrays`."""
    with np.load(path) as data:
        return dict(data)


def save_json(path: Path, data: Any) -> None:
    """Plain data as JSON, atomically. Paths that are not UTF-8 come back as they were."""
    write_whole(path, json.dumps(data, indent=1, ensure_ascii=False))


def save_lines(path: Path, rows: Iterable[Any]) -> None:
    """Plain data as JSON lines, atomically."""
    with atomic(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def load_json(path: Path) -> Any:
    """Plain data of `save_json`."""
    return json.loads(path.read_text(encoding="utf-8"))


# How an artefact is written and read, by its ending.
FORMS: dict[str, tuple[Callable[[Path, Any], None], Callable[[Path], Any]]] = {
    ".json": (save_json, load_json),
    ".npy": (save_array, load_array),
    ".npz": (save_arrays, load_arrays),
}


@contextmanager
def locked(folder: Path, part: tuple[int, int], *, wait: bool = False) -> Iterator[None]:
    """Let one process build a corpus (or part) at a time; a second one waits, or is refused."""
    lock = folder / f"lock-{part[0]}-of-{part[1]}"
    try:
        held = take_flock(lock, wait=False)
    except ImportError:  # Windows: no advisory locks; two builds would redo each other's work
        yield
        return
    except BlockingIOError:
        if not wait:
            raise UserError(
                f"Another process is building {str(folder.parent)!r}; wait for it, or give each "
                "process its own --part i/n."
            ) from None
        logger.info("Another process is building %s; waiting for it.", storable(str(folder.parent)))
        held = take_flock(lock)
    with os.fdopen(held):  # closed at the end
        yield
