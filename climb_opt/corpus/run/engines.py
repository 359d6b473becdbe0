"""The engines by name: what runs the units of a map.

An engine only decides where a task runs. A task reads finished artefacts and writes its own, so
every engine gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from climb_opt import lookup
from climb_opt.corpus.run.jobs import Engine
from climb_opt.corpus.run.local import Local

ENGINES = {"local": "this process and its children", "ray": "the nodes of a Ray cluster"}


@contextmanager
def open_engine(name: str, workers: int | None, paths: Sequence[str]) -> Iterator[Engine]:
    """The engine of that name, closed at the end.

    Args:
        workers: processes or tasks at once; None: as many as there are cores.
        paths: files and folders that every machine must see.

    Raises:
        UserError: no such engine; no cluster; a machine that does not see the paths.
    """
    if name == "local":
        yield Local(workers or os.cpu_count() or 1)
    elif name == "ray":
        from climb_opt.corpus.run.ray_engine import Ray

        with Ray(workers, paths) as engine:
            yield engine
    else:
        raise lookup.unknown("engine", name, ENGINES)
