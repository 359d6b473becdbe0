"""What emulated arms search on when there are several rungs; the last is the target.

    ladder         {costs, correlation, misleads, law: {domains, tasks, seed}, noise}
    ladder-tables  {rungs: [{mixtures, results, key, parameters, tokens ...}], score, folder, noise}
    rows           {file, rungs: [[parameters, tokens], ...], score, folder, noise}

`noise` is in spreads of the target's scores, one number or one for each rung. An arm with
`ladder: true` may use the rungs, another one trains at the target alone; a budget of n trials is
what n trials at the target cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt.ablation.run.options import check_domains
from climb_opt.ablation.run.surfaces import Surface, fitted, load_table
from climb_opt.emulator import (
    LadderObjective,
    LadderSource,
    MixingLaw,
    SimulatedLadder,
    SourceLadder,
    pool,
    read_runs,
)
from climb_opt.emulator.rows import PER_PARAMETER
from climb_opt.errors import UserError, within
from climb_opt.ladder import Ladder, Rung
from climb_opt.metrics import better_low
from climb_opt.strict import arguments
from climb_opt.text import amount

Noise = float | tuple[float, ...]


def simulated(
    costs: tuple[float, ...] = (1, 4, 16),
    correlation: float | tuple[float, ...] = 0.8,
    misleads: bool = False,
    law: dict[str, Any] | None = None,
    noise: Noise = 0.0,
) -> Surface:
    """A mixing law as the target, and cheaper rungs that rank mixtures as well as stated."""
    with within("objective.costs"):
        ladder = Ladder.of(costs)
    source = SimulatedLadder(
        MixingLaw(**arguments(MixingLaw, law or {}, "objective.law")),
        ladder,
        correlation=correlation,
        misleads=misleads,
        noise=noise,
    )
    return _measured(source)


def tables(
    rungs: list[dict[str, Any]],
    score: tuple[str, ...] | dict[str, float] = (),
    prior: dict[str, float] | None = None,
    folder: str = ".",
    noise: Noise = 0.0,
) -> Surface:
    """A table of real runs for each model size, each turned into a function."""
    if not rungs:
        raise UserError("objective.rungs: name at least one table.")
    steps, sources = [], []
    prior = load_table(_of_table(rungs[-1]), folder).mean_weights() if prior is None else prior
    for given in rungs:
        size, tokens = _number(given, "parameters"), _number(given, "tokens")
        table = {**_of_table(given), "score": score, "prior": prior}
        sources.append(fitted(table, folder, components=False))
        steps.append(Rung(amount(size), PER_PARAMETER * size * tokens, round(tokens), round(size)))
    return _measured(SourceLadder(tuple(sources), Ladder(tuple(steps)), noise))


def rows(
    file: str | dict[str, Any],
    rungs: list[list[float]],
    score: list[str] | dict[str, float] | None = None,
    folder: str = ".",
    noise: Noise = 0.0,
) -> Surface:
    """The rows of a table of runs of several sizes, without an emulator between."""
    given = {"path": file} if isinstance(file, str) else dict(file)
    path = given.pop("path", None)
    known = ("weights", "size", "tokens", "ignore")
    if path is None or set(given) - set(known):
        raise UserError(
            "objective.file: a path, or {path, weights, size, tokens, ignore}: what the columns "
            f"are called; it is {file!r}."
        )
    if any(len(rung) != 2 for rung in rungs):
        raise UserError(f"objective.rungs: a pair [parameters, tokens] for each, not {rungs!r}.")
    runs = read_runs(Path(folder, str(path)), **given)
    if not isinstance(score, dict):
        better_low(score or runs.names)
    return _measured(pool(runs, [(size, tokens) for size, tokens in rungs], score, noise))


# --- private -------------------------------------------------------------------------------------


def _measured(source: LadderSource) -> Surface:
    check_domains(source.space)
    return Surface(
        source=source,
        noisy=LadderObjective(source),
        best=source.optimum()[1],
        typical=float(np.median(source.truth(source.reference()))),
        truth=source.truth,
        quality=source.quality(),
    )


def _of_table(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in ("parameters", "tokens")}


def _number(given: Mapping[str, Any], key: str) -> float:
    value = given.get(key)
    if isinstance(value, (int, float)) and value > 0:
        return float(value)
    raise UserError(f"objective.rungs: {key} must be a number above 0, but is {value!r}.")
