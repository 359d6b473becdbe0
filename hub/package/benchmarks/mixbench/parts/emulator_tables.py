# Written by hub/build.py from climb_opt: change it there.
"""Tables of real runs, read from CSV files and checked.

`read_table` joins mixtures and results of one model size; `read_runs` reads runs of several sizes
and numbers of tokens from one file.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError, did_you_mean, listed
from .reading import check_once, named, no_column, read_csv, whole_rows
from .sums import sum_problem
from .text import shorten
from .written import float_or_nan

logger = logging.getLogger(__name__)

IGNORE = "ignore (for `climb-opt predictors`: --set 'train.ignore=[NAME, ...]')"
LABELS = ("", "index", "name", "run")  # columns that describe a row, in the published tables


@dataclass(frozen=True)
class Table:
    """n runs: `weights` (n, K) on the simplex, `results` (n, C), and their names."""

    domains: tuple[str, ...]
    weights: np.ndarray
    names: tuple[str, ...]
    results: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)

    def result(self, name: str) -> np.ndarray:
        """One column of results (n,).

        Raises:
            UserError: no such result.
        """
        coefficients_of(self.names, [name])
        return np.asarray(self.results[:, self.names.index(name)])

    def mean_weights(self) -> dict[str, float]:
        """domain -> its mean weight: the prior around which the table's mixtures were drawn."""
        mean = self.weights.mean(axis=0)
        return {d: float(w) for d, w in zip(self.domains, mean / mean.sum(), strict=True)}

    def append(self, other: Table) -> Table:
        """Both tables' rows, for tables that come in parts (training and test rows).

        Raises:
            UserError: their domains or results differ.
        """
        for what, ours, theirs in (
            ("domains", self.domains, other.domains),
            ("results", self.names, other.names),
        ):
            if ours != theirs:
                odd = sorted(set(ours) ^ set(theirs)) or ["their order"]
                raise UserError(f"Tables with different {what} cannot be joined: {odd[0]}.")
        weights = np.concatenate([self.weights, other.weights])
        results = np.concatenate([self.results, other.results])
        return Table(self.domains, weights, self.names, results)


def read_table(
    mixtures: Path | str,
    results: Path | str,
    *,
    key: str,
    ignore: str | Sequence[str] = LABELS,
    unmatched: str = "error",
) -> Table:
    """Join a CSV of weights and a CSV of results on the column `key`; weights are renormalised.

    Args:
        key: the column that names a run in both files.
        ignore: other columns that are neither a domain nor a result.
        unmatched: what to do with a run that is in one file only: "error" or "drop".

    Raises:
        UserError: an unreadable file, no such key, a run named twice, a cell that is not a finite
            number, a run in one file only, a single run, weights that do not sum to 1, a domain
            whose weight or a result that never changes, fewer than two domains.
    """
    if unmatched not in ("error", "drop"):
        raise UserError(f'unmatched must be "error" or "drop", but is {unmatched!r}.')
    domains, w_rows = _read(Path(mixtures), key, ignore)
    names, y_rows = _read(Path(results), key, ignore)
    lone = [k for k in [*w_rows, *y_rows] if (k in w_rows) != (k in y_rows)]
    if lone and unmatched == "error":
        raise UserError(
            f"{len(lone)} runs are in only one of {mixtures} and {results}, for example "
            f"{key}={lone[0]!r}. Complete the files, or leave such runs out: unmatched: drop "
            "(for `climb-opt predictors`: --set train.unmatched=drop)."
        )
    if lone:
        logger.warning(
            "%d runs are in only one of %s and %s: left out.", len(lone), mixtures, results
        )
    if not (keys := [k for k in w_rows if k in y_rows]):
        raise UserError(f"{mixtures} and {results} have no run in common (key {key!r}).")
    if len(keys) == 1:
        raise _one_run(f"{mixtures} and {results} share one run, {key}={keys[0]!r}")
    weights = np.array([w_rows[k] for k in keys])
    values = np.array([y_rows[k] for k in keys])
    _check_weights(Path(mixtures), domains, weights, [f"{key}={k}" for k in keys])
    if constant := _constant(names, values):
        raise _never_changes(results, constant, left=len(names) - len(constant) >= 1)
    return Table(domains, weights / weights.sum(axis=1, keepdims=True), names, values)


def read_tables(
    mixtures: Sequence[Path], results: Sequence[Path], *, key: str, **options: Any
) -> Table:
    """One table of several pairs of files, such as training and test rows; see `read_table`.

    Raises:
        UserError: not as many files of mixtures as of results, or as of `read_table`.
    """
    if len(mixtures) != len(results):
        raise UserError("A table needs as many files under mixtures as under results.")
    parts = [read_table(m, r, key=key, **options) for m, r in zip(mixtures, results, strict=True)]
    return functools.reduce(Table.append, parts)


@dataclass(frozen=True)
class Runs:
    """n points of runs: a mixture (n, K), parameters (n,), tokens (n,) and results (n, C)."""

    domains: tuple[str, ...]
    weights: np.ndarray
    sizes: np.ndarray
    tokens: np.ndarray
    names: tuple[str, ...]
    results: np.ndarray

    def __len__(self) -> int:
        return len(self.weights)


def read_runs(
    path: Path | str,
    *,
    weights: str | Sequence[str] = "weight_",
    size: str = "model_size",
    tokens: str = "n_tokens",
    ignore: str | Sequence[str] = LABELS,
) -> Runs:
    """One CSV file, a row for each point at which a run was scored; weights are renormalised.

    Columns: a weight for each domain, the model's parameters, the tokens it was trained on so far,
    and results. An empty result is one that the point lacks, NaN.

    Args:
        weights: what the names of weight columns begin with (the rest names the domain), or the
            columns by name.
        size, tokens: the columns of parameters and of tokens.
        ignore: columns that are none of these.

    Raises:
        UserError: an unreadable file, no such column, a cell that is not a finite number, weights
            that do not sum to 1, sizes or tokens not above 0, no result, a single row.
    """
    header, rows = read_csv(Path(path))
    own = named(weights)
    shared = own[0] if isinstance(weights, str) else ""
    mixed = [c for c in header if c.startswith(shared)] if shared else own
    for column in (*mixed, size, tokens):
        if column not in header:
            raise no_column(path, column, header)
    if len(mixed) < 2:
        raise UserError(f"{path}: columns of weights are {listed(mixed)}; at least 2 are needed.")
    names = [c for c in header if c not in {*mixed, size, tokens, *named(ignore)}]
    used = [*mixed, size, tokens, *names]
    check_once(path, header, used)
    if not names or not rows:
        raise UserError(f"{path} has no {'result' if rows else 'row'}.")
    if len(rows) == 1:
        raise _one_run(f"{path} has one row, line {rows[0][0]}")
    places, known = [header.index(c) for c in used], len(mixed) + 2
    cells = np.full((len(rows), len(used)), np.nan)
    for values, (where, row) in zip(cells, whole_rows(path, header, rows), strict=True):
        there = [i for i, c in enumerate(places) if i < known or row[c].strip()]
        values[there] = [_number(where, used[i], row[places[i]]) for i in there]
    w, (n, t), y = cells[:, : len(mixed)], cells[:, known - 2 : known].T, cells[:, known:]
    for column, values in ((size, n), (tokens, t)):
        if np.any(values <= 0):
            line = rows[int(np.argmax(values <= 0))][0]
            raise UserError(f"{path}, line {line}, column {column!r} must lie above 0.")
    domains = tuple(c.removeprefix(shared) for c in mixed)
    _check_weights(Path(path), domains, w, [f"line {line}" for line, _ in rows])
    return Runs(domains, w / w.sum(axis=1, keepdims=True), n, t, tuple(names), y)


def coefficients_of(
    names: Sequence[str], score: Mapping[str, float] | Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """The results that make up a score, and their coefficients (C,).

    Args:
        names: all results.
        score: result -> coefficient, or results to average; None: all.

    Raises:
        UserError: no result, or one that is none.
    """
    score = list(names) if score is None else score
    if not score:
        raise UserError(f"The score needs at least one result of: {listed(names)}.")
    if not isinstance(score, Mapping):
        if twice := [name for name in score if list(score).count(name) > 1]:
            raise UserError(f"The score names result {twice[0]!r} twice.")
        score = {name: 1.0 / len(score) for name in score}
    for name in score:
        if name not in names:
            raise UserError(
                f"No result {name!r} in the table.{did_you_mean(name, names)} Results: "
                f"{listed(names)}."
            )
    return tuple(score), np.array(list(score.values()), dtype=float)


# --- private -------------------------------------------------------------------------------------


def _read(
    path: Path, key: str, ignore: str | Sequence[str]
) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    header, rows = read_csv(path)
    if not rows:
        raise UserError(f"{path} has no row{'' if header else ': it is empty'}.")
    if key not in header:
        raise no_column(path, key, header)
    columns = [i for i, name in enumerate(header) if name not in {key, *named(ignore)}]
    check_once(path, header, [key, *(header[i] for i in columns)])
    if not columns:
        raise UserError(f"{path} has no column of numbers.")
    table: dict[str, list[float]] = {}
    for where, row in whole_rows(path, header, rows):
        values = [_number(where, header[i], row[i]) for i in columns]
        name = row[header.index(key)]
        if name in table:
            raise UserError(f"{where}: {key}={name!r} is there twice.")
        table[name] = values
    return tuple(header[i] for i in columns), table


def _number(where: str, column: str, text: str) -> float:
    value = float_or_nan(text)
    if not np.isfinite(value):
        raise UserError(
            f"{where}, column {column!r}: {shorten(text, 60)!r} is not a finite number. Complete "
            f"it, leave the row out of both files, or name the column in {IGNORE}."
        )
    return value


def _check_weights(
    path: Path, domains: tuple[str, ...], weights: np.ndarray, rows: list[str]
) -> None:
    if len(domains) < 2:
        raise UserError(f"{path} has one domain, {domains[0]!r}: there is nothing to mix.")
    if off := [k for k, row in enumerate(weights) if np.any(row < 0) or sum_problem(row)]:
        k = off[0]
        raise UserError(
            f"{path}: the weights of {rows[k]} sum to {weights[k].sum():.6g} (smallest "
            f"{weights[k].min():.6g}); {len(off)} such rows. Weights must not be negative and sum "
            f"to 1 up to rounding; is a column that is no domain missing from {IGNORE}?"
        )
    if constant := _constant(domains, weights):
        # A weight that is not 0 cannot go: the others would not sum to 1.
        left = len(domains) - len(constant) >= 2 and not next(iter(constant.values()))
        raise _never_changes(path, constant, left=left)


def _constant(columns: Sequence[str], values: np.ndarray) -> dict[str, float]:
    """The columns that hold one number in every row, and the number."""
    found = np.flatnonzero(np.ptp(values, axis=0) == 0)
    return {columns[k]: float(values[0, k]) for k in found.tolist()}


def _never_changes(path: Path | str, constant: Mapping[str, float], *, left: bool) -> UserError:
    """The error. `left`: there is enough without the first of these columns."""
    column, value = next(iter(constant.items()))
    fact = f"{path}: column {column!r} is {value:.6g} in every row, which teaches nothing."
    return UserError(f"{fact} {f'Name it in {IGNORE}' if left else 'Give runs that differ in it'}.")


def _one_run(what: str) -> UserError:
    return UserError(f"{what}: nothing varies, so nothing can be learnt. Give at least two runs.")
