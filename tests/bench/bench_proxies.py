"""Does what a search of real proxies promises come true, and what does it find?

    python tests/bench/bench_proxies.py --output proxies.jsonl [--arms fresh climb] [--seeds 16]

Searches of a recipe (`demo`, at an eighth of its tokens; --tokens 65536: half; --recipe: your own)
whose recommended mixture, and the prior, are then trained again with seeds that no search had. The
mean of those is taken for the truth. It has an error itself, so that of intervals which are right
fewer than nine of ten hold: `if right` says how many would. Arms, each of the FLOPs of --trials
proxies unless it says otherwise, the prior among them:

common       SimplexGPSampler, one seed for all proxies
common-noise the same, with the runs of `climb-opt noise` beside it (6 and 2 more)
fresh        as the first, a seed for each
fresh-noise  the same, with the runs of `climb-opt noise` beside it
phases       as `fresh`, with another mixture for the last fifth of the tokens
climb        CLIMB in three rounds
ladder       SimplexGPSampler, proxies on a quarter of the tokens below the target; half the FLOPs
climb-rungs  CLIMB, its first two rounds on a quarter of the tokens; as many trials

Real proxies on a CPU, half a minute a search and as long for its truth (at 65,536 tokens four times
that). It resumes from --output; with the studies in --keep, what is promised now is judged by the
truths that are there.
"""

from __future__ import annotations

from harness import Row, append, load, parser_of  # first: one thread

# isort: split

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna
from scipy.stats import norm

import climb_opt
from climb_opt.attributes import SEED
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.ladders import ladder_of
from climb_opt.recipes import StudyRecipe, read_study
from climb_opt.selection.recommendation import LEVEL, WIDTH
from climb_opt.study.corpora import corpus_for
from climb_opt.text import pipe_table

ARMS = (
    "common", "common-noise", "fresh", "fresh-noise", "phases", "climb", "ladder", "climb-rungs",
)  # fmt: skip
KEY = ("arm", "seed", "recipe", "trials", "tokens")
NOISE = "-noise"  # ends the arm whose noise is measured
AGAIN = 900_000_007  # first of the seeds that no search has
SHARES = (4 / 7, 2 / 7)  # of a search's trials in CLIMB's first two rounds
CHEAPER = 4  # times fewer tokens on the lower rung
PHASES = [0.8, 0.2]
RATE = 2e-3  # the demo's learning rate when the first were searched
HALF = 0.5  # of the FLOPs of --trials, which a ladder has


def truth(recipe: StudyRecipe, mixture: Mapping[str, float], first: int, count: int) -> list[float]:
    """Scores of one mixture with `count` seeds from `first` on."""
    with tempfile.TemporaryDirectory() as folder:
        objective = ProxyObjective(corpus_for(recipe), recipe, directory=Path(folder))
        study = optuna.create_study(direction=recipe.direction)
        params = objective.space.params(objective.space.weights(mixture))
        for seed in range(first, first + count):
            study.enqueue_trial(params, user_attrs={SEED: seed})
        study.optimize(objective, n_trials=count)
        objective.close()
    return [trial.values[0] for trial in study.trials]


def recipe_of(arm: str, seed: int, base: str, trials: int, tokens: int) -> StudyRecipe:
    """The recipe of one search; the prior is its baseline and one of the trials."""
    own = [
        f"seed={seed}",
        f"proxy.lr={RATE:g}",
        f"proxy.tokens={tokens}",
        "baselines=[prior]",
        "confirm_seeds=1",
    ]
    plain = read_study(base, [*own, f"rounds=[{trials - 1}]", "sampler=simplex-gp"])
    cheap = {"tokens": tokens // CHEAPER}
    climbing = "sampler={name: climb, predictor: lightgbm}"
    counts = [round(share * (trials - 1)) for share in SHARES]
    counts.append(trials - 1 - sum(counts))
    if (seeds := arm.removesuffix(NOISE)) in ("common", "fresh", "phases"):
        one_round = [f"rounds=[{trials - 1}]", "sampler=simplex-gp"]
        if arm == "phases":
            return read_study(base, [*own, *one_round, "seeds=fresh", f"phases={PHASES}"])
        return read_study(base, [*own, *one_round, f"seeds={seeds}"])
    if arm == "climb":
        return read_study(base, [*own, f"rounds={counts}", climbing, "seeds=fresh"])
    if arm == "climb-rungs":
        rounds = [
            {"trials": count, "proxy": proxy}
            for count, proxy in zip(counts, (cheap, cheap, {}), strict=True)
        ]
        return read_study(base, [*own, f"rounds={json.dumps(rounds)}", climbing, "seeds=fresh"])
    one = ladder_of([plain.proxy], corpus_for(plain).vocab_size).rungs[-1].flops
    ladder = [f"ladder={json.dumps([cheap, {}])}", f"budget.flops={HALF * trials * one:.6g}"]
    return read_study(base, [*own, "rounds=[]", *ladder, "sampler=simplex-gp", "seeds=fresh"])


def search(recipe: StudyRecipe, noise: bool, keep: Path | None) -> climb_opt.Recommendation:
    """What a search recommends, with the runs of `climb-opt noise` where asked for."""
    with tempfile.TemporaryDirectory() as folder:
        storage = keep or Path(folder) / "s.journal"
        study = climb_opt.open_study(recipe, storage=storage, study_name="s")
        climb_opt.work(study, directory=folder)
        if noise:
            climb_opt.noise(study, directory=folder)
        return climb_opt.best_mixture(study)


def report(rows: list[Row], prior: list[float], sign: float) -> str:
    """The table of the arms; `sign` is -1 where higher is better."""
    head = ["arm", "searches", "true score", "claim"]
    head += ["holds", "if right", "stated - true", "half width", "interval score"]
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        true = np.array([np.mean(row["scores"]) for row in own])
        error = np.array([np.std(row["scores"], ddof=1) / len(row["scores"]) ** 0.5 for row in own])
        of_prior = np.std(prior, ddof=1) / len(prior) ** 0.5
        gains = sign * (np.mean(prior) - true), np.hypot(error, of_prior)
        for name, (value, doubt) in {"predicted": (true, error), "gain": gains}.items():
            mean, half = np.array([row[name] for row in own]).T
            off = np.abs(mean - value)
            lines.append(
                [
                    arm,
                    str(len(own)),
                    f"{true.mean():.4f} ± {true.std(ddof=1) / len(true) ** 0.5:.4f}",
                    "score" if name == "predicted" else "gain",
                    f"{np.mean(off <= half):.2f}",
                    f"{np.mean(2 * norm.cdf(half / np.hypot(half / WIDTH, doubt)) - 1):.2f}",
                    f"{np.mean(mean - value):+.4f}",
                    f"{np.median(half):.4f}",
                    f"{np.mean(2 * half + 2 / (1 - LEVEL) * np.maximum(off - half, 0)):.4f}",
                ]
            )
    return "\n".join(pipe_table(head, lines))


def main() -> None:
    parser = parser_of(__doc__, "output", "first-seed")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["common", "fresh"])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--seeds", type=int, default=1, help="searches of each arm")
    parser.add_argument("--trials", type=int, default=27, help="the prior's included")
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--again", type=int, default=24, help="seeds of a truth; twice the prior's")
    parser.add_argument("--keep", type=Path, help="folder of the studies, to judge them again")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    done, asked = load(options.output, KEY), []
    own = (options.recipe, options.trials, options.tokens)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    recipe, *_ = recipes = [recipe_of(arm, 0, *own) for arm in ("fresh", "phases")]
    for key in [(arm, seed, *own) for seed in seeds for arm in options.arms]:
        keep = options.keep and options.keep / f"{key[0]}-{key[1]}.journal"
        if key not in done or (keep and keep.exists()):
            best = search(recipe_of(*key), key[0].endswith(NOISE), keep)
            assert best.predicted is not None and best.gain is not None
            known = done.get(key, {"mixture": None})
            scores = known["scores"] if known["mixture"] == dict(best) else None
            begun = AGAIN + 100 * key[1]
            done[key] = dict(zip(KEY, key, strict=True)) | {
                "mixture": dict(best),
                "predicted": [best.predicted.mean, best.predicted.half],
                "gain": [best.gain.mean, best.gain.half],
                "scores": scores or truth(recipes[key[0] == "phases"], best, begun, options.again),
            }
            append(options.output, done[key])
        asked.append(done[key])
    key = ("prior", 0, *own)
    if key not in done:
        scores = truth(recipe, _prior(recipe), AGAIN - 1000, 2 * options.again)
        done[key] = dict(zip(KEY, key, strict=True)) | {"scores": scores}
        append(options.output, done[key])
    sign = 1.0 if recipe.direction == "minimize" else -1.0
    print(report(asked, done[key]["scores"], sign))


def _prior(recipe: StudyRecipe) -> dict[str, float]:
    tokens = corpus_for(recipe).tokens()
    return {name: count / sum(tokens.values()) for name, count in tokens.items()}


if __name__ == "__main__":
    main()
