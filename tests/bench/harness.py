"""What benchmarks share. It is their first import: it keeps numpy and torch to one thread.

One of many runs keeps a line of JSON for each in a file, which resumes and may be shared.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch start their threads
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna

from climb_opt.shards import Corpus, Domain, Stream

T = TypeVar("T")
Row = dict[str, Any]
TABLES = Path(__file__).parents[3] / "shared" / "data" / "tables"
CACHE = Path.home() / ".cache" / "climb_opt"
USUAL: dict[str, Row] = {  # arguments of several
    "output": {"type": Path, "help": "JSON lines: runs done, to resume or share"},
    "tables": {"type": Path, "default": TABLES, "help": "folder of published tables"},
    "cache": {"type": Path, "default": CACHE, "help": "folder of fitted emulators"},
    "first-seed": {"type": int, "default": 0},
}


def parser_of(doc: str | None, *usual: str) -> argparse.ArgumentParser:
    """A benchmark's command line, with these of the `USUAL` arguments; it also silences others."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=doc)
    for name in usual:
        parser.add_argument(f"--{name}", **USUAL[name])
    return parser


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the CPU seconds it took."""
    begun = time.process_time()
    return work(), time.process_time() - begun


class Quiet:
    """Watches a training: nobody stops it, nobody prunes it."""

    def stop(self) -> bool:
        return False

    def report(self, network: Any, step: int) -> bool:
        return False


def random_corpus(folder: Path, vocabulary: int, domains: int = 1, tokens: int = 2**24) -> Corpus:
    """Random tokens: speed does not depend on what they say."""
    rng, made = np.random.default_rng(0), []
    for k in range(domains):
        name = f"domain_{k:03d}.bin"
        rng.integers(0, vocabulary, tokens, dtype=np.uint16).tofile(folder / name)
        made.append(Domain(f"d{k}", (Stream(name, tokens, 1, tokens, str(k)),)))
    return Corpus(folder, "random", tuple(made), {}, "uint16", vocabulary, 0)


# --- runs that resume ----------------------------------------------------------------------------


def key_of(row: Row, key: Sequence[str]) -> tuple[Any, ...]:
    """What tells a run from the others."""
    return tuple(row[name] for name in key)


def rows_of(path: Path | None) -> list[Row]:
    """The runs done; none without a file."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def load(path: Path | None, key: Sequence[str]) -> dict[tuple[Any, ...], Row]:
    """The runs done, by their keys."""
    return {key_of(row, key): row for row in rows_of(path)}


def append(path: Path | None, row: Row) -> None:
    """Add a run to the file, if there is one."""
    if path is not None:
        with path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def run_all(
    wanted: Iterable[Row], key: Sequence[str], path: Path | None, run: Callable[[Row], Row]
) -> list[Row]:
    """The rows `wanted` with what `run` finds, those done already from the file; and those of
    processes beside this one."""
    done, asked = load(path, key), []
    for row in wanted:
        name = key_of(row, key)
        asked.append(name)
        if name not in done:
            done[name] = row | run(row)
            append(path, done[name])
    found = load(path, key) or done
    return [found[name] for name in dict.fromkeys(asked) if name in found]
