"""The folder of a corpus: whose it is, one build at a time, what happens when the disk fills."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from climb_opt import strict
from climb_opt.corpus.documents import is_unread
from climb_opt.corpus.files import load_json, locked, save_json
from climb_opt.corpus.options import BuildOptions, Plan, plan_from
from climb_opt.corpus.read.files import OF_EACH
from climb_opt.corpus.read.source import Source
from climb_opt.errors import UserError, listed
from climb_opt.files import against, is_full, writing
from climb_opt.recipe_files import difference
from climb_opt.shards import MANIFEST, Corpus
from climb_opt.text import storable

WORK = "work"
PLAN = "plan.json"
EXAMPLES = 3  # inputs in a line
CLUSTERS = "clusters.npz"  # of a corpus whose domains were found by clustering


def build_facts(plan: Plan) -> dict[str, Any]:
    """What decides a corpus's content, as the manifest stores it."""
    sources = [{"name": s.name, "version": s.version} for s in plan.sources]
    options = asdict(plan.options)
    if options["domain_field"] is None:  # version 0.1.0 knew no such option
        del options["domain_field"]
    facts = {"options": options, "sources": sources}
    return json.loads(json.dumps(facts))  # as it comes back: no tuples


def save_plan(plan: Plan, work: Path) -> None:
    """Keep the plan with the stages, so that exports find them without the inputs."""
    save_json(
        work / PLAN, {"options": asdict(plan.options), "sources": list(map(asdict, plan.sources))}
    )


def inputs_moved(plan: Plan, work: Path) -> str | None:
    """A line: what became of the inputs since the same ones were named for the build in `work`."""
    file = work / PLAN
    stored = load_json(file) if file.is_file() else None
    if stored is None or stored["options"]["inputs"] != list(plan.options.inputs):
        return None
    before = _versions([strict.build(Source, s, str(file)) for s in stored["sources"]])
    now = _versions(plan.sources)
    changed = [name for name, version in now.items() if before.get(name, version) != version]
    kinds = {"gone": before.keys() - now.keys(), "new": now.keys() - before.keys()}
    parts = [
        f"{len(names):,} {kind} ({listed(map(storable, sorted(names)), EXAMPLES)})"
        for kind, names in {**kinds, "changed": changed}.items()
        if names
    ]
    if not parts:
        return None
    return (
        f"Since this build was begun, of its inputs are {', '.join(parts)}. All are read again as "
        f"they are now; what was made of them before stays in {storable(str(work))}."
    )


def _versions(sources: Sequence[Source]) -> dict[str, str]:
    """The version of each input; of texts, which have none of their own, that of their folder."""
    found: dict[str, str] = {}
    for source in sources:
        files = source.extra.get("files")
        name = source.path if files is None else os.path.join(source.path, "")
        found[name] = f"{found.get(name, '')} {source.bytes}-{source.version}"
        found |= {os.path.join(name, file): "" for file in files or ()}
    return found


def lacks_unread(provenance: Mapping[str, Any]) -> bool:
    """Whether a corpus was built without inputs that may be read another time."""
    return is_unread(provenance.get("damaged", ()), provenance.get("skipped", {}))


def load_plan(output: Path) -> Plan:
    """The plan that the stages of a corpus were made with.

    Raises:
        UserError: the stages were deleted, or the corpus was not built from documents.
    """
    file = output / WORK / PLAN
    if not file.is_file():
        raise UserError(
            f"{str(output)!r} has no {WORK} folder with the documents; it was cleaned, copied "
            "without it, or imported. Build the corpus again to export documents."
        )
    data = load_json(file)
    options = strict.build(BuildOptions, data["options"], str(file))
    sources = [strict.build(Source, s, str(file)) for s in data["sources"]]
    return plan_from(options, sources)


@contextmanager
def prepared(
    plan: Plan,
    output: Path,
    part: tuple[int, int],
    overwrite: bool,
    touch: bool = True,
    wait: bool = False,
) -> Iterator[Corpus | None]:
    """The output folder, ready and locked for this process; the corpus, if it is finished.

    Args:
        overwrite: let a corpus made with other options be replaced.
        touch: False leaves a corpus that is there alone, whatever it is.
        wait: for another process that builds there, instead of refusing.
    """
    with writing(output):
        _check(output)
        (output / WORK).mkdir(parents=True, exist_ok=True)
    try:
        with locked(output / WORK, part, wait=wait):
            if part == (1, 1):
                _sweep(output / WORK)
            yield _finished(plan, output, overwrite) if touch else None
    except OSError as error:
        if is_full(error) or isinstance(error, PermissionError):
            raise UserError(f"{against(output, error)} Finished stages are kept.") from None
        raise


def _check(output: Path) -> None:
    foreign = output.is_dir() and any(output.iterdir())
    if foreign and not (output / MANIFEST).exists() and not (output / WORK).is_dir():
        raise UserError(
            f"--output {str(output)!r} holds other files and no corpus; name a new folder."
        )


def _sweep(work: Path) -> None:
    """Delete what a killed build left unfinished; nobody else builds here now."""
    for rest in [*work.glob("*/*.partial"), *work.glob("*/buckets-*")]:
        if rest.is_dir():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            rest.unlink(missing_ok=True)


def _finished(plan: Plan, output: Path, overwrite: bool) -> Corpus | None:
    manifest = output / MANIFEST
    if not manifest.exists():
        return None
    provenance, ours = load_json(manifest).get("provenance", {}), build_facts(plan)
    stored = provenance.get("build")
    if stored in (ours, _as_before(ours)) and not (overwrite and lacks_unread(provenance)):
        return Corpus.load(output)
    if not overwrite:
        lines = difference(stored or {}, ours)
        raise UserError(
            f"{str(output)!r} holds another corpus ({'; '.join(lines[:5])}). Name another "
            "--output, or replace it with `climb-opt corpus build ... --overwrite` (finished "
            "stages are reused)."
        )
    manifest.unlink()
    return None


def _as_before(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A build's facts as version 0.1.0 had them: of texts, it said the newest one's time alone."""
    sources = [{**s, "version": s["version"].partition(OF_EACH)[0]} for s in facts["sources"]]
    return {**facts, "sources": sources}
