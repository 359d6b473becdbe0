"""Does the mean of the last weights make a proxy's score less noisy? Repeats of the prior by seed.

    python tests/bench/bench_average.py study.yaml --seeds 12 --output average.jsonl

Trains the study's proxy on its prior mixture with seeds 0, 1, ... for every share, and prints mean
and standard deviation of the score over seeds, and of the differences to the first share, seed by
seed. What is in --output is not trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from climb_opt import recipes
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.job import Job
from climb_opt.shards import Corpus


def measure(study: str, shares: list[float], seeds: int, output: Path) -> np.ndarray:
    """Scores (shares, seeds)."""
    recipe = recipes.read_study(study)
    corpus = Corpus.load(recipe.corpus_folder)
    output.touch()
    rows = map(json.loads, output.read_text().splitlines())
    known = {(row["average"], row["seed"]): row["score"] for row in rows}
    for seed in range(seeds):
        for share in shares:
            if (share, seed) in known:
                continue
            proxy = replace(recipe.proxy, average=share)
            objective = ProxyObjective(
                corpus, replace(recipe, proxy=proxy), directory=output.parent / "average"
            )
            prior = objective.space.project(objective.space.prior)
            mixture = dict(zip(objective.space.domains, map(float, prior), strict=True))
            _, components, _ = objective._work(Job("prior", mixture, seed))
            known[share, seed] = objective.aggregate(components)
            row = {"average": share, "seed": seed, "score": known[share, seed]} | components
            with output.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    return np.array([[known[share, seed] for seed in range(seeds)] for share in shares])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", help="a study's recipe")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.1, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("average.jsonl"))
    options = parser.parse_args()
    scores = measure(options.study, options.shares, options.seeds, options.output)
    print("| average | mean score | sd over seeds | against the first: mean ± sd |")
    print("|---|---|---|---|")
    for share, own in zip(options.shares, scores, strict=True):
        apart = own - scores[0]
        print(
            f"| {share:g} | {own.mean():.4f} | {own.std(ddof=1):.4f} "
            f"| {apart.mean():+.4f} ± {apart.std(ddof=1):.4f} |"
        )


if __name__ == "__main__":
    main()
