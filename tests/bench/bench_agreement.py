"""How often the stated interval of a rank correlation holds what it states.

    python tests/bench/bench_agreement.py                              # drawn pairs, two minutes
    python tests/bench/bench_agreement.py --full --output agreement.jsonl

`status`, the report and the check of a read-out state the rank correlation of two rungs over the
mixtures that were run on both, with a 90 % interval. What is true here is the rank correlation of
single runs over mixtures from everywhere. Two kinds of pairs:

- drawn: mixtures independently of their scores, as rounds on rungs and checks of read-outs do.
  Scores of two rungs are normal (with correlation rho), `heavy` (the same with tails of t with 3
  degrees of freedom), `skew` (they agree better at one end), or of a simulated ladder,
  `law/<rank correlation>@<noise>` (21 domains, costs 1:4:16; the cheapest rung and the target).
- searched (--full): those that simplex-gp bought on both rungs within so many trials of the target,
  which it picked for their scores.

With --output it resumes, and processes with other --sources may share the file.
"""

from __future__ import annotations

from harness import CACHE, TABLES, Row, parser_of, run_all  # first: one thread

# isort: split

import argparse
from collections.abc import Iterable

import numpy as np
import optuna

from climb_opt import SimplexGPSampler
from climb_opt.emulator import LadderObjective, LadderSource
from climb_opt.ladder.agreement import LEVEL, Agreement, rank_agreement
from climb_opt.statistics import spearman
from climb_opt.text import pipe_table
from climb_opt.view import read_history
from ladder_sources import source

FORMS = [f"{form}/{rho}" for form in ("normal", "heavy", "skew") for rho in (0, 0.5, 0.8, 0.95)]
LAWS = [f"law/{rho}@{noise}" for rho in (0.2, 0.8, 0.95) for noise in (0, 0.3)]
PAIRS = (4, 5, 6, 8, 12, 20, 40)
MANY = 200_000  # pairs that the true correlation is taken of
SPENT = (3, 6, 12)  # trials of the target after which a search is asked
KEY = ("kind", "source", "n", "seed")


def drawn(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Scores (count, 2) of mixtures that were drawn independently."""
    form, _, rest = name.partition("/")
    if form == "law":
        return _single_runs(source(name, TABLES, CACHE), count, rng)
    rho = float(rest)
    x, e = rng.standard_normal((2, count))
    spread = np.exp(0.7 * x - 0.49) if form == "skew" else 1.0
    y = rho * x + np.sqrt(1 - rho**2) * e * spread
    tails = np.sqrt(3 / rng.chisquare(3, count)) if form == "heavy" else 1.0
    return np.stack([x * tails, y * tails], axis=1)


def _single_runs(oracle: LadderSource, count: int, rng: np.random.Generator) -> np.ndarray:
    pool = oracle.reference()
    weights = pool[rng.integers(0, len(pool), count)]
    scores = [oracle.score(weights, r, int(rng.integers(2**31))) for r in (0, oracle.ladder.target)]
    return np.stack(scores, axis=1)


def true(name: str) -> float:
    return spearman(*drawn(name, MANY, np.random.default_rng(0)).T)


def held(options: argparse.Namespace, name: str, n: int) -> Row:
    """The share of intervals over `n` drawn pairs that hold, and how wide they are."""
    rng, rho = np.random.default_rng([n, 1]), true(name)
    found = [Agreement.of(0, 1, drawn(name, n, rng)) for _ in range(options.repeats)]
    inside = [one.low <= rho <= one.high for one in found]
    width = np.mean([one.high - one.low for one in found])
    return {"true": rho, "held": float(np.mean(inside)), "width": float(width)}


def searched(name: str, seed: int) -> Row:
    """What a search states after each of `SPENT`: pairs, and whether the interval holds."""
    oracle, rho = source(name, TABLES, CACHE), true(name)
    ladder, target = oracle.ladder, oracle.ladder.target
    sampler = SimplexGPSampler(oracle.space, ladder=ladder, seed=seed)
    study = optuna.create_study(sampler=sampler)
    objective, stated = LadderObjective(oracle, seed=seed), []
    for spent in SPENT:
        while ladder.spent(study.trials) < spent * ladder.costs[-1]:
            study.optimize(objective, n_trials=1)
        history = read_history(study, oracle.space, rungs=True)
        for one in rank_agreement(history, len(ladder)):
            if (one.lower, one.upper) == (0, target) and one.known:
                stated.append([spent, one.n, one.estimate, one.low, one.high])
    return {"true": rho, "stated": stated}


def wanted(options: argparse.Namespace) -> Iterable[Row]:
    for name in options.sources:
        for n in options.pairs:
            yield {"kind": "drawn", "source": name, "n": n, "seed": 0}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.sources:
            if name.startswith("law"):
                yield {"kind": "searched", "source": name, "n": 0, "seed": seed}


def report(rows: list[Row]) -> None:
    pairs = sorted({row["n"] for row in rows if row["kind"] == "drawn"})
    print(f"Drawn pairs: share of {100 * LEVEL:.0f} % intervals that hold / their mean width.\n")
    lines = []
    for name in dict.fromkeys(row["source"] for row in rows):
        mine = [row for row in rows if row["source"] == name and row["kind"] == "drawn"]
        cells = [f"{row['held']:.2f} / {row['width']:.2f}" for row in mine]
        lines.append([name, f"{mine[0]['true']:.2f}", *cells])
    print("\n".join(pipe_table(["scores", "true", *(f"{n} pairs" for n in pairs)], lines)))
    found = [row for row in rows if row["kind"] == "searched"]
    if not found:
        return
    print(
        "\nPairs of searches, after so many trials of the target: held / searches (mean pairs).\n"
    )
    lines = []
    for name in dict.fromkeys(row["source"] for row in found):
        mine = [row for row in found if row["source"] == name]
        rho, cells = mine[0]["true"], []
        for spent in SPENT:
            here = [one for row in mine for one in row["stated"] if one[0] == spent]
            good = sum(low <= rho <= high for *_, low, high in here)
            pairs_here = np.mean([n for _, n, *_ in here]) if here else 0
            cells.append(f"{good} / {len(here)} ({pairs_here:.0f})")
        off = np.mean([one[2] - rho for row in mine for one in row["stated"][-1:]])
        lines.append([name, f"{rho:.2f}", *cells, f"{off:+.2f}"])
    head = ["scores", "true", *(f"after {n}" for n in SPENT), "estimate - true"]
    print("\n".join(pipe_table(head, lines)))


def main() -> None:
    parser = parser_of(__doc__, "output", "first-seed")
    parser.add_argument("--full", action="store_true", help="searches, too")
    parser.add_argument("--sources", nargs="+", default=[*FORMS, *LAWS])
    parser.add_argument("--pairs", nargs="+", type=int, default=list(PAIRS))
    parser.add_argument("--repeats", type=int, default=1000, help="intervals of each cell")
    parser.add_argument("--seeds", type=int, help="searches of each ladder")
    options = parser.parse_args()
    if options.seeds is None:
        options.seeds = 10 if options.full else 0

    def run(row: Row) -> Row:
        if row["kind"] == "drawn":
            return held(options, row["source"], row["n"])
        return searched(row["source"], row["seed"])

    report(run_all(wanted(options), KEY, options.output, run))


if __name__ == "__main__":
    main()
