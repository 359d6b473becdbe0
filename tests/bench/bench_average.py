"""Does the mean of the last weights make a proxy's score less noisy? Repeats of the prior by seed.

    python tests/bench/bench_average.py study.yaml --seeds 12 --output average.jsonl

Trains the study's proxy on its prior mixture with seeds 0, 1, ... for every share, and prints mean
and standard deviation of the score over seeds, and of the differences to the first share, seed by
seed. What is in --output is not trained again.
"""

from __future__ import annotations

from harness import Row, parser_of, run_all  # first: one thread

# isort: split

from dataclasses import replace
from pathlib import Path

import numpy as np

from climb_opt import recipes
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.job import Job
from climb_opt.shards import Corpus
from climb_opt.text import pipe_table


def measure(study: str, shares: list[float], seeds: int, output: Path) -> np.ndarray:
    """Scores (shares, seeds)."""
    recipe = recipes.read_study(study)
    corpus = Corpus.load(recipe.corpus_folder)

    def run(row: Row) -> Row:
        proxy = replace(recipe.proxy, average=row["average"])
        of = replace(recipe, proxy=proxy)
        objective = ProxyObjective(corpus, of, directory=output.parent / "average")
        space = objective.space
        job = Job("prior", space.mixture(space.project(space.prior)), row["seed"])
        _, components, _ = objective._work(job)
        return {"score": objective.aggregate(components)} | components

    wanted = [{"average": share, "seed": seed} for seed in range(seeds) for share in shares]
    rows = run_all(wanted, ("average", "seed"), output, run)
    return np.array([row["score"] for row in rows]).reshape(seeds, -1).T


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("study", help="a study's recipe")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.1, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("average.jsonl"))
    options = parser.parse_args()
    scores = measure(options.study, options.shares, options.seeds, options.output)
    lines = []
    for share, own in zip(options.shares, scores, strict=True):
        apart = own - scores[0]
        against = f"{apart.mean():+.4f} ± {apart.std(ddof=1):.4f}"
        lines.append([f"{share:g}", f"{own.mean():.4f}", f"{own.std(ddof=1):.4f}", against])
    head = ["average", "mean score", "sd over seeds", "against the first: mean ± sd"]
    print("\n".join(pipe_table(head, lines)))


if __name__ == "__main__":
    main()
