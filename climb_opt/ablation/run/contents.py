"""What decides a run beside its own recipe: what the files, searches and code it names hold.

A result keeps their digests (`RunResult.contents`), so that one of a table or a method that has
changed since is not taken for the new one's; memories of what was read are keyed by them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from climb_opt import lookup, recipes
from climb_opt.ablation.recipe.recipe import LIVE
from climb_opt.ablation.recipe.resolve import Run
from climb_opt.attributes import SPACE
from climb_opt.shards import file_digest
from climb_opt.storages import open_storage
from climb_opt.strict import as_list
from climb_opt.view import study_named

FILES = ("mixtures", "results", "runs", "recipes", "file", "path")  # options that name files
Contents = dict[str, str]


def contents(run: Run) -> Contents:
    """Name -> digest of all that an emulated run reads; what is not there has none. Of a live run:
    by what test it is judged.

    Raises:
        UserError: a storage of searches that cannot be read, or has no such search.
    """
    if run.objective.name == LIVE:
        return {"test": hashlib.sha256(recipes.to_json(run.test).encode()).hexdigest()[:16]}
    found = of_options({**run.objective.options, **run.arm.options.objective})
    own = run.arm.options.method or run.arm.study.sampler
    for choice in (own, run.arm.options.final):
        if ":" in choice.name and (digest := _of_code(choice.name.partition(":")[0])):
            found[choice.name] = digest
    return found


def of_options(options: Mapping[str, Any], folder: str | None = None) -> Contents:
    """Name -> digest of the tables that an objective's options name."""
    folder = str(options.get("folder", ".")) if folder is None else folder
    found: Contents = {}
    for name, path in _files(options, Path(folder)):
        if path.is_file():
            told = path.stat()
            found[name] = _of_file(path, told.st_mtime_ns, told.st_size)
    for name, table in dict(options.get("tables") or {}).items():
        if isinstance(table, Mapping) and "studies" in table:
            where, names = table.get("storage"), tuple(map(str, as_list(table["studies"])))
            found[f"tables.{name}"] = studies_of(where, names)[1]
    return found


def reads_files(options: Mapping[str, Any]) -> bool:
    """Whether an objective's options name tables, so that it takes more than the recipe."""
    return "tables" in options or any(_files(options, Path()))


@cache
def studies_of(storage: str | None, names: tuple[str, ...]) -> tuple[list[optuna.Study], str]:
    """Searches, and a digest of their finished trials and priors; read once a process.

    Raises:
        UserError: the storage cannot be read, or has no such search.
    """
    opened = open_storage(storage, write=False)
    found, digest = [], hashlib.sha256()
    for name in names:
        if (study := study_named(opened, name)) is None:
            raise lookup.unknown("study", name, optuna.get_all_study_names(opened))
        if space := study.user_attrs.get(SPACE):
            digest.update(json.dumps(space, sort_keys=True).encode())
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            digest.update(json.dumps([trial.params, trial.values], sort_keys=True).encode())
        found.append(study)
    return found, digest.hexdigest()[:16]


# --- private -------------------------------------------------------------------------------------


def _files(options: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that options name, as they spell them and where they are."""
    for key, value in options.items():
        for one in as_list(value):
            if isinstance(one, Mapping):
                yield from _files(one, Path(str(one.get("folder", folder))))
            elif key in FILES and isinstance(one, str):
                yield one, folder / one


@lru_cache(maxsize=256)
def _of_file(path: Path, changed: int, size: int) -> str:
    return file_digest(path)[:16]


@cache  # as modules are: once a process
def _of_code(module: str) -> str | None:
    file = lookup.file_of(module)
    return None if file is None else file_digest(file)[:16]
