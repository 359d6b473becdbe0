"""Does the influence of domains at one proxy's end rank mixtures as training them does?

    python tests/bench/bench_influence.py train demo --corpus CORPUS --output FOLDER
    python tests/bench/bench_influence.py measure dev --corpus CORPUS --evals EVALS --output FOLDER
    python tests/bench/bench_influence.py table --output FOLDER
    python tests/bench/bench_influence.py added demo --corpus CORPUS --output FOLDER

`train` trains and scores mixtures, two seeds each: 30 starts of a search on the demonstration's
corpus, 24 on the development pack's. `measure` measures influence at the end of two proxies of the
prior, by every curvature, and `table` prints how S w ranks what was trained. `added` measures
mixtures by themselves as TiKMiX-M does, with few tokens, and S with sixteen times as many on the
same proxies: how right the sums are that the printed correlations speak of. Every training and
measurement is a line in FOLDER, so that a call that was stopped goes on where it was.
"""

from __future__ import annotations

from harness import Row, load, parser_of, run_all  # first: one thread

# isort: split

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from climb_opt.attributes import SEED, SLOT
from climb_opt.history import components_of
from climb_opt.influence.measure import correlation
from climb_opt.influence.mixtures import candidates
from climb_opt.influence.options import InfluenceOptions
from climb_opt.influence.prior import AtPrior
from climb_opt.objective import ProxyObjective
from climb_opt.recipes import StudyRecipe, study_from
from climb_opt.samplers.design import start_mixture
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.statistics import spearman

SEEDS = (0, 1)
KEY, KEYS = ("set", "mixture_number", "seed"), ("set", "seed", "hessian")
TASKS = ("arc_easy", "piqa", "hellaswag")
PROXY = {"include": "demo", "lr": 2e-3, "tokens": 131_072}
DEMO: dict[str, Any] = {
    "proxy": PROXY,
    "evaluators": [{"name": "heldout", "target": "prose", "max_tokens": 24_576}],
    "score": ["prose/bpb"],
}
DEV: dict[str, Any] = {
    "proxy": PROXY,
    "score": [f"{task}/bpb" for task in TASKS],
}
MIXTURES = {"demo": 30, "dev": 24}
FLOPS = {"demo": 2.51e11, "dev": 7.15e11}  # of a trial


def recipe_of(name: str, corpus: Path, evals: Path | None) -> StudyRecipe:
    """What is trained and how it is scored."""
    if name == "demo":
        return study_from({**DEMO, "corpus": str(corpus)})
    assert evals is not None, "dev: --evals names the folder of its evaluation files"
    files = {task: str(evals / f"{task}.validation.jsonl.gz") for task in TASKS}
    tasks = {"name": "lm-eval", "tasks": list(TASKS), "files": files, "limit": 150}
    return study_from({**DEV, "corpus": str(corpus), "evaluators": [tasks]})


def mixtures_of(name: str, objective: ProxyObjective) -> list[dict[str, float]]:
    """The mixtures of a set: a search's starts (the prior and the uniform one first)."""
    space = objective.space
    return [space.mixture(start_mixture(space, 0, i)) for i in range(MIXTURES[name])]


def train(row: Row, objective: ProxyObjective, mixtures: list[dict[str, float]]) -> Row:
    """Train and score one mixture."""
    mixture = mixtures[row["mixture_number"]]
    study = optuna.create_study(direction="minimize")
    name = f"{row['set']}-{row['mixture_number']}-{row['seed']}"
    params = {f"w/{domain}": weight for domain, weight in mixture.items()}
    study.enqueue_trial(params, user_attrs={SEED: row["seed"], SLOT: name})
    trial = study.ask()
    score = objective(trial)
    study.tell(trial, score)
    found = study.trials[0]
    print(name, score, round(found.user_attrs.get("climb/seconds", 0.0), 1), flush=True)
    return {"mixture": mixture, "score": score, "components": components_of(found)}


# name -> options, and how many times a trial's tokens the prior's proxy trains on
VARIANTS: dict[str, tuple[dict[str, Any], int]] = {
    "identity": ({"hessian": "identity"}, 1),
    "fisher": ({"hessian": "fisher"}, 1),
    "ekfac": ({"hessian": "ekfac"}, 1),
    "gauss-newton": ({"hessian": "gauss-newton", "curvature_tokens": 16_384}, 1),
    "gauss-newton, few": (
        {"hessian": "gauss-newton", "curvature_tokens": 4_096, "damping": 1.0, "iterations": 30},
        1,
    ),
    "fisher, 4x": ({"hessian": "fisher", "tokens": 8_192}, 4),
    "ekfac, 4x": ({"hessian": "ekfac", "tokens": 8_192}, 4),
    "mixtures, 2,048": ({"tokens": 2_048, "mixtures": 32}, 1),
    "mixtures, 8,192": ({"tokens": 8_192, "mixtures": 32}, 1),
    "sums, 131,072": ({"tokens": 131_072}, 1),
}
WIDTHS = (9, 7, 7, 7, 7, 8, 9)
ADDED = ("mixtures, 2,048", "mixtures, 8,192", "sums, 131,072")


def measure(row: Row, given: argparse.Namespace) -> Row:
    """S at the end of a proxy of the prior."""
    options, times = VARIANTS[row["hessian"]]
    objective = objective_of(given, times)
    name = f"prior-{row['set']}-{row['seed']}"
    at_prior = AtPrior(objective, InfluenceOptions(**options), row["seed"], name)
    gains = at_prior.measure()
    print(row, gains.facts, flush=True)
    return {"lowers": gains.lowers, "facts": gains.facts, "most": at_prior.flops}


def table(rows: list[Row], measured: list[Row]) -> str:
    """Rank correlations of S w with what was trained."""
    lines = [f"{'':32}{'seed 0':>8}{'seed 1':>8}{'mean':>8}{'halves':>8}{'trials':>8}"]
    for name in dict.fromkeys(row["set"] for row in rows):
        scores, weights, domains = _trained(rows, name)
        other = spearman(*scores)
        lines.append(f"{name + ', another seed':32}{other:8.2f}{other:8.2f}")
        for row in (row for row in measured if row["set"] == name):
            gain = sum(np.array([of[d] for d in domains]) for of in row["lowers"].values())
            found = [spearman(weights @ -gain, y) for y in (*scores, np.mean(scores, axis=0))]
            told = [r for r in row["facts"]["reliability"].values() if r is not None]
            words = f"{name}, {row['hessian']}, proxy {row['seed']}"
            cells = "".join(f"{value:8.2f}" for value in found)
            trials = row["facts"]["flops"] / FLOPS[name]
            lines.append(f"{words:32}{cells}{np.mean(told):8.2f}{trials:8.1f}")
    return "\n".join(lines)


def added(measured: list[Row], space: MixtureSpace) -> str:
    """What `climb-opt influence` prints of additivity, beside how right the sums are."""
    of = {(row["seed"], row["hessian"]): row for row in measured}
    heads = zip(("printed", "from", "to", "sums", "rank", "halves", "domains"), WIDTHS, strict=True)
    lines = [f"{'':28}{''.join(f'{head:>{width}}' for head, width in heads)}"]
    for (seed, name), row in of.items():
        if (told := row["facts"].get("additivity")) is None:
            continue
        own, right = (next(iter(of[seed, n]["lowers"].values())) for n in (name, ADDED[-1]))
        few, many = (np.array([s[d] for d in space.domains]) for s in (own, right))
        drawn = candidates(space, row["facts"]["mixtures"], seed)
        sums, truth = drawn @ few, drawn @ many
        cells = [
            *told.values(),
            *next(iter(row["facts"]["additivity_by_noise"].values())),
            correlation(sums, truth),
            spearman(sums, truth),
            *row["facts"]["reliability"].values(),
            correlation(few, many),
        ]
        numbers = "".join(f"{c:{w}.2f}" for c, w in zip(cells, WIDTHS, strict=True))
        lines.append(f"{name + f', proxy {seed}':28}{numbers}")
    return "\n".join(lines)


def _trained(rows: list[Row], name: str) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Scores (m,) of each seed, the mixtures (m, K) and their domains."""
    own = [row for row in rows if row["set"] == name]
    count = min(sum(row["seed"] == seed for row in own) for seed in SEEDS)
    of = {(row["seed"], row["mixture_number"]): row for row in own}
    domains = list(own[0]["mixture"])
    weights = np.array([[of[0, i]["mixture"][d] for d in domains] for i in range(count)])
    scores = [np.array([of[seed, i]["score"] for i in range(count)]) for seed in SEEDS]
    return scores, weights, domains


def objective_of(given: argparse.Namespace, times: int = 1) -> ProxyObjective:
    """What trains and scores; the proxy on so many times a trial's tokens."""
    recipe = recipe_of(given.set, given.corpus, given.evals)
    recipe = replace(recipe, proxy=replace(recipe.proxy, tokens=times * recipe.proxy.tokens))
    return ProxyObjective(Corpus.load(given.corpus), recipe, directory=given.output / "runs")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("what", choices=("train", "measure", "table", "added"))
    parser.add_argument("set", nargs="?", choices=MIXTURES)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--evals", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)[:4])
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="proxies of the prior")
    given = parser.parse_args()
    trained, influence = given.output / "trained.jsonl", given.output / "influence.jsonl"
    if given.what == "table":
        print(table([*load(trained, KEY).values()], [*load(influence, KEYS).values()]))
    elif given.what == "train":
        objective = objective_of(given)
        mixtures = mixtures_of(given.set, objective)
        wanted = [
            {"set": given.set, "mixture_number": i, "seed": seed}
            for seed in SEEDS
            for i in range(len(mixtures))
        ]
        run_all(wanted, KEY, trained, partial(train, objective=objective, mixtures=mixtures))
    else:
        asked = ADDED if given.what == "added" else given.variants
        seeds = range(given.seeds)
        wanted = [
            {"set": given.set, "seed": seed, "hessian": name} for name in asked for seed in seeds
        ]
        found = run_all(wanted, KEYS, influence, partial(measure, given=given))
        if given.what == "added":
            print(added(found, objective_of(given).space))


if __name__ == "__main__":
    main()
