"""Do the stated intervals hold? Coverage of what `best_mixture` promises, where the truth is known.

    python tests/bench/bench_coverage.py                      # laws of 8 and 21 domains, a minute
    python tests/bench/bench_coverage.py --full --output coverage.jsonl --searches FOLDER

The full form searches simulated laws of 8, 21 and 64 domains and emulators of three published
tables, with four samplers and noise 0, .1, .3 and 1 in units of the sparse prior's standard
deviation, one trial at a time, and asks for the recommendation after 28, 56 and 112 trials of each
search. Both files make it resumable: --output holds what was judged, --searches the trials, so that
a change of what is promised is judged on the same searches without searching again. Processes with
other --first-seed may share both. `--against FILE` compares with the judgements of other code.

Coverage is the share of 90 % intervals that hold the truth: of the expected score, of the gain over
the prior. Errors and widths are in units of regret (0 the best mixture, 1 a typical random one).
`error` is stated minus true expected score: negative promises too much. `interval score` is
Winkler's, the width plus 20 times what the truth lies outside, less is better. `width` is the
median half-width against the constant one that would have held in 90 % of the same cell.
"""

from __future__ import annotations

import bench_search  # first: it keeps numpy to one thread

# isort: split

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler, best_mixture
from climb_opt.emulator import NoisyObjective, Source
from climb_opt.samplers import stock
from climb_opt.selection import Estimate
from climb_opt.view import store_space

ALPHA = 0.1  # 90 % intervals
PREFIXES = (28, 56, 112)
SAMPLERS: dict[str, Callable[[MixtureSpace, int], BaseSampler]] = {
    "climb": lambda space, seed: ClimbSampler(space, seed=seed),
    "gp": lambda space, seed: SimplexGPSampler(space, seed=seed),
    "tpe": lambda space, seed: stock.tpe(space, seed=seed),
    "random": lambda space, seed: stock.random(space, seed=seed),
}
LAWS = [f"law{domains}-{seed}" for domains in (8, 21, 64) for seed in range(4)]
TABLES = ["avg13", "pile_cc", "dclm"]
Row = dict[str, Any]


# --- one search ----------------------------------------------------------------------------------


def search(source: Source, sampler: str, noise: float, seed: int, trials: int) -> optuna.Study:
    """A whole search, one trial at a time."""
    study = optuna.create_study(sampler=SAMPLERS[sampler](source.space, seed))
    study.optimize(NoisyObjective(source, noise=noise, seed=seed), n_trials=trials)
    return study


def searched(
    folder: Path | None, name: str, run: Callable[[], optuna.Study]
) -> tuple[list[FrozenTrial], float]:
    """The trials of a search and its CPU seconds, from `folder` if they are there."""
    path = folder / f"{name}.json" if folder else None
    if path is not None and path.exists():
        kept = json.loads(path.read_text())
        return [_trial(row) for row in kept["trials"]], kept["cpu"]
    started = time.process_time()
    found = run().get_trials(deepcopy=False)
    seconds = time.process_time() - started
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"params": t.params, "value": t.value, "user": t.user_attrs} for t in found]
        path.write_text(json.dumps({"trials": rows, "cpu": seconds}))
    return found, seconds


def _trial(row: Row) -> FrozenTrial:
    share = optuna.distributions.FloatDistribution(0.0, 1.0)
    return optuna.trial.create_trial(
        params=row["params"],
        distributions=dict.fromkeys(row["params"], share),
        value=row["value"],
        user_attrs=row["user"],
    )


def prefix(space: MixtureSpace, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study of these trials alone."""
    study = optuna.create_study()
    store_space(study, space)
    study.add_trials(trials)
    return study


def judge(source: Source, study: optuna.Study) -> Row:
    """What the recommendation promises against what is true, in units of regret."""
    space = source.space
    best, typical = bench_search.yardstick(source)
    unit = typical - best
    pick = best_mixture(study, space=space)
    true = float(source.score(space.weights(pick)[None])[0])
    prior = float(source.score(space.project(space.prior)[None])[0])
    found: Row = {"regret": (true - best) / unit, "rule": pick.rule}
    for what, estimate, truth in (
        ("score", pick.predicted, true),
        ("gain", pick.gain, prior - true),
    ):
        if estimate is not None:
            found |= {f"{what} {k}": v for k, v in _held(estimate, truth, unit).items()}
    return found


def _held(estimate: Estimate, truth: float, unit: float) -> dict[str, float]:
    """One interval against the truth."""
    outside = max(estimate.low - truth, truth - estimate.high, 0.0)
    return {
        "held": float(outside <= 1e-9 * unit),  # a digit that rounding takes is no miss
        "error": (estimate.mean - truth) / unit,
        "half": estimate.half / unit,
        "winkler": (2 * estimate.half + 2 / ALPHA * outside) / unit,
    }


# --- all of them ---------------------------------------------------------------------------------


def wanted(options: argparse.Namespace) -> Iterable[tuple[str, str, float, int]]:
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for noise in options.noise:
            for source in options.sources:
                for sampler in options.samplers:
                    yield source, sampler, noise, seed


def key_of(row: Row) -> tuple[Any, ...]:
    return row["source"], row["sampler"], row["noise"], row["seed"], row["n"]


def load(path: Path | None) -> dict[tuple[Any, ...], Row]:
    if path is None or not path.exists():
        return {}
    return {key_of(row): row for row in map(json.loads, path.read_text().splitlines())}


def work(options: argparse.Namespace) -> list[Row]:
    rows = load(options.output)
    asked = []
    for name, sampler, noise, seed in wanted(options):
        keys = [(name, sampler, noise, seed, n) for n in options.trials]
        asked += keys
        missing = [key[-1] for key in keys if key not in rows]
        if not missing:
            continue
        source = bench_search.source(name, options.tables, options.cache)
        trials, seconds = searched(
            options.searches,
            f"{name}-{sampler}-{noise:g}-{seed}-{max(options.trials)}",
            lambda: search(source, sampler, noise, seed, max(options.trials)),  # noqa: B023
        )
        for n in missing:
            row = {"source": name, "sampler": sampler, "noise": noise, "seed": seed, "n": n}
            row |= judge(source, prefix(source.space, trials[:n])) | {"cpu": seconds}
            rows[key_of(row)] = row
            if options.output:
                with options.output.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    return [rows[key] for key in asked]


# --- the table -----------------------------------------------------------------------------------


def kind(row: Row) -> str:
    return "law" if row["source"].startswith("law") else "table"


def cells(rows: Sequence[Row], *by: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        own = row | {"kind": kind(row)}
        found.setdefault(tuple(own[name] for name in by), []).append(row)
    return found


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows if name in row], dtype=float)


def interval(rows: Sequence[Row], what: str) -> list[str]:
    """Coverage, median error and half-width, width against the exactly right one, Winkler."""
    error, half = column(rows, f"{what} error"), column(rows, f"{what} half")
    if not len(error):
        return ["–"] * 4
    right = float(np.quantile(np.abs(error), 1 - ALPHA))
    return [
        f"{column(rows, f'{what} held').mean():.2f}",
        f"{np.median(error):+.3f}, {np.median(half):.3f}",
        f"{np.median(half) / right:.1f}" if right > 0 else "–",
        f"{column(rows, f'{what} winkler').mean():.3f}",
    ]


def report(rows: Sequence[Row], other: Sequence[Row]) -> None:
    head = ["held", "error, half-width", "width", "interval score"]
    names = ["sampler", "noise", "n", "kind", "searches"]
    names += [f"{what}: {h}" for what in ("score", "gain") for h in head] + ["regret"]
    print("| " + " | ".join(names) + " |")
    print("|---" * len(names) + "|")
    by = ("sampler", "noise", "n", "kind")
    before = cells(other, *by)
    for key, own in cells(rows, *by).items():
        figures = [*interval(own, "score"), *interval(own, "gain")]
        figures.append(f"{np.median(column(own, 'regret')):.3f}")
        if key in before:
            was = before[key]
            old = [*interval(was, "score"), *interval(was, "gain")]
            old.append(f"{np.median(column(was, 'regret')):.3f}")
            figures = [f"{a} → {b}" for a, b in zip(old, figures, strict=True)]
        name = " | ".join([str(k) for k in key])
        print(f"| {name} | {len(own)} | " + " | ".join(figures) + " |")
    print("\npooled over sources and n:")
    for (sampler, noise), own in cells(rows, "sampler", "noise").items():
        shown = ", ".join(
            f"{what} {column(own, f'{what} held').mean():.2f}" for what in ("score", "gain")
        )
        print(f"{sampler}, noise {noise:g}: {shown} of {len(own)} intervals hold")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="every law and table, all noises")
    parser.add_argument("--tables", type=Path, default=bench_search.TABLES)
    parser.add_argument("--cache", type=Path, default=bench_search.CACHE)
    parser.add_argument("--output", type=Path, help="JSON lines: what was judged, to resume")
    parser.add_argument("--searches", type=Path, help="folder of searches, to judge them again")
    parser.add_argument("--against", type=Path, help="an --output of other code, to compare with")
    parser.add_argument("--sources", nargs="+", help="avg13, pile_cc, dclm, law<domains>-<seed>")
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--noise", nargs="+", type=float)
    parser.add_argument("--trials", nargs="+", type=int, help="prefixes; the last is the search")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    full = options.full
    options.sources = options.sources or ([*LAWS, *TABLES] if full else ["law8-0", "law21-0"])
    options.noise = options.noise or ([0.0, 0.1, 0.3, 1.0] if full else [0.0, 0.3])
    options.trials = options.trials or (list(PREFIXES) if full else [28, 56])
    options.seeds = options.seeds or (6 if full else 2)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore")
    rows = work(options)
    asked = {key_of(row) for row in rows}
    report(rows, [row for key, row in load(options.against).items() if key in asked])


if __name__ == "__main__":
    main()
