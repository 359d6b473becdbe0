"""Benchmarks of many runs: a line of JSON for each in a file that resumes and may be shared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def key_of(row: Row, key: Sequence[str]) -> tuple[Any, ...]:
    """What tells a run from the others."""
    return tuple(row[name] for name in key)


def load(path: Path | None, key: Sequence[str]) -> dict[tuple[Any, ...], Row]:
    """The runs done, by their keys; none without a file."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return {key_of(row, key): row for row in rows}


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
