"""Documents -> corpus: the stages (order.py), then the shards. Stop it anywhere and run it again.

The manifest is written last: a folder without one is not a corpus.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from climb_opt.corpus.finish import write_corpus
from climb_opt.corpus.folder import WORK, prepared, save_plan
from climb_opt.corpus.options import Plan
from climb_opt.corpus.order import Build
from climb_opt.corpus.run.engines import open_engine
from climb_opt.corpus.run.workspace import Workspace
from climb_opt.corpus.stages import domains
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from climb_opt.text import storable

logger = logging.getLogger(__name__)

MOST_CHECKED = 64  # inputs that a cluster's nodes are asked for


def build(
    plan: Plan,
    output: Path,
    *,
    part: tuple[int, int] = (1, 1),
    engine: str = "local",
    workers: int | None = 1,
    progress: bool | None = None,
    overwrite: bool = False,
    wait: bool = False,
) -> Corpus | None:
    """Build a corpus in `output`, or finish one that was begun there.

    Args:
        part: (i, n): do the i-th of n shares and wait for the others. Only part 1 writes the
            corpus; for the others the result is None.
        engine: "local": this machine; "ray": a Ray cluster. The bytes are the same.
        workers: processes or tasks at once; None: as many as there are cores.
        progress: False shows none; otherwise bars at a terminal, lines elsewhere.
        overwrite: replace a corpus made with other options.
        wait: for another process that builds there, instead of refusing.

    Raises:
        UserError: bad input; another corpus in `output`; no space left on the disk.
    """
    if engine != "local" and part != (1, 1):
        raise UserError(
            f"--part shares a build without a cluster; leave it out of --engine {engine}."
        )
    with prepared(plan, output, part, overwrite, wait=wait) as finished:
        if finished is not None:
            logger.info("%s is already built.", storable(str(output)))
            return finished
        logger.info("Building the corpus %s.", storable(str(output)))
        if part[0] == 1:
            save_plan(plan, output / WORK)
        with open_engine(engine, workers, _shared_paths(plan, output)) as runs:
            workspace = Workspace(output / WORK, part, runs, progress)
            build = Build(plan, workspace)
            try:
                stages = build.prepare()
                found = build.decide(stages)
            except UserError as error:
                workspace.fail(str(error))
                raise
        if part[0] != 1:
            logger.info("This part is done; part 1 writes the shards.")
            return None
        return write_corpus(output, build, stages, found)


def preview(
    plan: Plan,
    output: Path,
    *,
    engine: str = "local",
    workers: int | None = 1,
    progress: bool | None = None,
) -> list[dict[str, Any]]:
    """The clusters that the plan's pruning would remove: reason, size, sample documents.

    Nothing is removed; what was computed stays in `output`/work for the build itself.
    """
    with (
        prepared(plan, output, (1, 1), True, touch=False),
        open_engine(engine, workers, _shared_paths(plan, output)) as runs,
    ):
        build = Build(plan, Workspace(output / WORK, (1, 1), runs, progress))
        stages = build.prepare()
        return domains.removable(stages, build.clusters_count, plan.rule, plan.options.seed)


def _shared_paths(plan: Plan, output: Path) -> list[str]:
    """What every machine that helps must see: the stages and, of many inputs, some."""
    inputs = [s.path for s in plan.sources if Path(s.path).exists()]
    return [str(output / WORK), *inputs[:: -(-len(inputs) // MOST_CHECKED) or 1]]
