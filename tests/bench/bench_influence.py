"""Does the influence of domains at one proxy's end rank mixtures as training them does?

    python tests/bench/bench_influence.py train demo --corpus CORPUS --output FOLDER
    python tests/bench/bench_influence.py train dev --corpus CORPUS --evals EVALS --output FOLDER

`train` trains and scores mixtures, two seeds each: of the demonstration's corpus those of its 30
starts, of the development pack's 24. Every training is a line of FOLDER/trained.jsonl, so that a
call that was stopped goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch start their threads

import argparse
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from climb_opt.attributes import SEED, SLOT
from climb_opt.history import components_of
from climb_opt.influence.options import InfluenceOptions
from climb_opt.influence.prior import AtPrior
from climb_opt.objective import ProxyObjective
from climb_opt.recipes import StudyRecipe, study_from
from climb_opt.samplers.design import start_mixture
from climb_opt.shards import Corpus
from resume import Row, run_all

SEEDS = (0, 1)
KEY = ("set", "mixture_number", "seed")
TASKS = ("arc_easy", "piqa", "hellaswag")
PROXY = {"include": "demo", "lr": 2e-3, "tokens": 131_072}  # the demonstration's
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


HESSIANS: dict[str, dict[str, Any]] = {
    "identity": {},
    "fisher": {},
    "ekfac": {},
    "gauss-newton": {"curvature_tokens": 16_384},
}


def measure(row: Row, objective: ProxyObjective) -> Row:
    """S at the end of a proxy of the prior."""
    options = InfluenceOptions(hessian=row["hessian"], **HESSIANS[row["hessian"]])
    at_prior = AtPrior(objective, options, row["seed"], f"prior-{row['set']}-{row['seed']}")
    cost = at_prior.flops / at_prior.trainer.flops
    gains = at_prior.measure()
    print(row, gains.facts, flush=True)
    return {"lowers": gains.lowers, "facts": gains.facts, "proxies": cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("set", choices=MIXTURES)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--evals", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recipe = recipe_of(given.set, given.corpus, given.evals)
    objective = ProxyObjective(Corpus.load(given.corpus), recipe, directory=given.output / "runs")
    mixtures = mixtures_of(given.set, objective)
    if given.what == "train":
        wanted = [
            {"set": given.set, "mixture_number": i, "seed": seed}
            for seed in SEEDS
            for i in range(len(mixtures))
        ]
        done = partial(train, objective=objective, mixtures=mixtures)
        run_all(wanted, KEY, given.output / "trained.jsonl", done)
    else:
        asked = [
            {"set": given.set, "seed": seed, "hessian": hessian}
            for hessian in HESSIANS
            for seed in SEEDS
        ]
        done = partial(measure, objective=objective)
        run_all(asked, ("set", "seed", "hessian"), given.output / "influence.jsonl", done)


if __name__ == "__main__":
    main()
