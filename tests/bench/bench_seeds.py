"""One seed for all proxies of a search, or one for each: what is found, and do the intervals hold?

    python tests/bench/bench_seeds.py --output seeds.jsonl

Searches of the recipe `demo` at an eighth of its tokens (--tokens 65536: half) and on one rung,
with `seeds: common` and with `seeds: fresh`; the recommended mixture and the prior are then trained
again with seeds that no search had, and the means of those are taken for the truth. Real proxies on
a CPU, half a minute a search (two). It resumes from --output.
"""

from __future__ import annotations

from harness import Row, append, load, parser_of  # first: one thread

# isort: split

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna

import climb_opt
from climb_opt.attributes import SEED
from climb_opt.objective import ProxyObjective
from climb_opt.recipes import StudyRecipe, read_study
from climb_opt.study.corpora import corpus_for
from climb_opt.text import pipe_table

ARMS = ("common", "fresh")
KEY = ("arm", "seed", "sampler", "trials", "tokens")
AGAIN = 900_000_007  # first of the seeds that no search has


def truth(recipe: StudyRecipe, mixture: Mapping[str, float], first: int, count: int) -> list[float]:
    """Scores of one mixture with `count` seeds from `first` on."""
    with tempfile.TemporaryDirectory() as folder:
        objective = ProxyObjective(corpus_for(recipe), recipe, directory=Path(folder))
        study = optuna.create_study()
        params = objective.space.params(objective.space.weights(mixture))
        for seed in range(first, first + count):
            study.enqueue_trial(params, user_attrs={SEED: seed})
        study.optimize(objective, n_trials=count)
        objective.close()
    return [trial.values[0] for trial in study.trials]


def search(
    arm: str, seed: int, sampler: str, trials: int, tokens: int
) -> tuple[StudyRecipe, climb_opt.Recommendation]:
    """A search, with the prior as its one baseline, and what it recommends."""
    keys = {"seed": seed, "seeds": arm, "sampler": sampler, "rounds": [trials - 1]}
    changes = [f"{key}={value}" for key, value in keys.items()]
    recipe = read_study("demo", [*changes, f"proxy.tokens={tokens}", "baselines=[prior]"])
    with tempfile.TemporaryDirectory() as folder:
        study = climb_opt.open_study(recipe, storage=Path(folder) / "s.journal", study_name="s")
        climb_opt.work(study, directory=folder)
        return recipe, climb_opt.best_mixture(study)


def report(rows: list[Row], prior: list[float]) -> str:
    """The table of both arms."""
    head = ["seeds", "searches", "true score", "score holds", "half width", "gain holds", "half"]
    lines = []
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm]
        if not own:
            continue
        true = np.array([np.mean(row["scores"]) for row in own])
        held = []
        for name, value in (("predicted", true), ("gain", np.mean(prior) - true)):
            mean, half = np.array([row[name] for row in own]).T
            held += [f"{np.mean(np.abs(value - mean) <= half):.2f}", f"{np.median(half):.3f}"]
        lines.append(
            [
                arm,
                str(len(own)),
                f"{true.mean():.4f} ± {true.std(ddof=1) / len(true) ** 0.5:.4f}",
                *held,
            ]
        )
    return "\n".join(pipe_table(head, lines))


def main() -> None:
    parser = parser_of(__doc__, "output", "first-seed")
    parser.add_argument("--seeds", type=int, default=1, help="searches of each arm")
    parser.add_argument("--sampler", default="simplex-gp")
    parser.add_argument("--trials", type=int, default=27, help="the prior's included")
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument(
        "--again", type=int, default=8, help="seeds for the truth; thrice for the prior"
    )
    options = parser.parse_args()
    done, asked = load(options.output, KEY), []
    own = (options.sampler, options.trials, options.tokens)
    keys = [
        (arm, seed, *own)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for arm in ARMS
    ]
    for key in keys:
        if key not in done:
            recipe, best = search(*key)
            assert best.predicted is not None and best.gain is not None
            done[key] = dict(zip(KEY, key, strict=True)) | {
                "predicted": [best.predicted.mean, best.predicted.half],
                "gain": [best.gain.mean, best.gain.half],
                "scores": truth(recipe, best, AGAIN + 100 * key[1], options.again),
            }
            append(options.output, done[key])
        asked.append(done[key])
    key = ("prior", 0, *own)
    if key not in done:
        recipe = read_study("demo", [f"proxy.tokens={options.tokens}", "baselines=[prior]"])
        scores = truth(recipe, _prior(recipe), AGAIN, 3 * options.again)
        done[key] = dict(zip(KEY, key, strict=True)) | {"scores": scores}
        append(options.output, done[key])
    print(report(asked, done[key]["scores"]))


def _prior(recipe: StudyRecipe) -> dict[str, float]:
    tokens = corpus_for(recipe).tokens()
    return {name: count / sum(tokens.values()) for name, count in tokens.items()}


if __name__ == "__main__":
    main()
