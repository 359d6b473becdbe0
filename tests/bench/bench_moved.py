"""How often a stated gain over the score of a method holds: a baseline that is no mixture.

    python tests/bench/bench_moved.py --searches FOLDER                # kept by bench_coverage.py
    python tests/bench/bench_moved.py --sources law8-0 law21-0 --noise 0 .3 --seeds 2

A method that sets weights while it trains has one measured score and no place in the space, so what
is stated of the gain over it rests on that score and on the noise that the search shows. What is
true here is what the method's mixture truly scores, less what the recommended one does. Each search
is judged with three methods: one as good as the uniform mixture, one as the prior, and one as the
best mixture of the law.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all  # first: one thread

# isort: split

import argparse
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial

import bench_coverage as bench
import bench_search
from climb_opt.ablation.run import promises
from climb_opt.ablation.table.coverage import cells, interval
from climb_opt.emulator import Source
from climb_opt.selection import best_mixture
from climb_opt.selection.choosing import evidence_of, learnt
from climb_opt.text import pipe_table

KEY = ("source", "sampler", "noise", "seed", "n")
METHODS = ("uniform", "prior", "best")


def gains(row: Row, source: Source, trials: Sequence[FrozenTrial], sigma: float) -> Row:
    """Method -> what is stated of the gain over its score after these trials; whether it holds."""
    space, (best, typical) = source.space, bench_search.yardstick(source)
    study = promises.prefix(space, trials)
    pick = space.weights(best_mixture(study, space=space))
    view, _, history = learnt(study, space)
    evidence = evidence_of(view, space, history, False, 0)
    assert evidence is not None  # noise-free scores of a law are never all equal
    promise = evidence.promised(pick)
    uniform, prior = np.full(len(space), 1 / len(space)), space.project(space.prior)
    own, *others = source.score(np.stack([pick, uniform, prior])).tolist()
    rng = np.random.default_rng(zlib.crc32(" ".join(str(row[name]) for name in KEY).encode()))
    found: Row = {}
    for method, true in zip(METHODS, [*others, best], strict=True):
        stated = promise.gain_over_score(float(true + sigma * rng.standard_normal()))
        held = promises.held(stated, true - own, typical - best)
        found[method] = {f"gain {name}": figure for name, figure in held.items()}
    return found


def judged(options: argparse.Namespace, row: Row) -> Row:
    """One row: the search as `bench_coverage.py` makes or keeps it, then what is stated."""
    source = bench_search.source(row["source"], options.tables, options.cache)
    last, seed = max(options.trials), row["seed"]
    objective = bench.objective_of(row["source"], source, row["noise"], seed)
    name = f"{row['source']}-{row['sampler']}-{row['noise']:g}-{seed}-{last}"
    run = partial(bench.search, objective, row["sampler"], seed, last)
    trials, _ = bench.searched(options.searches, name, run)
    return gains(row, source, trials[: row["n"]], objective.sigma)


def wanted(options: argparse.Namespace) -> Iterator[Row]:
    """The rows, one for each recommendation."""
    for source, sampler, noise, seed in bench.wanted(options):
        for n in options.trials:
            yield dict(zip(KEY, (source, sampler, noise, seed, n), strict=True))


def main() -> None:
    parser = parser_of(__doc__, "tables", "cache", "first-seed")
    parser.add_argument("--searches", type=Path, help="folder of searches, kept and used again")
    parser.add_argument("--sources", nargs="+", default=["law8-0", "law21-0"])
    parser.add_argument("--samplers", nargs="+", choices=list(bench.SAMPLERS), default=["gp"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.3])
    parser.add_argument("--trials", nargs="+", type=int, default=[28, 56])
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--file", type=Path, help="JSON lines: what was judged, to resume")
    options = parser.parse_args()
    found = run_all(list(wanted(options)), KEY, options.file, partial(judged, options))
    rows = [row | row[method] | {"method": method} for row in found for method in METHODS]
    for by in (("sampler", "noise"), ("noise", "n"), ("method",)):
        found_in = cells(rows, *by).items()
        lines = [[*map(str, key), str(len(own)), *interval(own, "gain")] for key, own in found_in]
        head = [*by, "asked", "holds", "error, half", "width", "score"]
        print("\n".join(pipe_table(head, lines)), end="\n\n")


if __name__ == "__main__":
    main()
