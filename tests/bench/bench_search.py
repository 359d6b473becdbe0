"""How good the mixtures are that samplers find: regret after 112 evaluations, against CLIMB.

    python tests/bench/bench_search.py                    # a quick form on simulated laws, < 2 min
    python tests/bench/bench_search.py --full [--tables FOLDER] --output runs.jsonl

The full form searches emulators of three published tables (RegMix's mean of 13 losses, its Pile-CC
loss, Olmix's DCLM) with noise 0, .1, .3 and 1 in units of the sparse prior's standard deviation,
10 paired seeds, one at a time and in batches of 8. It resumes from --output; processes with other
--first-seed may append to the same file, and a last call with all seeds prints the tables.

Regret is (score - best) / (median of the sparse prior - best): 0 the best known, 1 a typical random
mixture; the true score, whatever noise the sampler saw. Every method runs as an ordinary in-memory
Optuna study. Cells are medians [quartiles]; "wins" are seeds on which a method's recommendation is
better than CLIMB's mean of its top 128, on the same noise.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all  # first: one thread

# isort: split

import argparse
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler
from climb_opt.emulator import Emulator, MixingLaw, NoisyObjective, Source, read_table
from climb_opt.emulator.objective import reference_draws
from climb_opt.mixbench.catalogue import PROBLEMS
from climb_opt.samplers import stock
from climb_opt.samplers.climb import climb_pick
from climb_opt.samplers.presets import ClimbOptions
from climb_opt.selection import compare_rules
from climb_opt.text import pipe_table
from climb_opt.view import read_history
from ladder_sources import SCORES, prior_of, regmix

TRIALS = 112
RULES = ["observed", "evaluated", "predicted", "supported", "top", "optimum", "auto"]
CHECKPOINTS = (20, 24, 28, 32, 40, 48, 56, 80)
CHECKED = (0.0, 0.3)  # noise at which trials-to-match are counted

Make = Callable[[MixtureSpace, int], BaseSampler]
METHODS: dict[str, tuple[Make, int]] = {  # name -> (sampler of space and seed, batch)
    "climb nemo": (lambda space, seed: ClimbSampler(space, seed=seed), 1),
    "climb paper": (lambda space, seed: ClimbSampler(space, preset="paper", seed=seed), 1),
    "gp": (lambda space, seed: SimplexGPSampler(space, seed=seed), 1),
    "gp x8": (lambda space, seed: SimplexGPSampler(space, seed=seed), 8),
    "tpe": (lambda space, seed: stock.tpe(space, seed=seed), 1),
    "optuna gp": (lambda space, seed: stock.gp_optuna(space, seed=seed), 1),
    "botorch": (lambda space, seed: stock.botorch(space, seed=seed), 1),  # minutes a run
}
USUAL = ["climb nemo", "climb paper", "gp", "gp x8", "tpe"]

# What issue 3 asks of the recommended mixture: (one at a time, batches of 8).
TARGETS = {
    0.0: {"avg13": (0.0014, 0.0023), "pile_cc": (0.0005, 0.001), "dclm": (0.009, 0.009)},
    0.1: {"avg13": (0.021, 0.016), "pile_cc": (0.028, 0.027), "dclm": (0.057, 0.064)},
    0.3: {"avg13": (0.035, 0.032), "pile_cc": (0.060, 0.049), "dclm": (0.082, 0.083)},
    1.0: {"avg13": (0.058, 0.070), "pile_cc": (0.089, 0.089), "dclm": (0.15, 0.13)},
}


# --- oracles ---------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def source(name: str, tables: Path, cache: Path) -> Source:
    """An oracle: "avg13", "pile_cc", "dclm", "law<domains>-<seed>", or a law of mixbench with its
    seed ("traces-6")."""
    problem, _, seed = name.rpartition("-")
    if problem.startswith("law"):
        return MixingLaw(int(problem[3:]), seed=int(seed))
    if problem in PROBLEMS:
        parts = PROBLEMS[problem](law=int(seed)).parts
        assert parts is not None, f"{problem} has rungs"
        return parts
    if name == "dclm":
        folder = tables / "olmix_dclm"
        table = read_table(folder / "dclm_ratios.csv", folder / "dclm_metrics.csv", key="run")
        return Emulator.fit(table, table.names, cache=cache)
    table, parts = regmix(tables), name == "avg13"
    score = SCORES[name] or table.names
    return Emulator.fit(table, score, prior=prior_of(table), components=parts, cache=cache)


@lru_cache(maxsize=8)
def yardstick(oracle: Source) -> tuple[float, float]:
    """The best score, and the median score of the sparse prior."""
    return oracle.optimum()[1], float(np.median(oracle.score(reference_draws(oracle.space))))


def regret(oracle: Source, weights: np.ndarray) -> np.ndarray:
    best, typical = yardstick(oracle)
    return np.asarray((oracle.score(np.atleast_2d(weights)) - best) / (typical - best))


# --- one run ---------------------------------------------------------------------------------


def run(oracle: Source, method: str, noise: float, seed: int, trials: int) -> Row:
    """One search: what its evaluations and its recommendations are worth."""
    make, batch = METHODS[method]
    started = time.process_time()
    study = optuna.create_study(sampler=make(oracle.space, seed))
    objective = NoisyObjective(oracle, noise=noise, seed=seed)
    found: Row = {}
    at = [c for c in CHECKPOINTS if c < trials] if method == "gp" and noise in CHECKED else []
    searching = 0.0
    while (done := len(study.get_trials(deepcopy=False))) < trials:
        begun = time.process_time()
        asked = [study.ask() for _ in range(min(batch, trials - done))]
        for trial in asked:  # proposed before the first result is known, as by `batch` workers
            oracle.space.suggest(trial)
        searching += time.process_time() - begun
        for trial in asked:
            study.tell(trial, objective(trial))
        if done + batch in at:
            pick = compare_rules(study, rules=["auto"])["auto"]
            value = regret(oracle, oracle.space.weights(pick))[0]
            found[f"auto@{done + batch}"] = float(value)
    found |= _judge(study, oracle, method)
    return found | {"cpu": searching, "cpu_all": time.process_time() - started}


def _judge(study: optuna.Study, oracle: Source, method: str) -> Row:
    space = oracle.space
    history = read_history(study, space)
    found = {"evaluated best": float(regret(oracle, history.weights).min())}
    rules = RULES if method in ("gp", "climb nemo") else ["auto"]
    for rule, pick in compare_rules(study, rules=rules).items():
        found[rule] = float(regret(oracle, space.weights(pick))[0])
    if method.startswith("climb"):
        preset = method.split()[1]
        for rule in ("argbest", "mean-top"):
            pick = climb_pick(space, history, ClimbOptions(preset), seed=_seed(study), rule=rule)
            found[rule] = float(regret(oracle, pick)[0])
    return found


def _seed(study: optuna.Study) -> int:
    return int(getattr(study.sampler, "_seed", 0))


# --- all runs --------------------------------------------------------------------------------


KEY = ("oracle", "noise", "method", "seed", "trials")


def wanted(options: argparse.Namespace) -> Iterable[Row]:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    every = product(seeds, options.noise, options.oracles, options.methods)
    for seed, noise, oracle, method in every:
        yield dict(zip(KEY, (oracle, noise, method, seed, options.trials), strict=True))


def work(options: argparse.Namespace) -> list[Row]:
    def one(row: Row) -> Row:
        oracle = source(row["oracle"], options.tables, options.cache)
        return run(oracle, row["method"], row["noise"], row["seed"], options.trials)

    return run_all(wanted(options), KEY, options.output, one)


# --- tables ----------------------------------------------------------------------------------


def spread(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.4f} [{low:.4f}, {high:.4f}]"


Column = Callable[[float, str, str], dict[int, float]]


def _column(rows: list[Row], oracle: str, noise: float, method: str, what: str) -> dict[int, float]:
    """Seed -> a figure of the runs of a method."""
    key = (oracle, noise, method)
    own = (r for r in rows if (r["oracle"], r["noise"], r["method"]) == key and what in r)
    return {r["seed"]: r[what] for r in own}


def report(rows: list[Row], options: argparse.Namespace) -> None:
    for oracle in options.oracles:
        print(f"\n{oracle}: {source(oracle, options.tables, options.cache).quality()}")
        column, lines = partial(_column, rows, oracle), []
        for noise in options.noise:
            climb = column(noise, "climb nemo", "mean-top")
            for method in options.methods:
                best = column(noise, method, "evaluated best")
                if not best:
                    continue
                cpu = np.median(list(column(noise, method, "cpu").values()))
                for rule in ("argbest", "mean-top", "auto"):
                    pick = column(noise, method, rule)
                    if not pick:
                        continue
                    both = [s for s in pick if s in climb]
                    wins = sum(pick[s] < climb[s] for s in both)
                    goal = TARGETS.get(noise, {}).get(oracle, ())
                    own = goal[METHODS[method][1] > 1] if goal and method[:2] == "gp" else None
                    met = "met" if own and np.median(list(pick.values())) <= own else "missed"
                    cells = [spread(list(each.values())) for each in (best, pick)]
                    cells += [f"{wins}/{len(both)}", "" if own is None else f"{own:g} {met}"]
                    row = [f"{noise:g}", f"{method}, {rule}", str(len(pick)), *cells]
                    lines.append([*row, f"{cpu:.1f}"])
        head = ["noise", "method", "seeds", "best evaluated", "recommended", "wins", "target"]
        print("\n".join(pipe_table([*head, "CPU s"], lines)))
        _report_match(options, column)
        if options.rules:
            _report_rules(options, column)


def _report_match(options: argparse.Namespace, column: Column) -> None:
    """Trials after which the median recommendation is as good as CLIMB's after all of them."""
    for noise in options.noise:
        for what in ("evaluated best", "argbest", "mean-top"):
            climb = column(noise, "climb nemo", what)
            curve = {c: column(noise, "gp", f"auto@{c}") for c in CHECKPOINTS}
            curve[options.trials] = column(noise, "gp", "auto")
            if not climb or not curve[CHECKPOINTS[0]]:
                continue
            level = float(np.median(list(climb.values())))
            medians = {c: float(np.median(list(v.values()))) for c, v in curve.items() if v}
            match = [c for c, value in medians.items() if value <= level]
            shown = ", ".join(f"{c}: {value:.3f}" for c, value in medians.items())
            print(
                f"noise {noise:g}: gp matches CLIMB's {what} ({level:.3f}) after "
                f"{match[0] if match else 'more than ' + str(options.trials)} trials  ({shown})"
            )


def _report_rules(options: argparse.Namespace, column: Column) -> None:
    lines = []
    for noise, method in product(options.noise, options.methods):
        cells = [list(column(noise, method, rule).values()) for rule in RULES]
        if cells[0]:
            lines.append([f"{noise:g}", method, *(f"{np.median(c):.4f}" for c in cells)])
    print("\n".join(pipe_table(["noise", "method", *RULES], lines)))


def main() -> None:
    parser = parser_of(__doc__, "tables", "cache", "output", "first-seed")
    parser.add_argument("--full", action="store_true", help="the published tables, all noises")
    parser.add_argument("--oracles", nargs="+", help="avg13, pile_cc, dclm, law<domains>-<seed>")
    parser.add_argument("--noise", nargs="+", type=float)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=USUAL)
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--rules", action="store_true", help="every rule of selection, too")
    options = parser.parse_args()
    full = options.full
    options.oracles = options.oracles or (["avg13", "pile_cc", "dclm"] if full else ["law21-0"])
    options.noise = options.noise or ([0.0, 0.1, 0.3, 1.0] if full else [0.0, 0.3])
    options.seeds = options.seeds or (10 if full else 2)
    report(work(options), options)


if __name__ == "__main__":
    main()
