"""The section on the paths that methods' weights took: of baselines, and in the best trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial

from climb_opt.attributes import PATH
from climb_opt.paths import path_columns
from climb_opt.reports.contents import Contents
from climb_opt.reports.section import Block, Cell, Heat, Name, Section, Table, Words
from climb_opt.selection.rules import best_path

COLUMNS = 8  # parts of the run that are shown


def path(contents: Contents) -> Section | None:
    """Where the weights went while proxies trained, if methods moved them: those of baselines, and
    of the best of the trials that were all trained so."""
    history, recipe = contents.snapshot.judged, contents.snapshot.recipe
    blocks: list[Block] = [Words(f"{said}.") for said in contents.snapshot.told_of_methods()]
    blocks += [block for m in history.methods for block in _blocks(m.name, m.trial, m.path)]
    if any(PATH in trial.user_attrs for trial in history.trials):
        method = recipe.proxy.reweight.name if recipe and recipe.proxy.reweight else "a method"
        trial, found = best_path(replace(history, methods=()))
        blocks += _blocks(method, trial, found, ", the best of those whose weights moved")
    if not blocks:
        return None
    blocks.append(
        Words(
            "The rule path-mean keeps the mean of the best trial's path, path-end what it ends "
            "with; `climb-opt export --phases N` hands the path over as a schedule."
        )
    )
    return Section("path", "Path of the weights", blocks)


def _blocks(method: str, trial: FrozenTrial, found: Mapping[str, Any], of: str = "") -> list[Block]:
    columns = path_columns(found, COLUMNS)
    mean = columns["mean"]
    names = sorted(mean, key=lambda name: -mean[name])
    largest = max(max(column.values()) for column in columns.values())
    rows: list[list[Cell]] = [
        [Name(name), *(Heat(column[name], largest) for column in columns.values())]
        for name in names
    ]
    words = (
        f"Mean weights, in %, that {method} set in each part of the training of trial "
        f"{trial.number}{of}."
    )
    return [Words(words), Table(["domain", *columns], rows)]
