"""Documents -> corpus: the stages (order.py), then shards, tokenizer and the clusters' map.

Stop it anywhere and run it again.

`build_corpus` is `climb_opt.build_corpus`, and does as `climb-opt corpus build` does.

The manifest is written last: a folder without one is not a corpus.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import recipe_files, recipes
from climb_opt.corpus.after.show import caution
from climb_opt.corpus.files import save_arrays
from climb_opt.corpus.folder import (
    CLUSTERS,
    WORK,
    build_facts,
    inputs_moved,
    lacks_unread,
    prepared,
    save_plan,
)
from climb_opt.corpus.options import Plan, make_plan, options_of
from climb_opt.corpus.order import Build
from climb_opt.corpus.run.local import open_engine
from climb_opt.corpus.run.workspace import Workspace
from climb_opt.corpus.stages import domains
from climb_opt.corpus.stages.counts import Stages
from climb_opt.corpus.stages.gather import completed, gather
from climb_opt.corpus.stages.roles import COPY, NEAR, NEAR_TARGET
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError, check_number, did_you_mean
from climb_opt.files import atomic
from climb_opt.shards import Corpus
from climb_opt.text import storable

logger = logging.getLogger(__name__)

MOST_CHECKED = 64  # inputs that a cluster's nodes are asked for
DROPPED = {COPY: "copies", NEAR: "near_copies", NEAR_TARGET: "near_copies_of_targets"}


def build_corpus(
    inputs: str | Path | Iterable[str | Path],
    output: str | Path | None = None,
    *,
    engine: str = "local",
    workers: int | None = None,
    progress: bool | None = None,
    overwrite: bool = False,
    **keys: Any,
) -> Corpus:
    """Build a corpus of documents, or finish one that was begun in the same folder.

    Args:
        inputs: files, folders, globs or prefixed inputs; or the name or file of a recipe.
        output: the corpus's folder; a recipe may say it.
        engine: "local", or "ray" for a Ray cluster. The bytes are the same.
        workers: processes or tasks at once; None: as many as there are cores.
        progress: False shows none.
        overwrite: replace a corpus made with other options.
        keys: of `climb_opt.corpus_recipe.CorpusRecipe`, the options of `climb-opt corpus build`.

    Raises:
        UserError: bad input; an unknown key; another corpus in `output`; no space left.

    >>> import climb_opt
    >>> from pathlib import Path
    >>> for domain in ("prose", "verse"):
    ...     text = '{"text": "%s, number %d of them all"}'
    ...     lines = [text % (domain, number) for number in range(40)]
    ...     Path(f"docs/{domain}").mkdir(parents=True)
    ...     _ = Path(f"docs/{domain}/a.jsonl").write_text("\\n".join(lines), encoding="utf-8")
    >>> corpus = climb_opt.build_corpus(
    ...     "domains:docs", "corpora/docs", vocab_size=300, near_duplicates="off", progress=False
    ... )
    >>> sorted(corpus.tokens())
    ['prose', 'verse']
    """
    check_number("--workers", workers)
    named = [str(inputs)] if isinstance(inputs, str | Path) else [str(one) for one in inputs]
    given = keys if output is None else {**keys, "output": str(output)}
    recipe = asked_for(named, given)
    plan = make_plan(options_of(recipe))
    found = build(
        plan,
        Path(str(recipe.output)),
        engine=engine,
        workers=workers,
        progress=progress,
        overwrite=overwrite,
    )
    assert found is not None  # this is part 1
    return found


def asked_for(
    inputs: Sequence[str], given: Mapping[str, Any], overrides: Sequence[str] = ()
) -> CorpusRecipe:
    """The corpus that these inputs and keys ask for: a recipe, changed by them, or all by them.

    Args:
        overrides: `key=value`, applied to the recipe that `inputs` names.

    Raises:
        UserError: a recipe beside other inputs, overrides of none, no folder, an unknown key.
    """
    named = [name for name in inputs if _is_recipe(name)]
    if named and len(inputs) > 1:
        raise UserError(
            f"{named[0]!r} is a recipe, which names its own inputs: leave the others out, or say "
            f"--set 'inputs=[...]'."
        )
    if named:
        return recipes.read_corpus(named[0], overrides, **given)
    first = repr(inputs[0]) if inputs else "nothing"
    names = recipe_files.names("corpora")
    if overrides:
        raise UserError(
            f"--set {overrides[0]!r} changes a recipe, but {first} is an input; name a recipe "
            f"({', '.join(names)} or a .yaml file), or give flags."
        )
    if given.get("output") is None:
        hint = did_you_mean(inputs[0], names) if inputs else ""
        raise UserError(
            f"--output FOLDER is missing: where to build. {first} is no recipe, which could say it."
            f"{hint} Shipped: {', '.join(names)}."
        )
    return recipes.corpus_from({"inputs": list(inputs), **given})


def _is_recipe(name: str) -> bool:
    shipped = name in recipe_files.names("corpora") and not Path(name).exists()
    return shipped or Path(name).suffix in (".yaml", ".yml")


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
        overwrite: replace a corpus made with other options, or without what could not be read.
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
            if lacks_unread(finished.provenance):
                logger.warning("Some inputs could not be read: --overwrite tries them again.")
            return finished
        logger.info("Building the corpus %s.", storable(str(output)))
        if part[0] == 1:
            if (moved := inputs_moved(plan, output / WORK)) is not None:
                logger.warning("%s", moved)
            save_plan(plan, output / WORK)
        with open_engine(engine, workers, _shared_paths(plan, output)) as runs:
            workspace = Workspace(output / WORK, part, runs, progress)
            build = Build(plan, workspace)
            try:
                stages = build.prepare(retry=part == (1, 1))
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
    ready = prepared(plan, output, (1, 1), True, touch=False)
    with ready, open_engine(engine, workers, _shared_paths(plan, output)) as runs:
        build = Build(plan, Workspace(output / WORK, (1, 1), runs, progress))
        stages = build.prepare()
        return domains.removable(stages, build.clusters_count, plan.rule, plan.options.seed)


def _shared_paths(plan: Plan, output: Path) -> list[str]:
    """What every machine that helps must see: the stages and, of many inputs, some."""
    inputs = [s.path for s in plan.sources if Path(s.path).exists()]
    return [str(output / WORK), *inputs[:: -(-len(inputs) // MOST_CHECKED) or 1]]


# --- the last step --------------------------------------------------------------------------------


def write_corpus(output: Path, build: Build, stages: Stages, found: dict[str, Any]) -> Corpus:
    """Write everything and return the corpus as it loads.

    Args:
        found: what `domains.make_domains` decided.
    """
    plan, facts = build.plan, build.facts
    for stem in ("domain_*", "target_*"):
        for old in [*output.glob(f"{stem}.bin"), *output.glob(f"{stem}.idx")]:
            old.unlink()  # of an interrupted or replaced build; there is no manifest now
    (output / CLUSTERS).unlink(missing_ok=True)
    domains, targets = gather(output, stages, found, plan.targets, facts.dtype, build.seed)
    with atomic(output / "tokenizer.json") as partial:
        partial.write_bytes(build.tokenizer_file.read_bytes())
    if build.centres is not None:
        domain = np.array(found["of_cluster"], dtype=np.int32)
        centroids = build.centres.astype(np.float32)
        save_arrays(output / CLUSTERS, {"centroids": centroids, "domain": domain})
    tokens = (facts.dtype, facts.vocab_size, facts.eos)
    name, origin = plan.options.name, provenance(build, found)
    corpus = completed(Corpus(output, name, domains, targets, *tokens, origin))
    caution(corpus)
    return corpus


def provenance(build: Build, found: dict[str, Any]) -> dict[str, Any]:
    """Where a corpus comes from: all that decides its content, and what was left out and why.

    Nothing here depends on when or how fast it was built: the same build gives the same bytes.
    """
    read = build.inventory
    return {
        "build": build_facts(build.plan),
        "end_of_text": asdict(build.end),
        "documents": read.documents,
        "skipped": read.bad,
        "damaged": list(read.damaged),
        **({"without": read.without} if read.without else {}),
        **({"lost_domains": build.lost} if build.lost else {}),
        "dropped": {text: build.counts.get(role, 0) for role, text in DROPPED.items()},
        "repeated_ids": build.copies["repeated_ids"],
        "kmeans": build.fitted,
        "clusters": found["sizes"],
        "unclustered": found["unclustered"],
        "fewer_domains": found.get("fewer"),
        "removed": found["removed"],
        "ward_distance_to_domains": found["thresholds"],
        "labels": build.labelled,
    }
