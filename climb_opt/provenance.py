"""What a result was made with: code, libraries, machine; without importing them."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path

import climb_opt

LIBRARIES = (
    "optuna",
    "numpy",
    "scipy",
    "scikit-learn",
    "botorch",
    "lightgbm",
    "torch",
    "accelerate",
    "transformers",
    "lm_eval",
)


@functools.lru_cache
def provenance() -> dict[str, str | int]:
    """Plain facts about this process, the same for all its trials."""
    facts: dict[str, str | int] = {
        "version": climb_opt.__version__,
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
    }
    commit = _commit(Path(climb_opt.__file__).parents[1])
    if commit is not None:
        facts["commit"] = commit
    return {**facts, **libraries()}


@functools.lru_cache
def libraries() -> dict[str, str]:
    """Versions of the packages that decide figures, as far as they are installed."""
    found = {}
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def _commit(folder: Path) -> str | None:
    """The commit of a checkout, marked when its tracked files were changed since."""
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else commit[:12] + ("+changes" if changed else "")


def _git(folder: Path, *command: str) -> str | None:
    try:
        words = ["git", "-C", str(folder), *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
