"""Do the stated intervals hold? Coverage of what `best_mixture` promises, where the truth is known.

    python tests/bench/bench_coverage.py                      # laws of 8 and 21 domains, a minute
    python tests/bench/bench_coverage.py --full --output coverage.jsonl --searches FOLDER

The full form searches simulated laws of 8, 21 and 64 domains and emulators of three published
tables, with four samplers and noise 0, .1, .3 and 1 in units of the sparse prior's standard
deviation, one trial at a time, and asks for the recommendation after 28, 56 and 112 trials of each
search. Both files make it resumable: --output holds what was judged, --searches the trials, so that
a change of what is promised is judged on the same searches without searching again. Processes with
other --first-seed may share both. `--against FILE` compares with the judgements of other code.

`climb-opt ablate coverage` runs the same matrix as an ablation, by the same code, in any number of
workers; this file judges kept searches again. The columns are explained where they are made
(climb_opt/ablation/table/coverage.py).
"""

from __future__ import annotations

from harness import (  # first: one thread
    Row,
    append,
    key_of,
    load,
    parser_of,
    timed,
)

# isort: split

import argparse
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, create_trial

import bench_search
from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler
from climb_opt.ablation.run import promises
from climb_opt.ablation.table import coverage
from climb_opt.emulator import NoisyObjective, Source
from climb_opt.samplers import stock
from climb_opt.selection.verifying import shortlist
from climb_opt.text import pipe_table

PREFIXES = (28, 56, 112)
SAMPLERS: dict[str, Callable[[MixtureSpace, int], BaseSampler]] = {
    "climb": lambda space, seed: ClimbSampler(space, seed=seed),
    "gp": lambda space, seed: SimplexGPSampler(space, seed=seed),
    "tpe": lambda space, seed: stock.tpe(space, seed=seed),
    "random": lambda space, seed: stock.random(space, seed=seed),
}
LAWS = [f"law{domains}-{seed}" for domains in (8, 21, 64) for seed in range(4)]
TABLES = ["avg13", "pile_cc", "dclm"]


# --- one search ----------------------------------------------------------------------------------


def objective_of(name: str, source: Source, noise: float, seed: int) -> NoisyObjective:
    """With noise of its own for each source and seed, the same for all samplers.

    Were it the seed's alone, what the prior happens to measure, in the first trial of all searches
    of that seed, would decide for all sources at once whether intervals hold.
    """
    return NoisyObjective(source, noise=noise, seed=zlib.crc32(f"{name} {seed}".encode()))


def search(objective: NoisyObjective, sampler: str, seed: int, trials: int) -> optuna.Study:
    """A whole search, one trial at a time."""
    study = optuna.create_study(sampler=SAMPLERS[sampler](objective.source.space, seed))
    study.optimize(objective, n_trials=trials)
    return study


def searched(
    folder: Path | None, name: str, run: Callable[[], optuna.Study]
) -> tuple[list[FrozenTrial], float]:
    """The trials of a search and its CPU seconds, from `folder` if they are there."""
    path = folder / f"{name}.json" if folder else None
    if path is not None and path.exists():
        kept = json.loads(path.read_text())
        return [_trial(row) for row in kept["trials"]], kept["cpu"]
    found, seconds = timed(lambda: run().get_trials(deepcopy=False))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"params": t.params, "value": t.value, "user": t.user_attrs} for t in found]
        path.write_text(json.dumps({"trials": rows, "cpu": seconds}))
    return found, seconds


def _trial(row: Row) -> FrozenTrial:
    params, share = row["params"], optuna.distributions.FloatDistribution(0.0, 1.0)
    of = dict.fromkeys(params, share)
    return create_trial(params=params, distributions=of, value=row["value"], user_attrs=row["user"])


def verified(
    objective: NoisyObjective, trials: Sequence[FrozenTrial], count: int
) -> list[FrozenTrial]:
    """The trials with their last `count` spent on the recommendation and its rivals instead."""
    space, n = objective.source.space, len(trials)
    rows = shortlist(promises.prefix(space, trials[: n - count]), count, space=space)
    rng = np.random.default_rng([objective.seed, n, count])
    values = objective.source.score(rows) + objective.sigma * rng.standard_normal(count)
    new = [
        create_trial(params=space.params(w), distributions=space.distributions(), value=float(v))
        for w, v in zip(rows, values, strict=True)
    ]
    return [*trials[: n - count], *new]


def judge(source: Source, trials: Sequence[FrozenTrial]) -> Row:
    """What the recommendation promises against what is true, in units of regret."""
    best, typical = bench_search.yardstick(source)
    found = promises.kept(source.space, trials, source.score, typical - best)
    return {**found, "regret": (found.pop("true") - best) / (typical - best)}


# --- all of them ---------------------------------------------------------------------------------


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, str, float, int]]:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    every = product(seeds, options.noise, options.sources, options.samplers)
    return ((source, sampler, noise, seed) for seed, noise, source, sampler in every)


KEY = ("source", "sampler", "noise", "seed", "n")


def work(options: argparse.Namespace) -> list[Row]:
    rows = load(options.output, KEY)
    asked = []
    for name, sampler, noise, seed in wanted(options):
        keys = [(name, sampler, noise, seed, n) for n in options.trials]
        asked += keys
        missing = [key[-1] for key in keys if key not in rows]
        if not missing:
            continue
        source = bench_search.source(name, options.tables, options.cache)
        last, objective = max(options.trials), objective_of(name, source, noise, seed)
        trials, seconds = searched(
            options.searches,
            f"{name}-{sampler}-{noise:g}-{seed}-{last}",
            partial(search, objective, sampler, seed, last),
        )
        for n in missing:
            row = {"source": name, "sampler": sampler, "noise": noise, "seed": seed, "n": n}
            asked_of = trials[:n]
            if options.verify:
                asked_of = verified(objective, asked_of, options.verify)
            row |= judge(source, asked_of) | {"cpu": seconds}
            rows[key_of(row, KEY)] = row
            append(options.output, row)
    return [rows[key] for key in asked]


# --- the table -----------------------------------------------------------------------------------


def kind(row: Row) -> str:
    return "table" if row["source"] in TABLES else "law"


def report(rows: Sequence[Row], other: Sequence[Row]) -> None:
    """The table of each cell, before → after where there is an earlier one; then what is pooled."""
    for by in (("sampler", "noise", "n", "kind"), ("sampler", "noise")):
        after, before = ([row | {"kind": kind(row)} for row in each] for each in (rows, other))
        head, *lines = coverage.lines_of(after, by)
        was = {tuple(line[: len(by)]): line for line in coverage.lines_of(before, by)[1:]}
        pairs = [zip(was.get(tuple(line[: len(by)]), line), line, strict=True) for line in lines]
        cells = [[b if a == b else f"{a} → {b}" for a, b in pair] for pair in pairs]
        print("\n".join(pipe_table(head, cells)), end="\n\n")


def main() -> None:
    parser = parser_of(__doc__, "tables", "cache", "output", "first-seed")
    parser.add_argument("--full", action="store_true", help="every law and table, all noises")
    parser.add_argument("--searches", type=Path, help="folder of searches, to judge them again")
    parser.add_argument("--against", type=Path, help="an --output of other code, to compare with")
    parser.add_argument("--sources", nargs="+", help="avg13, dclm, law8-0, traces-6 ...")
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--noise", nargs="+", type=float)
    parser.add_argument("--trials", nargs="+", type=int, help="prefixes; the last is the search")
    parser.add_argument("--verify", type=int, default=0, help="spend the last so many on rivals")
    parser.add_argument("--seeds", type=int, help="how many")
    options = parser.parse_args()
    full = options.full
    options.sources = options.sources or ([*LAWS, *TABLES] if full else ["law8-0", "law21-0"])
    options.noise = options.noise or ([0.0, 0.1, 0.3, 1.0] if full else [0.0, 0.3])
    options.trials = options.trials or (list(PREFIXES) if full else [28, 56])
    options.seeds = options.seeds or (6 if full else 2)
    rows = work(options)
    asked = {key_of(row, KEY) for row in rows}
    report(rows, [row for key, row in load(options.against, KEY).items() if key in asked])


if __name__ == "__main__":
    main()
