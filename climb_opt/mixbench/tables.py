"""Problems from tables of real runs: a proposal is the nearest row, and scores what that row did.

    {mixtures, results, key}   two files joined by a run's name: RegMix's, Olmix's swarms
    {runs, rungs}              one file, a row for each point of a run, with columns weight_*,
                               model_size and n_tokens
    {recipes, results, rungs}  a file of recipes' weights, and results by recipe, size, seed and
                               task: DataDecide's
    `from_studies`             finished trials of one's own searches

No emulator comes between. Rows that hold the same mixture (other seeds) are one mixture whose truth
is their mean, and measure the noise; a table without such rows says nothing of it, which is said.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from climb_opt.attributes import SPACE
from climb_opt.emulator.rows import DECIMALS, PER_PARAMETER, SIZES, TOKENS, RowLadder, RowSpace
from climb_opt.emulator.tables import (
    LABELS,
    Runs,
    coefficients_of,
    read_runs,
    read_table,
    read_tables,
)
from climb_opt.errors import UserError, did_you_mean, listed
from climb_opt.ladder import Ladder, Rung
from climb_opt.metrics import side_of
from climb_opt.mixbench.long import LongTable
from climb_opt.mixbench.problems import Problem
from climb_opt.reading import check_there
from climb_opt.simplex import PREFIX
from climb_opt.text import amount, counted

LEAST = 8  # mixtures of which a search is one
READERS: dict[str, Callable[..., Any]] = {
    "mixtures": read_table,
    "runs": read_runs,
    "recipes": LongTable,
}
NAMES = ("key", "unmatched", "size", "tokens", "metric", "weights", "ignore")  # what names columns
SEVERAL = ("weights", "ignore")
Score = Mapping[str, float] | Sequence[str] | None


def table_problem(name: str, /, *, folder: str = ".", **given: Any) -> Problem:
    """A problem from files.

    Args:
        name: what it is called.
        folder: where the files are.
        given: the files (see above); `score`, results to average or result -> coefficient;
            `better`, "lower" or "higher", where the results' names do not say it; `noise` in sigma
            to be used instead of the measured one; and what the readers take (key, ignore, weights,
            size, tokens, unmatched ...). Mixtures and results may be lists of as many files.

    Raises:
        UserError: what is wrong with the files or options, with the place and what to do.
    """
    data = dict(given)
    score, better, noise, rungs = (data.pop(k, None) for k in ("score", "better", "noise", "rungs"))
    try:
        runs = _read(name, Path(folder), data)
    except TypeError as error:  # an option of a kind that the reader does not take
        raise UserError(f"Table {name!r}: {error}.") from None
    return of_runs(name, runs, rungs=rungs, score=score, better=better, noise=noise)


def from_studies(name: str, studies: Sequence[optuna.Study], noise: float | None = None) -> Problem:
    """A problem from the finished trials of searches over the same domains.

    Args:
        studies: with parameters `w/<domain>`, of one direction, as climb_opt's searches have. The
            first that stores a prior says it; where none does, it is the mixtures' mean.
        noise: in sigma, instead of what repeated mixtures measure.

    Raises:
        UserError: no trial with a mixture, or studies of unlike domains or directions.
    """
    directions = {study.direction for study in studies}
    if len(directions) != 1:
        raise UserError(f"{name}: give studies of one direction, not {len(directions)}.")
    sign = -1.0 if directions == {optuna.study.StudyDirection.MAXIMIZE} else 1.0
    trials = [
        t
        for study in studies
        for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if any(key.startswith(PREFIX) for key in t.params)
    ]
    names = {tuple(sorted(k for k in t.params if k.startswith(PREFIX))) for t in trials}
    if len(names) != 1:
        raise UserError(
            f"{name}: the studies' finished trials are over {len(names)} sets of domains; give "
            "studies of one."
        )
    keys = names.pop()
    weights = np.array([[t.params[key] for key in keys] for t in trials])
    ones = np.ones(len(trials))
    values = np.array([[sign * float(t.values[0])] for t in trials])
    domains = tuple(key.removeprefix(PREFIX) for key in keys)
    runs = Runs(domains, weights, ones, ones, ("score",), values)
    prior = next((s.user_attrs[SPACE]["prior"] for s in studies if SPACE in s.user_attrs), None)
    return of_runs(name, runs, better="lower", noise=noise, prior=prior)


def of_runs(
    name: str,
    runs: Runs,
    *,
    rungs: Sequence[Sequence[float]] | None = None,
    score: Score = None,
    better: str | None = None,
    noise: float | None = None,
    prior: Mapping[str, float] | None = None,
) -> Problem:
    """A problem from runs that were read already; see `table_problem` and `RowSpace`.

    Raises:
        UserError: two domains, too few mixtures, a direction that nothing says, or an option that
            is not what it should be.
    """
    score = _score(name, score)
    for given in (noise, *(x for rung in _rungs(name, rungs) for x in rung)):
        if given is not None and not _is_number(given):
            raise UserError(f"Table {name!r}: noise and rungs are numbers, not {given!r}.")
    if len(runs.domains) < 3:
        raise UserError(
            f"Table {name!r} has {len(runs.domains)} domains, {listed(runs.domains)}: with two a "
            "mixture is one number, which a line search finds; give 3 or more."
        )
    names, coefficients = coefficients_of(runs.names, score)
    sign = 1.0 if isinstance(score, Mapping) else _sign(name, names, better)
    scores = sign * runs.results[:, [runs.names.index(n) for n in names]] @ coefficients
    if rungs is None:
        last = int(np.argmax(runs.sizes * runs.tokens))
        rungs = [(float(runs.sizes[last]), float(runs.tokens[last]))]
    steps, groups = zip(*[_rung(name, runs, scores, *rung) for rung in rungs], strict=True)
    shared = [key for key in groups[-1] if all(key in group for group in groups)]
    if len(shared) < LEAST:
        raise UserError(
            f"Table {name!r}: {len(shared)} mixtures were run on every rung; a problem needs "
            f"{LEAST} or more."
        )
    values = np.array([[np.mean(group[key]) for key in shared] for group in groups])
    rows = [{d: w / sum(key) for d, w in zip(runs.domains, key, strict=True)} for key in shared]
    space = RowSpace(rows, prior=prior)
    sigma = float(values[-1].std())
    if not sigma > 0:
        raise UserError(f"Table {name!r}: every mixture has the same score.")
    deviation, found = _measured(groups[-1])
    level, said = (deviation / sigma, found) if noise is None else (noise, "stated")
    label = names[0] if len(names) == 1 else f"{len(names)} results"
    if lacking := int(np.sum(~np.isfinite(scores))):
        label += f" ({counted(lacking, 'row')} without left out)"
    source = RowLadder(space, Ladder(tuple(steps)), values, float(level), label)
    return Problem(name, source, noise=said)


# --- private -------------------------------------------------------------------------------------


def _read(name: str, folder: Path, data: Mapping[str, Any]) -> Runs:
    kinds = [kind for kind in READERS if kind in data]
    if len(kinds) != 1:
        raise UserError(
            f"Table {name!r}: give mixtures and results, or runs and rungs, or recipes and "
            f"results; it has {listed(sorted(data))}."
        )
    (kind,), reader = kinds, READERS[kinds[0]]
    _, *others = inspect.signature(reader).parameters.values()
    needed = [kind, *(p.name for p in others if p.default is p.empty)]
    known = [kind, *(p.name for p in others), "score", "better", "noise", "rungs", "folder"]
    if odd := [key for key in data if key not in known]:
        hint = did_you_mean(str(odd[0]), known)
        raise UserError(f"Table {name!r} takes no {odd[0]!r}.{hint} It takes {listed(known, 20)}.")
    if lacking := [key for key in needed if data.get(key) in (None, "", [])]:
        raise UserError(
            f"Table {name!r} lacks {lacking[0]}; with {kind} give {listed(needed)}"
            + (", the column that names a run in both files." if "key" in needed else ".")
        )
    options, files = dict(data), {}
    for option in NAMES & options.keys():
        given = options[option]
        several = given if option in SEVERAL and isinstance(given, list) else [given]
        if not all(isinstance(one, str) for one in several):
            said = "a name or a list of names" if option in SEVERAL else "a name"
            raise UserError(f"Table {name!r}: {option} must be {said}, not {given!r}.")
        options[option] = several if option == "ignore" else given
    for what in {kind, "results"} & set(data):
        given = options.pop(what)
        many = kind == "mixtures" or (kind, what) == ("recipes", "results")
        several = given if isinstance(given, list) and many else [given]
        if odd := [one for one in several if not isinstance(one, str | Path)]:
            raise UserError(f"Table {name!r}: {what} must be a file, not {odd[0]!r}.")
        files[what] = [folder / one for one in several]
    left_out = [column for column in options.get("ignore", ()) if column not in LABELS]
    check_there(f"Table {name!r}, ignore", left_out, [f for each in files.values() for f in each])
    if kind == "mixtures":
        table = read_tables(files["mixtures"], files["results"], **options)
        ones = np.ones(len(table))
        return Runs(table.domains, table.weights, ones, ones, table.names, table.results)
    if kind == "recipes":
        return LongTable(files[kind][0], files["results"], **options).read()
    return read_runs(files[kind][0], **options)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _score(table: str, given: Any) -> Score:
    """What a score is, checked."""
    if given is None or isinstance(given, str):
        return None if given is None else [given]
    if isinstance(given, Mapping) and all(map(_is_number, given.values())):
        return given
    if isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
        return given
    raise UserError(
        f"Table {table!r}: score must be a result, a list of results, or a mapping of results to "
        f"numbers, not {given!r}."
    )


def _rungs(table: str, given: Any) -> Sequence[Sequence[Any]]:
    """What rungs are, checked; none where they are left out."""
    if given is None:
        return ()
    pairs = isinstance(given, list | tuple) and given
    if not pairs or any(not isinstance(rung, list | tuple) or len(rung) != 2 for rung in given):
        raise UserError(
            f"Table {table!r}: rungs must be a list of pairs [parameters, tokens], cheapest first, "
            f"not {given!r}."
        )
    return given


def _sign(table: str, names: Sequence[str], better: str | None) -> float:
    """1 where lower is better, -1 where higher is."""
    if better is not None:
        if better not in ("lower", "higher"):
            raise UserError(f'Table {table!r}: better must be "lower" or "higher", not {better!r}.')
        return 1.0 if better == "lower" else -1.0
    signs = {n: side_of(n) for n in names}
    unknown = [n for n, side in signs.items() if side == 0]
    if unknown:
        raise UserError(
            f"Table {table!r}: nothing says whether higher or lower is better in {unknown[0]!r} "
            f"({counted(len(unknown), 'such result')}). Give better: lower, better: higher, or "
            "score: {result: coefficient} with negative ones where higher is better."
        )
    if len(set(signs.values())) > 1:
        raise UserError(
            f"Table {table!r}: lower is better in some results and higher in others; give score: "
            "{result: coefficient} with negative ones where higher is better."
        )
    return float(signs[names[0]])


def _rung(
    table: str, runs: Runs, scores: np.ndarray, size: float, tokens: float
) -> tuple[Rung, dict[tuple[float, ...], list[float]]]:
    """A rung, and the scores of every mixture that was run on it."""
    fits = np.isfinite(scores) & (runs.tokens > 0) & (runs.sizes > 0)  # checkpoint 0 is no rung
    fits &= np.abs(runs.sizes - size) <= SIZES * size
    fits &= np.abs(runs.tokens - tokens) <= TOKENS * tokens
    if not fits.any():
        raise UserError(
            f"Table {table!r}: no run of {amount(size)} parameters and {amount(tokens)} tokens; "
            f"sizes are {listed(amount(x) for x in np.unique(runs.sizes))}."
        )
    found: dict[float, dict[tuple[float, ...], list[float]]] = {}
    for row in np.flatnonzero(fits).tolist():
        key = tuple(np.round(runs.weights[row], DECIMALS).tolist())
        found.setdefault(float(runs.tokens[row]), {}).setdefault(key, []).append(float(scores[row]))
    # One point of each run: of those that most mixtures have, as a last one may be of few.
    most = max(map(len, found.values()))
    near = min((t for t in found if len(found[t]) == most), key=lambda t: abs(t - tokens))
    name = f"{amount(size)} on {amount(near)} tokens"
    return Rung(name, PER_PARAMETER * size * near, round(near), round(size)), found[near]


def _measured(group: Mapping[tuple[float, ...], Sequence[float]]) -> tuple[float, str]:
    """The noise (a standard deviation) that repeated mixtures show, and where it comes from."""
    again = [values for values in group.values() if len(values) > 1]
    if not again:
        return 0.0, "unknown"
    free = sum(len(values) - 1 for values in again)
    squares = sum(float(np.var(values)) * len(values) for values in again)
    return float(np.sqrt(squares / free)), f"measured on {len(again)} mixtures that were run again"
