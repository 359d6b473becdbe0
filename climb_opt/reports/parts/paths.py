"""The section on the path that a method's weights took in the best trial."""

from __future__ import annotations

from climb_opt.attributes import PATH
from climb_opt.paths import path_columns
from climb_opt.reports.contents import Contents
from climb_opt.reports.section import Cell, Heat, Name, Section, Table, Words
from climb_opt.selection.rules import best_path

COLUMNS = 8  # parts of the run that are shown


def path(contents: Contents) -> Section | None:
    """Where the weights went while the best trial's proxy trained, if a method moved them."""
    history = contents.snapshot.history
    if not any(PATH in trial.user_attrs for trial in history.trials):
        return None
    trial, found = best_path(history)
    columns = path_columns(found, COLUMNS)
    mean = columns["mean"]
    names = sorted(mean, key=lambda name: -mean[name])
    largest = max(max(column.values()) for column in columns.values())
    rows: list[list[Cell]] = [
        [Name(name), *(Heat(column[name], largest) for column in columns.values())]
        for name in names
    ]
    recipe = contents.snapshot.recipe
    method = recipe.proxy.reweight.name if recipe and recipe.proxy.reweight else "a method"
    words = (
        f"Mean weights, in %, that {method} set in each part of the training of trial "
        f"{trial.number}, the best of those whose weights moved. The rule path-mean keeps their "
        "mean, path-end what they end with; `climb-opt export --phases N` hands the path over as a "
        "schedule."
    )
    return Section("path", "Path of the weights", [Words(words), Table(["domain", *columns], rows)])
