"""Tables with a line for each recipe, size, seed and task, such as DataDecide's, as `Runs`."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.emulator.tables import LABELS, Runs
from climb_opt.errors import UserError, did_you_mean, listed, misnamed
from climb_opt.reading import check_once, read_csv, whole_rows
from climb_opt.sums import sum_problem
from climb_opt.written import float_or_nan

logger = logging.getLogger(__name__)

UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SIZE = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([KMBT]?)", re.IGNORECASE)
_NOTHING = re.compile(r"(?<=[\s:])(?:nan|null|none|-?inf(?:inity)?)(?=\s*[,}])", re.IGNORECASE)
COLUMNS = {
    "recipe": "data",
    "size": "params",
    "tokens": "tokens",
    "seed": "seed",
    "task": "task",
    "value": "metrics",
}


@dataclass(frozen=True)
class LongTable:
    """A table of recipes' weights and a long one of results, CSV or Parquet.

    Args:
        recipes: a row a recipe: its name in the results' `recipe` column, and a weight for each
            domain.
        results: a row for each recipe, size, seed, number of tokens and task; in one file or more.
        columns: what the results' columns are called where it is not DataDecide's way: recipe
            ("data"), size ("params", as 150M), tokens, seed, task, value ("metrics").
        metric: the entry of a value that is a mapping, as text, of several.
        ignore: columns of `recipes` that are neither the name nor a domain.
        unmatched: what to do with results of a recipe without weights: "error" or "drop".
    """

    recipes: Path
    results: Sequence[Path]
    columns: Mapping[str, str] | None = None
    metric: str = ""
    ignore: Sequence[str] = LABELS
    unmatched: str = "error"

    def read(self) -> Runs:
        """Its runs.

        Raises:
            UserError: an unreadable file, a missing column, a recipe without weights, weights off
                the simplex, a cell that is no number, or no run.
        """
        if self.columns is not None and not isinstance(self.columns, Mapping):
            raise UserError(
                f"columns must be a mapping of {listed(COLUMNS)} to names, not {self.columns!r}."
            )
        names = {**COLUMNS, **(self.columns or {})}
        if odd := sorted(set(names) - set(COLUMNS)):
            raise UserError(f"columns: no {odd[0]!r}.{did_you_mean(odd[0], COLUMNS)}")
        domains, mixtures = _mixtures(Path(self.recipes), names["recipe"], self.ignore)
        if self.unmatched not in ("error", "drop"):
            raise UserError(f'unmatched must be "error" or "drop", but is {self.unmatched!r}.')
        cells: dict[tuple[str, float, float, str], dict[str, float]] = {}
        left_out: set[str] = set()
        for where, row in (found for path in self.results for found in _rows(path, names)):
            recipe = row["recipe"]
            if recipe not in mixtures and self.unmatched == "error":
                raise UserError(
                    f"{where}: {self.recipes} has no weights of "
                    f"{misnamed('recipe', recipe, mixtures)} Complete it, or leave such recipes "
                    "out: unmatched: drop."
                )
            if recipe not in mixtures:
                left_out.add(recipe)
                continue
            size, tokens = (
                _amount(row[what], f"{where}, column {names[what]!r}")
                for what in ("size", "tokens")
            )
            run = (recipe, size, tokens, row["seed"])
            value = _value(row["value"], self.metric, f"{where}, column {names['value']!r}")
            task = row["task"]
            if task in cells.setdefault(run, {}):
                raise UserError(
                    f"{where}: a second result of {task!r} of recipe {recipe!r} with the same "
                    f"{names['size']}, {names['tokens']} and {names['seed']}; runs again need "
                    f"another {names['seed']}."
                )
            cells[run][task] = value
        said = listed(map(str, self.results))
        if left_out:
            logger.warning(
                "%s: recipes without weights left out: %s.", said, listed(sorted(left_out))
            )
        if not cells:
            raise UserError(f"{said} has no row{' of a recipe with weights' if left_out else ''}.")
        tasks = sorted({task for found in cells.values() for task in found})
        table = np.array([[found.get(task, np.nan) for task in tasks] for found in cells.values()])
        weights = np.array([mixtures[recipe] for recipe, *_ in cells])
        sizes, counts = (np.array([run[i] for run in cells], dtype=float) for i in (1, 2))
        results_named = tuple(f"{task}/{self.metric}" if self.metric else task for task in tasks)
        return Runs(domains, weights, sizes, counts, results_named, table)


# --- private -------------------------------------------------------------------------------------


def _rows(path: Path, names: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row is, and its cells by what they are."""
    header, rows = read_csv(path)
    for name in names.values():
        if name not in header:
            raise UserError(
                f"{path} has no column {name!r}.{did_you_mean(name, header)} Columns: "
                f"{listed(header)}; give columns: {{recipe, size, tokens, seed, task, value}}."
            )
    check_once(path, header, names.values())
    place = {what: header.index(name) for what, name in names.items()}
    for where, row in whole_rows(path, header, rows):
        yield where, {what: row[i] for what, i in place.items()}


def _mixtures(
    path: Path, key: str, ignore: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    header, rows = read_csv(path)
    if key not in header:
        raise UserError(f"{path} has no column {key!r}. Columns: {listed(header)}.")
    places = [i for i, name in enumerate(header) if name != key and name not in ignore]
    check_once(path, header, [key, *(header[i] for i in places)])
    if not places:
        raise UserError(f"{path} has no column of weights.")
    found: dict[str, np.ndarray] = {}
    for where, row in whole_rows(path, header, rows):
        weights = np.array(
            [_amount(row[i].replace("%", "e-2"), f"{where}, column {header[i]!r}") for i in places]
        )
        if problem := sum_problem(weights.tolist()):
            raise UserError(f"{where}: the weights of {row[header.index(key)]!r} {problem}")
        if (name := row[header.index(key)]) in found:
            raise UserError(f"{where}: recipe {name!r} is there twice.")
        found[name] = weights / weights.sum()
    return tuple(header[i] for i in places), found


def _amount(text: str, where: str) -> float:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{where}: {text!r} is no number from 0, such as 150M or 1e9.")
    return float(found[1]) * UNITS[found[2].upper()]


def _value(text: str, metric: str, where: str) -> float:
    value: Any = text
    if text.lstrip().startswith("{"):
        entries = _entries(text, where)
        if metric not in entries:
            raise UserError(
                f"{where}: say which metric: {listed(map(str, entries))}; metric is {metric!r}."
            )
        value = entries[metric]
    number = float_or_nan(value)
    if not np.isfinite(number):
        raise UserError(f"{where}: {str(value)[:60]!r} is not a finite number.")
    return number


def _entries(text: str, where: str) -> Mapping[str, Any]:
    """A mapping as text, of JSON or as Python prints it; the first is ten times as fast."""
    try:
        return dict(json.loads(_NOTHING.sub("null", text).replace("'", '"')))
    except ValueError:
        pass
    try:
        return dict(ast.literal_eval(_NOTHING.sub("None", text)))
    except (ValueError, SyntaxError, TypeError):
        raise UserError(f"{where}: {text[:60]!r} is no mapping.") from None
