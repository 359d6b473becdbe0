"""Two phases against one, live: does it pay to keep text that is scarce for the end?

    python tests/bench/bench_two_phases.py corpora/demo --output FOLDER

Small proxies on a corpus whose domains may be read in part only (`max_epochs`), so that there is
less text like the target than a search wants. Each seed searches twice with the same sampler,
trials and tokens: one mixture throughout, and two phases. What each search recommends is trained
again with fresh seeds. As a control, the mixture of one phase is trained with the same tokens in
another order: of its scarce domains the largest last, as far as the last phase holds it.

Studies and trainings are kept in --output, so that a call that was stopped goes on where it was.
"""

from __future__ import annotations

from harness import parser_of, run_all  # first: one thread

# isort: split

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import climb_opt
from climb_opt.objective import ProxyObjective
from climb_opt.phases import to_train
from climb_opt.proxy.job import Job
from climb_opt.recipes import study_from
from climb_opt.schedules import Phase, Schedule, constant, mean_mixture
from climb_opt.statistics import compare
from climb_opt.view import StudyView

SHARES = (0.75, 0.25)
ONE, TWO, MOVED = "one phase", "two phases", "the one phase's, scarcest last"
FRESH = 10_000  # seeds of the test lie above those of the searches


def recipe_of(corpus: Path, options: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """A search of one arm with one seed."""
    recipe: dict[str, Any] = {
        "corpus": str(corpus),
        "proxy": {"include": "demo", "lr": 2e-3, "tokens": options.tokens},
        "evaluators": [{"name": "heldout", "target": "prose", "max_tokens": 12_288}],
        "score": ["prose/bpb"],
        "rounds": [options.trials],
        "sampler": "simplex-gp",
        "baselines": [],
        "space": {"max_epochs": options.max_epochs},
        "seed": seed,
    }
    return recipe | ({"phases": list(SHARES)} if arm == TWO else {})


def scarcest_last(mixture: Mapping[str, float], amounts: Mapping[str, float]) -> Schedule:
    """The same tokens in two phases: of the domains that are used up the largest comes last."""
    epochs = {name: weight / amounts[name] for name, weight in mixture.items()}
    used_up = [name for name, times in epochs.items() if times > 0.95 * max(epochs.values())]
    scarce = max(used_up, key=lambda name: mixture[name])
    last = min(mixture[scarce], SHARES[1])
    rest = {name: w for name, w in mixture.items() if name != scarce}
    left, others = SHARES[1] - last, sum(rest.values())
    end = {scarce: last, **{name: w * left / others for name, w in rest.items()}}
    phases = []
    for share, tokens in (
        (SHARES[0], {name: w - end[name] for name, w in mixture.items()}),
        (SHARES[1], end),
    ):
        phases.append(Phase(share, {name: max(t, 0.0) / share for name, t in tokens.items()}))
    return tuple(phases)


class Bench:
    """Searches and trains on one corpus."""

    def __init__(self, corpus: Path, options: argparse.Namespace) -> None:
        self.corpus, self.options, self.folder = corpus, options, options.output
        recipe = study_from(recipe_of(corpus, options, ONE, 0))
        loaded = climb_opt.Corpus.load(corpus)
        self.objective = ProxyObjective(loaded, recipe, directory=self.folder / "tests")
        self.amounts = loaded.tokens()

    def found(self, arm: str, seed: int) -> Schedule:
        """What the search of an arm recommends; it goes on where it was."""
        name = f"{ONE if arm == MOVED else arm}-{seed}".replace(" ", "-")
        recipe = study_from(recipe_of(self.corpus, self.options, arm, seed))
        storage = str(self.folder / "studies.journal")
        study = climb_opt.open_study(recipe, storage=storage, study_name=name)
        climb_opt.work(study, directory=self.folder / "runs")
        mixture, schedule = to_train(StudyView(study).space, climb_opt.best_mixture(study))
        if arm == MOVED:
            return scarcest_last(mixture, self.amounts)
        return schedule or constant(mixture)

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """The score of what an arm found, trained with a fresh seed."""
        schedule = self.found(row["arm"], row["seed"])
        seed = FRESH + 100 * row["seed"] + row["test"]
        job = Job("test", mean_mixture(schedule), seed, schedule=schedule)
        _, components, facts = self.objective._work(job)
        self.objective.rungs.forget(job)
        mixtures = [dict(phase.mixture) for phase in schedule]
        return {"score": components["prose/bpb"], "mixtures": mixtures, "epochs": facts["epochs"]}


def report(rows: list[dict[str, Any]]) -> str:
    """Each arm's scores by seed, and its difference to one phase with a 95 % interval."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    scores: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    for arm in arms:
        for seed in sorted({row["seed"] for row in rows if row["arm"] == arm}):
            of = [r["score"] for r in rows if (r["arm"], r["seed"]) == (arm, seed)]
            scores[arm][seed] = float(np.mean(of))
    lines = ["| | bits per byte, by seed | mean | less than one phase (95 %) | better in |"]
    lines.append("|---|---|---|---|---|")
    for arm in arms:
        values = list(scores[arm].values())
        by_seed = ", ".join(f"{value:.3f}" for value in values)
        line = f"| {arm} | {by_seed} | {np.mean(values):.3f} |"
        if arm == ONE:
            lines.append(f"{line} | |")
            continue
        paired = compare(scores[arm], scores[ONE])
        low, high = paired.interval or (np.nan, np.nan)
        lines.append(
            f"{line} {-paired.difference:+.3f} [{-high:+.3f}, {-low:+.3f}] "
            f"| {paired.wins} of {paired.n} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("corpus", type=Path, help="that `corpora/demo.yaml` makes")
    parser.add_argument("--output", type=Path, default=Path("phases"), help="to go on from")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--tests", type=int, default=3, help="fresh seeds of each mixture found")
    parser.add_argument("--tokens", type=int, default=65_536, help="of a trial")
    parser.add_argument("--max-epochs", type=float, default=0.05)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.corpus.resolve(), options)
    wanted = [
        {"arm": arm, "seed": seed, "test": test}
        for arms in ((ONE, TWO), (MOVED,))
        for seed in range(options.seeds)
        for arm in arms
        for test in range(options.tests)
    ]
    rows = run_all(wanted, ("arm", "seed", "test"), options.output / "rows.jsonl", bench.row)
    print(report(rows))


if __name__ == "__main__":
    main()
