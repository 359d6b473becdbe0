"""Whether the regret that `climb-opt plan` expects is what searches then have.

    python tests/bench/bench_plan.py                        # one source, two searches: minutes
    python tests/bench/bench_plan.py --output runs.jsonl [--sources ...] [--seeds 8]

The plan is told the costs, the rank correlations and the noise of a source, as `--from STUDY` would
tell it, and emulates searches on laws of its own (three seeds, as by default). Then the same
searches run on the source itself, which is none of those laws: other draws of the same kind
(`law/<rank correlation>`), a ladder whose rungs mislead near the optimum (`law/misleads`), and
emulators of RegMix's three sizes (--tables FOLDER). It resumes from --output.

Printed: at each budget (trials of the target) the stated mean and error, the mean found, and their
ratio; then whether what the plan says of the ladder against one rung is what was found.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all  # first: one thread

# isort: split

from collections import defaultdict
from pathlib import Path

import numpy as np

from climb_opt.emulator import LadderSource, MixingLaw, SimulatedLadder
from climb_opt.recipes import read_study
from climb_opt.reports.planned.measured import Evidence
from climb_opt.reports.planned.plan_search import SEEDS
from climb_opt.reports.planned.regret import CHOSEN, ONE, Setting, budgets_for, search, searched_on
from climb_opt.text import pipe_table
from ladder_sources import source

TOP = 8.0  # trials of the target: the largest budget
NEW = 100  # added to a law's seed: none of those that the plan emulates
SOURCES = [
    "law/0.8@0.1",
    "law/0.95@0.1",
    "law/misleads@0.1",
    "regmix/avg13@0.1",
    "regmix/pile_cc@0.1",
]
KEY = ("source", "side", "arm", "budget", "seed")
STATED, FOUND = "stated", "found"


def oracle_of(name: str, seed: int, tables: Path, cache: Path) -> LadderSource:
    kind, _, rest = name.partition("/")
    if kind != "law":
        return source(name, tables, cache)
    what, _, noise = rest.partition("@")
    misleads = what == "misleads"
    return SimulatedLadder(
        MixingLaw(seed=NEW + seed),
        correlation=0.95 if misleads else float(what),
        misleads=misleads,
        noise=float(noise or 0),
        seed=NEW + seed,
    )


def run(row: Row, tables: Path, cache: Path) -> Row:
    oracle = oracle_of(row["source"], row["seed"] if row["side"] == FOUND else 0, tables, cache)
    recipe = read_study("climb-ladder")
    if row["side"] == STATED:
        noise = oracle.noise if isinstance(oracle.noise, float) else oracle.noise[-1]
        rising = tuple(np.maximum.accumulate(oracle.correlations[:-1]))  # as the plan takes them
        told = Evidence(noise, "measured", rising, "measured")
        oracle = searched_on(Setting(oracle.space, oracle.ladder, told, SEEDS), row["seed"])
    regret, cut = search(recipe, row["arm"], row["budget"], oracle, row["seed"])
    return {"regret": regret, "cut": cut}


def main() -> None:
    parser = parser_of(__doc__, "tables", "cache", "output")
    parser.add_argument("--sources", nargs="+", help="as listed above; one law by default")
    parser.add_argument("--seeds", type=int, default=8, help="searches on the source")
    args = parser.parse_args()
    quick = args.output is None
    seeds, names = (2, SOURCES[:1]) if quick else (args.seeds, args.sources or SOURCES)
    wanted: list[Row] = [
        {"source": name, "side": side, "arm": arm, "budget": budget, "seed": seed}
        for name in names
        for budget in (budgets_for(TOP)[:2] if quick else budgets_for(TOP))
        for side, count in ((STATED, SEEDS), (FOUND, seeds))
        for seed in range(count)
        for arm in (CHOSEN, ONE)
    ]
    rows = run_all(wanted, KEY, args.output, lambda row: run(row, args.tables, args.cache))
    print(report(rows))


def report(rows: list[Row]) -> str:
    """The table and the two counts."""
    runs: dict[tuple, list[float]] = defaultdict(list)
    for row in rows:
        runs[(row["source"], row["arm"], row["budget"], row["side"])].append(row["regret"])
    lines: list[list[str]] = []
    inside, kept = [], []
    for name, arm, budget in dict.fromkeys(key[:3] for key in runs):
        stated, found = (np.array(runs[(name, arm, budget, side)]) for side in (STATED, FOUND))
        inside.append(
            abs(found.mean() - stated.mean()) <= 2 * np.hypot(_error(stated), _error(found))
        )
        both = [f"{each.mean():.3f} ± {_error(each):.3f}" for each in (stated, found)]
        ratio, within = f"{found.mean() / stated.mean():.2f}", "yes" if inside[-1] else "no"
        lines.append([name, arm, f"{budget:g}", *both, ratio, within])
    for name, budget in dict.fromkeys((row["source"], row["budget"]) for row in rows):
        gains = [
            np.mean(runs[(name, ONE, budget, side)]) - np.mean(runs[(name, CHOSEN, budget, side)])
            for side in (STATED, FOUND)
        ]
        kept.append((gains[0] > 0) == (gains[1] > 0))
    head = ["source", "arm", "budget", "stated", "found", "found / stated", "within"]
    return "\n".join([
        *pipe_table(head, lines),
        "",
        f"{sum(inside)} of {len(inside)} expected regrets within two standard errors",
        f"{sum(kept)} of {len(kept)} times the ladder was better, or not, as the plan said",
    ])  # fmt: skip


def _error(runs: np.ndarray) -> float:
    return float(runs.std(ddof=1) / np.sqrt(len(runs))) if len(runs) > 1 else 0.0


if __name__ == "__main__":
    main()
