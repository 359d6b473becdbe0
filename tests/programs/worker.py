"""One rank of a group under test: `torchrun ... worker.py SCENARIO CORPUS DIRECTORY`.

Rank 0 writes what happened to DIRECTORY/result.json; faults are injected on rank 1.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import torch

from climb_opt.attributes import FACTS, SLOT
from climb_opt.errors import Interrupted, TrialFailed
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.data import Sequences
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.loss import TrainingLoss
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.shards import Corpus

STEPS = 12
MIXTURE = {"web": 0.2, "code": 0.3, "math": 0.5}
SHARES = (0.75, 0.25)  # of 12 steps: the second phase begins at step 9
SCHEDULE = [{"web": 0.6, "code": 0.4}, {"code": 0.2, "math": 0.8}]
KILLED_AT = 21  # of two parts a step and rank: in step 10, when the last checkpoint is of step 8


def recipe_of(corpus: Path, rows: Path | None = None) -> StudyRecipe:
    evaluators = [Choice("heldout", {"domains": True, "max_tokens": 700})]
    if rows is not None:
        evaluators.append(Choice("lm-eval", {"tasks": ["plus"], "files": {"plus": str(rows)}}))
    return StudyRecipe(
        corpus=str(corpus),
        proxy=ProxyRecipe(
            model=ModelRecipe(hidden=16, layers=1, heads=2),
            tokens=STEPS * 15 * 16,
            sequence=16,
            batch_tokens=15 * 16,  # 15 sequences: two ranks read 7 and 8
            micro_batch_tokens=64,
            lr=1e-2,
            average=0.5,  # from step 6 on
        ),
        evaluators=tuple(evaluators),
        score=["sums/bpb"],
    )


class Recorder:
    """What this rank read and lost, step by step."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        read = Sequences.read

        def recording(sequences: Sequences, ids: Any) -> Any:
            self.ids += ids.tolist()
            return read(sequences, ids)

        Sequences.read = recording  # type: ignore[method-assign]


def inject(fault: Any) -> None:
    """`fault(call)` is asked before every forward pass of the trainer on this rank."""
    forward, calls = TrainingLoss.forward, [0]

    def faulty(module: TrainingLoss, tokens: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return forward(module, tokens) * fault(calls[0])

    TrainingLoss.forward = faulty  # type: ignore[method-assign]


def run_trial(
    objective: ProxyObjective, study: optuna.Study, mixture: Any = MIXTURE, **attrs: Any
) -> dict[str, Any]:
    space = objective.space
    study.enqueue_trial(space.params(space.weights(mixture)), user_attrs=attrs)
    trial = study.ask()
    try:
        value = objective(trial)
    except (TrialFailed, Interrupted) as error:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return {"error": str(error), "kind": type(error).__name__}
    study.tell(trial, value)
    return {
        "value": value,
        "components": trial.user_attrs["climb/components"],
        "facts": trial.user_attrs[FACTS],
    }


def healthy(corpus: Corpus, directory: Path) -> None:
    """A trial; one with a NaN on rank 1 only; one that is stopped; its resumption."""
    rank = int(os.environ.get("RANK", "0"))
    recorder, poison, looks = Recorder(), [False], [10**9]

    def fault(call: int) -> float:
        return float("nan") if poison[0] and rank == int(os.environ["WORLD_SIZE"]) - 1 else 1.0

    inject(fault)

    def stop() -> bool:
        looks[0] -= 1
        return looks[0] < 0

    rows = directory / "plus.validation.jsonl"
    objective = ProxyObjective(corpus, recipe_of(corpus.path, rows), directory=directory, stop=stop)
    original = objective._work

    def work(job: Any) -> Any:
        poison[0] = job.seed == 666
        recorder.ids.clear()
        done = original(job)
        done[2]["ids"] = objective.group.gather(list(recorder.ids))
        return done

    objective._work = work  # type: ignore[method-assign]
    if not objective.is_main:
        objective.serve()
        return
    study = optuna.create_study()
    results = [run_trial(objective, study)]
    results.append(run_trial(objective, study, **{"climb/seed": 666}))
    looks[0] = 0  # the first pulse after the first
    results.append(run_trial(objective, study, **{SLOT: 3}))
    looks[0] = 10**9
    results.append(run_trial(objective, study, **{SLOT: 3}))
    objective.close()
    (directory / "result.json").write_text(json.dumps(results))


def killed(corpus: Corpus, directory: Path) -> None:
    """Rank 1 dies by SIGKILL once; the launcher starts the group again."""
    mark = directory / "was-killed"

    def fault(call: int) -> float:
        if os.environ["RANK"] == "1" and call == 22 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0

    inject(fault)
    recipe = recipe_of(corpus.path)
    recipe = replace(recipe, proxy=replace(recipe.proxy, checkpoint_every=4))
    objective = ProxyObjective(corpus, recipe, directory=directory)
    if not objective.is_main:
        objective.serve()
        return
    study = optuna.create_study()
    result = run_trial(objective, study, **{SLOT: 0})
    result["restarts"] = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    objective.close()
    (directory / "result.json").write_text(json.dumps(result))


def phased(corpus: Corpus, directory: Path) -> None:
    """A trial in phases; then it again, killed in the second phase, and its resumption."""
    mark, whole, calls = directory / "was-killed", directory / "whole.json", [0]
    last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1

    def fault(call: int) -> float:
        calls[0] += 1
        if last and whole.exists() and calls[0] > KILLED_AT and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0

    inject(fault)
    recipe = replace(recipe_of(corpus.path), phases=SHARES)
    recipe = replace(recipe, proxy=replace(recipe.proxy, checkpoint_every=4))
    objective = ProxyObjective(corpus, recipe, directory=directory)
    original = objective._work

    def work(job: Any) -> Any:
        calls[0] = 0
        return original(job)

    objective._work = work  # type: ignore[method-assign]
    if not objective.is_main:
        objective.serve()
        return
    if not whole.exists():
        result = run_trial(objective, optuna.create_study(), SCHEDULE, **{SLOT: 1})
        whole.write_text(json.dumps(result))
    # A study of its own: in the same one the mixture would train again with another seed.
    result = run_trial(objective, optuna.create_study(), SCHEDULE, **{SLOT: 0})
    objective.close()
    results = [json.loads(whole.read_text()), result]
    (directory / "result.json").write_text(json.dumps(results))


def reweighted(corpus: Corpus, directory: Path) -> None:
    """A trial each by two methods that set weights; then stopped in its middle, and resumed."""
    looks, results = [10**9], []

    def stop() -> bool:
        looks[0] -= 1
        return looks[0] < 0

    recipe = recipe_of(corpus.path)
    for method in (Choice("doremi", {"eta": 5.0}), Choice("ado", {"changes": 6})):
        proxy = replace(recipe.proxy, reweight=method, average=0.0)
        trainer = Trainer(corpus, proxy, ProxyGroup("fp32"), directory=directory / method.name)
        watch: Any = SimpleNamespace(stop=stop, report=lambda *_: False)
        for name, patience in (("whole", 10**9), ("part", 1), ("part", 10**9)):
            looks[0] = patience
            try:
                outcome = trainer.train(Job(name, MIXTURE, seed=0), watch)
            except Interrupted:
                continue
            weights = [p.detach().flatten() for p in outcome.model.parameters()]
            facts = {k: outcome.facts[k] for k in ("path", "epochs", "resumed_at", "flops")}
            bits = hashlib.sha256(torch.cat(weights).numpy().tobytes()).hexdigest()
            results.append({**facts, "bits": trainer.group.gather(bits)})
    if os.environ.get("RANK", "0") == "0":
        (directory / "result.json").write_text(json.dumps(results))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    scenario, corpus_path, directory = sys.argv[1:]
    scenarios = {"healthy": healthy, "killed": killed, "phased": phased, "reweighted": reweighted}
    scenarios[scenario](Corpus.load(corpus_path), Path(directory))
