"""Does a short run rank mixtures as the whole run does, and at which learning rate?

    python tests/bench/bench_rates.py demo --mixtures 12 --seeds 2 --output rates.jsonl

The study's proxy as the target of a ladder, and below it the same on a part of the tokens, at
several learning rates. Prints the rank correlation of each with the whole run over mixtures drawn
as a search starts with, and that of the whole run with itself under another seed, which no rung can
be expected to beat. What is in --output is not trained again.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all  # first: one thread

# isort: split

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from climb_opt import recipes
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.job import Job
from climb_opt.shards import Corpus
from climb_opt.statistics import rank_interval, spearman
from climb_opt.text import pipe_table

OTHER = 1000  # added to a seed: the whole run's second opinion


def measure(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Scores (mixtures, seeds) of the whole run, of it under other seeds, and of each rung."""
    recipe = recipes.read_study(options.study, options.set)
    proxy, corpus = recipe.proxy, Corpus.load(recipe.corpus_folder)
    part = proxy.tokens // options.part
    rungs = [replace(proxy, tokens=part, lr=proxy.lr * rate) for rate in options.rates]
    recipe = replace(recipe, ladder=(*rungs, proxy), repetition=options.repetition)
    objective = ProxyObjective(corpus, recipe, directory=options.output.parent / "rates")
    space = objective.space
    drawn = space.sample_mixed(np.random.default_rng(0), options.mixtures)
    ways = {"whole run": (len(rungs), 0), "whole run, another seed": (len(rungs), OTHER)}
    for rung, rate in enumerate(options.rates):
        ways[f"1/{options.part}, {options.repetition}, rate x {rate:g}"] = (rung, 0)

    def run(row: Row) -> Row:
        job = Job("trial", space.mixture(drawn[row["mixture"]]), row["seed"], ways[row["name"]][0])
        _, components, _ = objective.group.run(objective._work, job)
        return {"score": objective.aggregate(components)}

    wanted = [
        {"name": name, "mixture": number, "seed": seed + more}
        for seed in range(options.seeds)
        for name, (_, more) in ways.items()
        for number in range(options.mixtures)
    ]
    rows = run_all(wanted, ("name", "mixture", "seed"), options.output, run)
    scores = np.reshape([row["score"] for row in rows], (options.seeds, len(ways), -1))
    return {name: scores[:, i].T for i, name in enumerate(ways)}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("study", help="a study's recipe")
    parser.add_argument("--mixtures", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--part", type=int, default=4, help="a rung trains on 1 / this")
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0, 0.1, 0.01])
    parser.add_argument("--repetition", choices=["matched", "whole"], default="matched")
    parser.add_argument("--output", type=Path, default=Path("rates.jsonl"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    found = measure(options)
    full = found.pop("whole run")
    lines = []
    for name, own in found.items():
        by_seed = ", ".join(f"{spearman(a, b):.2f}" for a, b in zip(own.T, full.T, strict=True))
        means = own.mean(axis=1), full.mean(axis=1)
        low, high = rank_interval(*means)
        shown = f"{spearman(*means):.2f} [{low:.2f}, {high:.2f}]"
        lines.append([name, by_seed, shown, f"{own.mean():.3f}"])
    lines.append(["whole run", "", "", f"{full.mean():.3f}"])
    head = ["against the whole run", "rank correlation, by seed", "of the means [90 %]"]
    print("\n".join(pipe_table([*head, "mean score"], lines)))


if __name__ == "__main__":
    main()
