"""Whether a cheap rung is given up after five pairs: by what is foretold with it and without it, by
the estimate of its rank correlation, or by an end of the interval.

    python tests/bench/bench_decisions.py                               # one seed a ladder, seconds
    python tests/bench/bench_decisions.py --output runs.jsonl --seeds 12

Each run is a search on a simulated ladder (as of bench_ladder.py) up to the fifth mixture that its
cheapest rung and the target have both run, where `samplers/rungs.py` decides first. It resumes from
--output.
"""

from __future__ import annotations

from harness import CACHE, TABLES, Row, parser_of, run_all  # first: one thread

# isort: split

import optuna

from bench_ladder import ARMS, store
from climb_opt.emulator import LadderObjective
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.ladder import LadderProcess
from climb_opt.ladder.agreement import Agreement, paired
from climb_opt.samplers.rungs import FEW, MISLED, SURE, TRUSTED
from climb_opt.storages import study_lock
from climb_opt.text import pipe_table
from climb_opt.view import StudyView, read_history
from climb_opt.workers import Work
from climb_opt.workers import work as run_plan
from ladder_sources import source

SOURCES = [f"law/{rho}@{noise}" for rho in (0.95, 0.8, 0.2) for noise in (0, 0.1, 0.3)]
MOST = 90  # trials
KEY = ("source", "seed")


def run(name: str, seed: int) -> Row:
    """Rank correlation of the pairs with its interval, what the process says of the rung, and what
    the rungs below the target say of it, in nats."""
    oracle, arm = source(name, TABLES, CACHE), ARMS["gp-ladder"]
    study = optuna.create_study(sampler=arm.make(oracle, seed, ()))
    store(study, oracle, arm, ())
    view, target = StudyView(study), oracle.ladder.target

    def enough() -> bool:
        history = read_history(study, oracle.space, rungs=True)
        return len(history) >= MOST or len(paired(history, 0, target)[0]) >= FEW

    wanted = Work(view.plan, space=oracle.space, stop=enough)
    run_plan(study, LadderObjective(oracle, seed=seed), study_lock(study), wanted)
    history = read_history(study, oracle.space, rungs=True)
    found = Agreement.of(0, target, paired(history, 0, target)[0])
    problem = Beliefs(oracle.space).problem(history)
    assert problem is not None
    process = problem.objectives[0]
    assert isinstance(process, LadderProcess)
    known = {"rank": found.estimate, "low": found.low, "high": found.high}
    return {"pairs": found.n, **known, "says": process.says(0), "told": problem.told}


def report(rows: list[Row]) -> str:
    """How many searches would give the rung up, by each rule."""
    lines = []
    for name in dict.fromkeys(row["source"] for row in rows):
        own = [row for row in rows if row["source"] == name]
        below = [
            sum(row[what] < least for row in own)
            for what, least in (("told", MISLED), ("rank", TRUSTED), ("high", TRUSTED),
                                ("low", TRUSTED), ("says", TRUSTED), ("says", SURE))
        ]  # fmt: skip
        lines.append([name, *map(str, below), str(len(own))])
    head = [
        "ladder",
        "foretold",
        "estimate",
        "upper end",
        "lower end",
        "says",
        "says, below sure",
        "searches",
    ]
    return "\n".join(pipe_table(head, lines))


def main() -> None:
    parser = parser_of(__doc__, "output")
    parser.add_argument("--sources", nargs="+", default=SOURCES)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    every = ({"source": n, "seed": s} for s in range(args.seeds) for n in args.sources)
    rows = run_all(every, KEY, args.output, lambda row: run(row["source"], row["seed"]))
    print(report(rows))


if __name__ == "__main__":
    main()
