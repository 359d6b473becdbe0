"""How many trials does a search save that knows the influence of its domains? Emulated, no model.

    python tests/bench/bench_leaning.py --output runs.jsonl [--tables FOLDER] [--seeds 6]

The influence of a source's domains is its slope at the prior, and noise on it until it ranks random
mixtures as well as asked for: .85 and .5 as measured on real proxies, 0 for one that says nothing.
A search with influence starts with 8 draws instead of 12; one without, and as short a start, tells
the two apart.

Cells are median regrets (0 the best known, 1 a typical random mixture) of the recommendation after
so many trials, and the trials after which it is as good as without influence after 24 and 48; then,
of all sources, the mean of log(regret + .01) less that without influence, and its standard error.
"""

from __future__ import annotations

from harness import CACHE, Row, parser_of, run_all  # first: one thread

# isort: split

from functools import partial
from pathlib import Path

import numpy as np
import optuna

from bench_search import regret, source
from climb_opt import SimplexGPSampler
from climb_opt.emulator import NoisyObjective, Source
from climb_opt.selection import compare_rules
from climb_opt.statistics import spearman

SOURCES = ("avg13", "pile_cc", "law21-0", "law8-1")
SHORT = "start 8"  # a search without, whose start is as short as that of one with
KNOWN = (None, SHORT, 0.85, 0.5, 0.0)  # rank correlation of the influence; None: without
AT = (4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48)
NOISE = 0.1
SHOWN = (8, 12, 16, 24, 32, 48)
KEY = ("source", "known", "seed")


def influence_of(oracle: Source, known: float, seed: int) -> tuple[dict[str, float], float]:
    """What each domain gains, as well known as asked for, and how well that is."""
    space, step = oracle.space, 0.02
    prior = space.project(space.prior)
    moved = prior + step * (np.eye(len(space)) - prior)
    slope = (oracle.score(prior[None]) - oracle.score(moved)) / step
    rng = np.random.default_rng([seed, 7])
    draws = space.sample_mixed(rng, 300)
    truth, noise = -oracle.score(draws), rng.normal(size=len(space)) * slope.std()
    best = (np.inf, slope, 0.0)
    for share in np.linspace(0.0, 1.0, 101):
        gains = (1 - share) * slope + share * noise
        rho = spearman(draws @ gains, truth)
        best = min(best, (abs(rho - known), gains, rho), key=lambda found: found[0])
    return space.mixture(best[1]), float(best[2])


def search(row: Row, folder: Path) -> Row:
    """The regrets of one search's recommendation on its way."""
    oracle = source(row["source"], folder, CACHE)
    gains, rho = None, None
    if isinstance(row["known"], float):
        gains, rho = influence_of(oracle, row["known"], row["seed"])
    start = 8 if row["known"] == SHORT else None
    sampler = SimplexGPSampler(oracle.space, n_startup=start, influence=gains, seed=row["seed"])
    study = optuna.create_study(sampler=sampler)
    objective = NoisyObjective(oracle, noise=NOISE, seed=row["seed"])
    found = {}
    for count in AT:
        study.optimize(objective, n_trials=count - len(study.trials))
        pick = compare_rules(study, rules=["auto"])["auto"]
        found[str(count)] = float(regret(oracle, oracle.space.weights(pick))[0])
    print(row, rho, {at: round(r, 4) for at, r in found.items()}, flush=True)
    return {"rho": rho, "regrets": found}


def table(rows: list[Row]) -> str:
    """Median regrets by source and influence."""
    lines = [f"{'':24}{'rho':>6}" + "".join(f"{n:>8}" for n in SHOWN) + "   as 24   as 48"]
    for name in dict.fromkeys(row["source"] for row in rows):
        plain = _medians(rows, name, None)
        for known in KNOWN:
            medians = _medians(rows, name, known)
            if not medians:
                continue
            rhos = [r["rho"] for r in rows if (r["source"], r["known"]) == (name, known)]
            rho = f"{np.median(rhos):.2f}" if isinstance(known, float) else ""
            words = f"influence {known}" if isinstance(known, float) else known or "without"
            cells = "".join(f"{medians[n]:8.3f}" for n in SHOWN)
            matched = [
                next((n for n in AT if medians[n] <= plain[goal]), f"> {AT[-1]}")
                for goal in (24, 48)
            ]
            lines.append(f"{name:10}{words:14}{rho:>6}{cells}{matched[0]:>8}{matched[1]:>8}")
    return "\n".join([*lines, "", *_differences(rows)])


def _differences(rows: list[Row]) -> list[str]:
    """Of all sources and seeds, what each known influence changes."""
    logs = {
        (row["source"], row["seed"], row["known"]): np.log(
            np.array([row["regrets"][str(n)] for n in SHOWN]) + 0.01
        )
        for row in rows
    }
    lines = []
    for known in KNOWN[1:]:
        own = [log - logs[*key[:2], None] for key, log in logs.items() if key[2] == known]
        error = np.std(own, axis=0, ddof=1) / len(own) ** 0.5
        cells = zip(np.mean(own, axis=0), error, strict=True)
        words = f"influence {known}" if isinstance(known, float) else known
        lines.append(
            f"{words:14} {len(own):4}  " + "  ".join(f"{m:+.2f} ± {e:.2f}" for m, e in cells)
        )
    return lines


def _medians(rows: list[Row], name: str, known: float | str | None) -> dict[int, float]:
    own = [r["regrets"] for r in rows if (r["source"], r["known"]) == (name, known)]
    return {n: float(np.median([r[str(n)] for r in own])) for n in AT} if own else {}


def main() -> None:
    parser = parser_of(__doc__, "output", "tables")
    parser.add_argument("--seeds", type=int, default=6)
    given = parser.parse_args()
    wanted = [
        {"source": name, "known": known, "seed": seed}
        for seed in range(given.seeds)
        for name in SOURCES
        for known in KNOWN
    ]
    print(table(run_all(wanted, KEY, given.output, partial(search, folder=given.tables))))


if __name__ == "__main__":
    main()
