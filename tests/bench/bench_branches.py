"""Do merged branches, and ensembles of them, rank mixtures as training does, and at what setting?

    python tests/bench/bench_branches.py demo --output branches.jsonl

A study's mixtures (as a search starts with) are trained from a trunk with two seeds, and read off
branches of several lengths, shares of general data and trunks. Prints the rank correlation of each
read-out with the mean of the trained scores, its 90 % bootstrap interval, the branches' shift, and
what trunk and branches cost in trained mixtures; beside it what a seed says of the other, and the
mean of the branches' own scores weighted by the mixture. What is in --output is not run again.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all, timed  # first: one thread

# isort: split

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import recipes
from climb_opt.ladder.branches.recipe import trunk_steps
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.branches.tree import TRUNK
from climb_opt.proxy.job import Job
from climb_opt.shards import Corpus
from climb_opt.statistics import rank_interval, spearman
from climb_opt.study_recipe import BranchesRecipe
from climb_opt.text import pipe_table

KEY = ("study", "trunk", "length", "general", "decay", "mixture", "seed")
# Length of a branch in trials after the trunk, general data, last share in which the rate falls.
SETTINGS = [(0.25, 0.0, 0.0), (0.25, 0.5, 0.0), (1.0, 0.0, 0.0), (1.0, 0.5, 0.0), (1.0, 0.5, 1.0)]


class Bench:
    """One study: its mixtures, trained and read off."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.recipe = recipes.read_study(options.study, options.set)
        self.corpus = Corpus.load(self.recipe.corpus_folder)
        self.folder = options.output.parent / options.output.stem
        self.objective = lru_cache(maxsize=2)(self._objective)

    def run(self, row: Row) -> Row:
        """A trained mixture, or all read-outs of one setting."""
        return self.trained(row) if row["mixture"] is not None else self.read(row)

    def trained(self, row: Row) -> Row:
        """Score of one mixture, trained from the trunk."""
        objective = self.objective(row["trunk"], 1.0, 0.5, 0.0)
        mixture = objective.space.mixture(self.mixtures(objective)[row["mixture"]])
        job = Job("trial", mixture, row["seed"], objective.rungs.target)
        return {"score": self.scored(objective, job)[0]}

    def read(self, row: Row) -> Row:
        """Scores of all mixtures by every read-out, after training the branches."""
        setting = row["length"], row["general"], row["decay"]
        objective = self.objective(row["trunk"], *setting)
        tree = objective.rungs.tree
        own = {}
        for name in (TRUNK, *tree.names):
            part = Job("part", {}, self.recipe.seed, objective.rungs.target, part=name)
            own[name] = self.scored(objective, part)[0]
        shifts = [tree.facts(name)["shift"] for name in tree.names]
        mixtures = [objective.space.mixture(w) for w in self.mixtures(objective)]
        found: dict[str, list[float]] = {}
        for rung, readout in enumerate(objective.recipe.readouts):
            jobs = [Job("read", mixture, self.recipe.seed, rung) for mixture in mixtures]
            found[readout] = [self.scored(objective, job)[0] for job in jobs]
        shares = np.array([tree.branches.shares(mixture) for mixture in mixtures])
        found["own scores"] = (shares @ [own[name] for name in tree.names]).tolist()
        return {"shift": shifts, "own": own, "scores": found, **self.seconds(objective, mixtures)}

    def seconds(self, objective: ProxyObjective, mixtures: list[Any]) -> Row:
        """CPU seconds of an evaluation, of merging before it, and of an ensemble's mixture."""
        tree = objective.rungs.tree
        merged = tree.merged(mixtures[0])
        evaluate = _fastest(lambda: objective._evaluate(merged), 3)
        merge = _fastest(lambda: tree.merged(mixtures[0]), 5)
        shares = tree.branches.shares(mixtures[0])
        ensemble = _fastest(lambda: tree.ensemble.scores(shares), 20)
        tokens = tree.ensemble.probabilities.shape[1]
        return {"evaluate": evaluate, "merge": merge, "ensemble": ensemble, "tokens": tokens}

    def mixtures(self, objective: ProxyObjective) -> np.ndarray:
        """(mixtures, D) as a search starts with."""
        rng = np.random.default_rng(0)
        return objective.space.sample_mixed(rng, self.options.mixtures)

    def scored(self, objective: ProxyObjective, job: Job) -> tuple[float, dict[str, Any]]:
        """The study's score of a job."""
        _, components, facts = objective.group.run(objective._work, job)
        return objective.aggregate(components), facts

    def _objective(
        self, trunk: float, length: float, general: float, decay: float
    ) -> ProxyObjective:
        proxy = self.recipe.proxy
        steps = proxy.tokens // proxy.batch_tokens
        begun = trunk_steps(BranchesRecipe(trunk=trunk), steps)
        tokens = max(1, round(length * (steps - begun))) * proxy.batch_tokens
        branches = BranchesRecipe(
            trunk=trunk,
            tokens=tokens,
            general=general,
            decay=decay,
            read=("ensemble", "merge"),
            epochs=1e9,  # no groups: every domain has a branch
        )
        recipe = replace(self.recipe, branches=branches, rungs=(), rounds=(1,))
        return ProxyObjective(self.corpus, recipe, directory=self.folder / "runs")


def _fastest(run: Callable[[], Any], times: int) -> float:
    return min(timed(run)[1] for _ in range(times))


def wanted(options: argparse.Namespace) -> list[Row]:
    """What is to be run, in an order in which each trunk is complete before the next."""
    rows: list[Row] = []
    for trunk in options.trunks:
        at = {"study": options.study, "trunk": trunk}
        seeds = [
            {**at, "mixture": m, "seed": s + 1} for s in range(2) for m in range(options.mixtures)
        ]
        rows += [{**row, "length": None, "general": None, "decay": None} for row in seeds]
        rows += [
            {**at, "length": a, "general": g, "decay": d, "mixture": None, "seed": None}
            for a, g, d in SETTINGS[: options.settings]
        ]
    return rows


def table(rows: list[Row], trunks: list[float]) -> list[str]:
    """Lines of a Markdown table."""
    head = ["trunk", "branch", "general", "decay", "shift", "cost", "merge", "ensemble"]
    lines = []
    for trunk in trunks:
        here = [row for row in rows if row["trunk"] == trunk]
        seeds = {s: [r["score"] for r in here if r["seed"] == s] for s in (1, 2)}
        if not seeds[1] or len(seeds[1]) != len(seeds[2]):
            continue
        trained = np.mean([seeds[1], seeds[2]], axis=0)
        said = _said(seeds[1], seeds[2])
        lines.append([f"{trunk:g}", "another seed", "", "", "", "", said, "", ""])
        for row in here:
            if row["mixture"] is None:
                cost = len(row["shift"]) * row["length"] + trunk / (1 - trunk)
                ensemble, merge, own = (_said(s, trained) for s in row["scores"].values())
                of = [f"{x:g}" for x in (trunk, row["length"], row["general"], row["decay"])]
                shift = f"{np.mean(row['shift']):.3f}"
                lines.append([*of, shift, f"{cost:.1f}", merge, ensemble, own])
    return pipe_table([*head, "own scores"], lines)


def _said(a: Any, b: Any) -> str:
    low, high = rank_interval(np.array(a), np.array(b), level=0.9)
    return f"{spearman(np.array(a), np.array(b)):.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("study")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--mixtures", type=int, default=24)
    parser.add_argument("--trunks", type=float, nargs="+", default=[0.5, 0.2, 0.8])
    parser.add_argument("--settings", type=int, default=len(SETTINGS), help="how many of them")
    parser.add_argument("--set", action="append", default=[], help="a key of the study")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    rows = run_all(wanted(options), KEY, options.output, bench.run)
    print("\n".join(table(rows, options.trunks)))
    read = [row for row in rows if row["mixture"] is None]
    evaluate, merge = (float(np.median([row[k] for row in read])) for k in ("evaluate", "merge"))
    ensemble = np.median([1e6 * row["ensemble"] / row["tokens"] * 1000 for row in read])
    print(f"\nmerging and evaluating takes {(merge + evaluate) / evaluate:.3f} x evaluating alone")
    print(f"an ensemble's mixture takes {ensemble:.1f} us for 1,000 tokens")


if __name__ == "__main__":
    main()
