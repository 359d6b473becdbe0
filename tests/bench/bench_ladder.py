"""FLOPs to the same true regret, with and without a ladder of cheaper rungs.

    python tests/bench/bench_ladder.py --quick                       # a simulated ladder, minutes
    python tests/bench/bench_ladder.py --output runs.jsonl [--sources ...] [--arms ...] [--seeds 10]

It resumes from --output; processes with other --first-seed may append to the same file, and a last
call with all seeds prints the tables.

Sources: `dmsl/<result>` and `dmsl/mean7`, the rows of a ladder of real runs (122M on 4B tokens,
310M on 6B, 680M on 13B, 937M on 35B; --tables FOLDER); `regmix/avg13` and `regmix/pile_cc`,
emulators of its three sizes; `law/<rank correlation>` and `law/misleads`, simulated at costs
1:4:16, a law of 21 domains; `laws/...`, a law and deviations of its own for each seed; `free/...`,
the same with rungs below the target that cost next to nothing. `@<noise>` behind a source adds
noise, in standard deviations of the target's scores.

FLOPs are in trials of the target. Regret: of rows (score - best) / standard deviation of the rows;
else (score - best) / (median of random mixtures - best); the true score of what is recommended
after so many FLOPs. A row that was run before on that rung costs nothing again.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all  # first: one thread

# isort: split

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from climb_opt import ClimbSampler, MixtureSpace, SimplexGPSampler
from climb_opt.ablation.recipe.resolve import allocate
from climb_opt.attributes import BASELINE, LADDER, RECIPE
from climb_opt.baselines import fixed_mixture
from climb_opt.emulator import LadderObjective, LadderSource
from climb_opt.gp.beliefs import Beliefs
from climb_opt.recipes import study_from, to_json
from climb_opt.samplers.climb import climb_pick
from climb_opt.samplers.levels import on_one_scale
from climb_opt.samplers.presets import ClimbOptions
from climb_opt.selection import Recommendation, best_mixture
from climb_opt.storages import study_lock
from climb_opt.text import pipe_table
from climb_opt.view import StudyView, read_history
from climb_opt.workers import Work
from climb_opt.workers import work as run_plan
from ladder_figures import (
    CLOSE,
    LEVELS,
    Points,
    at,
    nine_at_once,
    nine_of_ten,
    ratio,
    reached,
    settled,
)
from ladder_sources import USUAL, own, regret, rows, rows_named, source

CLIMB = (4, 2, 1)  # shares of its rounds
ROUNDS = (64, 32, 16)  # of CLIMB on a ladder
MOST = 240  # trials of one search: on RegMix's ladder a cheap one costs next to nothing
STEP = {True: 1.1, False: 1.05}  # from one look at the recommendation to the next: rows, others


# --- arms ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """A sampler of (source, seed, rounds), and how many target trials it may spend.

    Args:
        rows, others: target trials on pools of rows, and on other sources.
        rungs: the rung of each round; "chosen": by the sampler, within the budget.
        own: CLIMB's own pick is looked at, too, in the end.
        baselines: they run at the target, as in recipes; else there are none.
    """

    make: Callable[[LadderSource, int, tuple[int, ...]], BaseSampler]
    rows: float = 40
    others: float = 64
    rungs: tuple[int, ...] | str = ()
    own: bool = False
    baselines: tuple[str, ...] = ()

    def budget(self, oracle: LadderSource) -> float:
        return self.rows if rows(oracle) else self.others


def _climb(oracle: LadderSource, seed: int, rounds: tuple[int, ...]) -> BaseSampler:
    return ClimbSampler(oracle.space, rounds=rounds, seed=seed)


def _gp(oracle: LadderSource, seed: int, rounds: tuple[int, ...]) -> BaseSampler:
    return SimplexGPSampler(oracle.space, seed=seed)


def _gp_short(oracle: LadderSource, seed: int, rounds: tuple[int, ...]) -> BaseSampler:
    return SimplexGPSampler(oracle.space, seed=seed, n_startup=6)


ARMS = {
    "gp": Arm(_gp),
    "gp-6": Arm(_gp_short),  # a start of six: fewer than is usual
    "climb": Arm(_climb, others=112, own=True),
    "climb-14": Arm(_climb, rows=14, others=14, own=True),
    "climb-28": Arm(_climb, rows=28, others=28, own=True),
    "climb-ladder": Arm(_climb, rungs=(0, 1, -1), own=True),
    "gp-ladder": Arm(_gp, rows=8, others=24, rungs="chosen"),
    "gp-ladder-64": Arm(_gp, rungs="chosen"),
    "gp-ladder-prior": Arm(_gp, rows=8, others=24, rungs="chosen", baselines=("prior",)),
}
ROWS_ONLY = ("gp-6", "climb-14", "climb-28")
PLAIN = ("screen",)  # no sampler: all rows, or 64 draws, at the cheapest rung; then the best above


class Curve:
    """What is recommended after so many FLOPs, looked at in geometric steps."""

    def __init__(self, oracle: LadderSource, seed: int, own: bool) -> None:
        self.oracle, self.seed, self.own = oracle, seed, own
        self.points: list[dict[str, float]] = []
        self._next = 0.0

    def look(self, study: optuna.Study, spent: float, last: bool = False) -> None:
        if spent < self._next and not last:
            return
        self._next = max(spent * STEP[rows(self.oracle)], spent + 0.05)
        picks = self._picks(study, self.own and last)
        if not picks:
            return
        values = {name: regret(self.oracle, weights) for name, weights in picks.items()}
        self.points.append({"flops": spent, "trials": len(study.trials), **values, **self._kept})

    def _picks(self, study: optuna.Study, own: bool) -> dict[str, np.ndarray]:
        space, found = self.oracle.space, {}
        self._kept: dict[str, float] = {}  # which of the promises that were made are true
        history = read_history(study, space, rungs=True)
        if rows(self.oracle):
            found["auto"] = _best_row(study, space, self.oracle)
        elif len(history):
            best = best_mixture(study, space=space)
            found["auto"] = space.weights(best.mixture, normalise=True)
            self._kept = promises_kept(best, self.oracle)
        if own and len(history) > 1:  # seconds each
            reached = on_one_scale(history)
            for what, rule in (("own", "argbest"), ("top", "mean-top")):
                options = ClimbOptions("nemo")
                found[what] = climb_pick(space, reached, options, seed=self.seed, rule=rule)
        return found


def promises_kept(best: Recommendation, oracle: LadderSource) -> dict[str, float]:
    """Whether the 90 % intervals of the score and the gain over the prior hold the truth; nothing
    where none was stated."""
    space, found = oracle.space, {}
    weights = space.weights(best.mixture, normalise=True)
    score, prior = oracle.truth(np.stack([weights, space.project(space.prior)]))
    for name, stated, truth in (
        ("score_held", best.predicted, score),
        ("gain_held", best.gain, prior - score),
    ):
        if stated is not None:
            found[name] = float(stated.low <= truth <= stated.high)
    return found


def _best_row(study: optuna.Study, space: MixtureSpace, oracle: LadderSource) -> np.ndarray:
    """The row with the lowest posterior mean at the target."""
    history = read_history(study, space, rungs=True)
    problem = Beliefs(space).problem(history)
    if problem is None:
        return np.asarray(history.weights[0])
    candidates = oracle.reference()
    return candidates[int(np.argmin(problem.objectives[0].mean(np.sqrt(candidates))))]


def run(oracle: LadderSource, name: str, seed: int) -> Row:
    started = time.process_time()
    if name in PLAIN:
        return {"curve": screen(oracle, seed), "cpu": time.process_time() - started}
    arm = ARMS[name]
    budget, shares = arm.budget(oracle), oracle.ladder.shares
    sized = ROUNDS if isinstance(arm.rungs, tuple) and arm.rungs else ()
    rounds = sized or tuple(allocate(round(budget), CLIMB))
    study = optuna.create_study(sampler=arm.make(oracle, seed, rounds))
    curve, known, used = Curve(oracle, seed, arm.own), set(), np.zeros(len(shares), dtype=int)
    spent = 0.0

    def on_trial(trial: optuna.trial.FrozenTrial) -> None:
        nonlocal spent
        rung = oracle.ladder.rung_of(trial)
        again = (rung, tuple(round(x, 9) for x in trial.params.values()))
        if again not in known or not rows(oracle) or oracle.noise:
            spent += float(shares[rung])
            known.add(again)
        used[rung] += 1
        curve.look(study, spent)

    objective = LadderObjective(oracle, seed=seed)
    if arm.rungs:
        store(study, oracle, arm, sized)
        plan = StudyView(study).plan
        wanted = Work(
            plan,
            mixtures={
                BASELINE + which: oracle.space.mixture(fixed_mixture(oracle.space, which))
                for which in arm.baselines
            },
            space=oracle.space,
            on_trial=on_trial,
            stop=lambda: int(used.sum()) >= MOST,
        )
        run_plan(study, objective, study_lock(study), wanted)
    else:
        study.optimize(objective, round(budget), callbacks=[lambda _, trial: on_trial(trial)])
    curve.look(study, spent, last=True)
    cpu = time.process_time() - started
    return {"curve": curve.points, "rungs": used.tolist(), "cpu": cpu}


def store(study: optuna.Study, oracle: LadderSource, arm: Arm, rounds: tuple[int, ...]) -> None:
    """What a study with a ladder says of itself: its rungs, and a recipe with its plan."""
    each = [{"tokens": 1 + place} for place in range(len(oracle.ladder))]
    data: dict[str, Any] = {"corpus": "emulated", "proxy": each[-1], "evaluators": ["emulated"]}
    data |= {"score": ["value"], "baselines": [*arm.baselines], "ladder": each}
    if rounds:
        rungs = [int(r) % len(each) for r in arm.rungs]
        data["rounds"] = [{"trials": m, "rung": r} for m, r in zip(rounds, rungs, strict=True)]
    else:
        flops = arm.budget(oracle) * float(oracle.ladder.costs[-1])
        data |= {"budget": {"flops": flops}, "sampler": "simplex-gp"}
    study.set_user_attr(LADDER, oracle.ladder.to_data())
    study.set_user_attr(RECIPE, to_json(study_from(data)))


def screen(oracle: LadderSource, seed: int) -> list[dict[str, float]]:
    """All rows (or 64 mixed draws) on the cheapest rung, then the best of them at the target."""
    rng = np.random.default_rng([seed, 5])
    drawn = oracle.reference() if rows(oracle) else oracle.space.sample_mixed(rng, 64)
    cheap = oracle.score(drawn, 0, [seed, 0])
    spent, best, points = float(oracle.ladder.shares[0]) * len(drawn), (np.inf, 0), []
    for place, i in enumerate(np.argsort(cheap, kind="stable")[:8]):
        if not place:
            points.append({"flops": spent, "auto": regret(oracle, drawn[i])})
        value = float(oracle.score(drawn[i : i + 1], None, [seed, 1 + place])[0])
        spent, best = spent + 1.0, min(best, (value, int(i)))
        points.append({"flops": spent, "auto": regret(oracle, drawn[best[1]])})
    return points


# --- all runs ------------------------------------------------------------------------------------


KEY = ("source", "arm", "seed")


def single(name: str, arm: str) -> str:
    """Arms that see the target alone share their runs over the ladders of one law."""
    kind, _, rest = name.partition("/")
    law = kind in ("law", "laws", "free") and arm not in PLAIN and not ARMS[arm].rungs
    kind = "laws" if kind == "free" else kind
    return f"{kind}/0.8@{rest.partition('@')[2]}" if law else name


def wanted(options: argparse.Namespace) -> Iterator[Row]:
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.sources:
            for arm in options.arms:
                if rows_named(name) or arm not in ROWS_ONLY:
                    yield {"source": single(name, arm), "arm": arm, "seed": seed}


def work(options: argparse.Namespace) -> list[Row]:
    def one(row: Row) -> Row:
        name = row["source"]
        oracle = source(name, options.tables, options.cache, own(name) and row["seed"])
        return run(oracle, row["arm"], row["seed"])

    return run_all(wanted(options), KEY, options.output, one)


# --- figures -------------------------------------------------------------------------------------


def report(found: list[Row], options: argparse.Namespace) -> None:
    def curves(name: str, arm: str) -> dict[int, Points]:
        name = single(name, arm)
        return {r["seed"]: r["curve"] for r in found if (r["source"], r["arm"]) == (name, arm)}

    pools = [name for name in options.sources if rows_named(name)]
    if pools:
        _report_rows(pools, options.arms, curves)
    for name in options.sources:
        if name not in pools:
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            each = [source(name, options.tables, options.cache, s) for s in seeds if own(name)]
            each = each or [source(name, options.tables, options.cache)]
            print("\n" + "\n".join(f"{name}: {oracle.quality()}" for oracle in each))
            _report_levels(name, options.arms, curves)


Curves = Callable[[str, str], dict[int, Points]]


def _report_rows(pools: list[str], arms: list[str], curves: Curves) -> None:
    print(
        f"FLOPs (target trials) until what nine tenths of the seeds recommend is within {CLOSE} sd "
        "of the best row; in brackets: and stays there in nine tenths"
    )
    lines = []
    table = np.full((len(pools), len(arms), 2), np.nan)
    for i, name in enumerate(pools):
        for j, arm in enumerate(arms):
            if each := list(curves(name, arm).values()):
                once = nine_at_once(each, CLOSE)
                table[i, j] = once, nine_of_ten([settled(c, CLOSE) for c in each])
        seeds = "/".join(str(len(curves(name, arm))) for arm in arms)
        lines.append([name, *_cells(table[i]), seeds])
    lines.append(["median", *_cells(np.median(table, axis=0)), ""])
    print("\n".join(pipe_table(["target", *arms, "seeds"], lines)))
    for j, arm in enumerate(arms):
        if arm in PLAIN or ARMS[arm].rungs:
            ratios = np.median(table[:, [j]] / table, axis=0)
            told = ", ".join(f"{arms[k]} {a:.3f} ({b:.3f})" for k, (a, b) in enumerate(ratios))
            print(f"{arm}: median ratio of FLOPs to {told}")


def _cells(pairs: np.ndarray) -> list[str]:
    return [f"{once:.2f} ({stays:.2f})" for once, stays in pairs]


def _report_levels(name: str, arms: list[str], curves: Curves) -> None:
    plain, climb = curves(name, "gp"), curves(name, "climb")
    for arm in arms:
        mine = curves(name, arm)
        if not mine:
            continue
        final = float(np.median([curve[-1]["auto"] for curve in mine.values()]))
        most = float(np.median([curve[-1]["flops"] for curve in mine.values()]))
        print(f"{arm}: regret {final:.4f} after {most:.1f} target trials, {len(mine)} seeds")
        for what in ("score_held", "gain_held"):
            stated = [[p[what] for p in c if what in p] for c in mine.values()]
            held, last = np.concatenate([*stated, []]), [each[-1] for each in stated if each]
            if last:
                print(
                    f"  {what}: {np.mean(held):.2f} of {len(held)} intervals, of the last of each "
                    f"search {np.mean(last):.2f} of {len(last)}"
                )
        if arm != "screen" and not ARMS[arm].rungs:
            continue
        for trials in LEVELS:
            both = sorted(set(mine) & set(plain))
            if both:
                ours, theirs = ([c[s] for s in both] for c in (mine, plain))
                level = _median_at(trials)
                told = ratio(ours, theirs, level)
                print(f"  to gp's regret at {trials} ({level(theirs):.4f}): {told} of its FLOPs")
    for arm in arms:
        both = sorted(set(curves(name, arm)) & set(climb))
        if both and arm != "climb":
            told = []
            for what in ("own", "top", "auto"):
                goal = float(np.median([climb[s][-1][what] for s in both]))
                flops = reached([curves(name, arm)[s] for s in both], goal)
                told.append(f"{what} ({goal:.4f}) in {flops / 112:.4f}")
            print(
                f"{arm}: CLIMB's result after 112 by rule, in parts of its FLOPs: {', '.join(told)}"
            )


def _median_at(trials: float) -> Callable[[list[Points]], float]:
    return lambda curves: float(np.median([at(curve, trials) for curve in curves]))


def main() -> None:
    parser = parser_of(__doc__, "tables", "cache", "output", "first-seed")
    parser.add_argument("--quick", action="store_true", help="one simulated ladder, two seeds")
    parser.add_argument("--sources", nargs="+", help="as listed above; all by default")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, *PLAIN], help="by default all")
    parser.add_argument("--seeds", type=int, help="how many")
    options = parser.parse_args()
    quick = options.quick
    options.sources = options.sources or (["law/0.8@0.1"] if quick else USUAL)
    options.arms = options.arms or ["gp", "climb", "gp-ladder", "screen"]
    options.seeds = options.seeds or (2 if quick else 10)
    report(work(options), options)


if __name__ == "__main__":
    main()
