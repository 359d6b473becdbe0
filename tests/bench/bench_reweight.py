"""What does setting weights cost beside a method's own passes? CPU time of steps, in one process.

    python tests/bench/bench_reweight.py --study demo --corpus corpora/demo --rounds 30

Turns about, round by round: a step of an ordinary run; of a run by a method that asks nothing; by
one that reads anew every 8 steps and looks at its losses; and by DoReMi, whose own passes (proxy
and reference, forward) are timed by themselves and taken off. Prints medians over the rounds and
each method's share above the ordinary step; the bound is 3 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from climb_opt import recipes
from climb_opt.choices import Choice
from climb_opt.proxy import model
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job
from climb_opt.proxy.reweight.base import Weights
from climb_opt.proxy.reweight.doremi import DoReMi
from climb_opt.proxy.run import Run
from climb_opt.proxy.train import Trainer
from climb_opt.shards import Corpus

EACH = 4  # steps timed at once


class Still:
    """Is never asked."""

    rereads = False

    def when(self, steps: int) -> range:
        return range(0)

    def start(self, training: Any) -> Weights:
        return Weights()

    def weigh(self, training: Any) -> Weights:
        raise AssertionError("nobody asks it")

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass


class Anew(Still):
    """Reads by the losses of the last 8 steps."""

    rereads = True

    def when(self, steps: int) -> range:
        return range(8, steps, 8)

    def weigh(self, training: Any) -> Weights:
        losses = np.nan_to_num(training.losses, nan=1.0)
        return Weights(reading=losses / losses.sum())


class Alike(DoReMi):
    """DoReMi with an untrained reference: its passes cost the same."""

    reference = None  # type: ignore[assignment]

    def weigh(self, training: Any) -> Weights:
        training.reference = training.model
        return super().weigh(training)


def stepping(trainer: Trainer, method: str | None, mixture: dict[str, float]) -> Run:
    """A run by a method of this file, which the caller steps."""
    name = None if method is None else Choice(f"{__name__}:{method}")
    own = Trainer(
        trainer.corpus,
        replace(trainer.recipe, reweight=name),
        trainer.group,
        directory=trainer.directory,
        sequences=trainer.sequences,
    )
    job = Job(str(method), mixture, seed=0)
    return Run(own, job, own.index(job))


def step(run: Run) -> None:
    """One step, as `Run.loop` makes it."""
    if run.steering is not None:
        run.steering.before(run.step)
    run._one_step(run.read(run.step))
    run.step += 1


def passes(run: Run) -> None:
    """The forward passes of DoReMi on one step, alone."""
    steering = run.steering
    assert steering is not None
    for tokens, _ in steering.coming():
        for _ in range(2):
            steering.token_losses(run.model, tokens)


def seconds(work: Callable[[], None]) -> float:
    begun = time.process_time()
    for _ in range(EACH):
        work()
    return (time.process_time() - begun) / EACH


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", default="demo", help="whose proxy is trained")
    parser.add_argument("--corpus", default="corpora/demo")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    corpus = Corpus.load(options.corpus)
    recipe = replace(recipes.read_study(options.study).proxy, precision="fp32", compile=False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(corpus, recipe, ProxyGroup("fp32"), directory=Path(folder))
        mixture = {name: float(count) for name, count in corpus.tokens().items()}
        runs = {m: stepping(trainer, m, mixture) for m in (None, "Still", "Anew", "Alike")}
        work: dict[str, Callable[[], None]] = {
            str(m): (lambda run=run: step(run)) for m, run in runs.items()
        }
        work["passes"] = lambda: passes(runs["Alike"])
        rounds = min(options.rounds, trainer.steps // EACH - 1)
        for job in work.values():
            job()
        found: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(rounds):
            for name, job in work.items():
                found[name].append(seconds(job))
    plain = found["None"]
    print(f"{model.count_parameters(runs[None].model)['parameters']:,} parameters, {rounds} rounds")
    print("| | ms a step | above the ordinary step, of it |")
    print("|---|---|---|")
    print(f"| ordinary | {1e3 * statistics.median(plain):.1f} | |")
    for name in ("Still", "Anew", "Alike"):
        off = found["passes"] if name == "Alike" else [0.0] * rounds
        more = [(a - o) / p - 1 for a, o, p in zip(found[name], off, plain, strict=True)]
        said = f"{100 * statistics.median(more):+.1f} %"
        print(f"| {name} | {1e3 * statistics.median(found[name]):.1f} | {said} |")
    print(f"| passes of DoReMi alone | {1e3 * statistics.median(found['passes']):.1f} | |")


if __name__ == "__main__":
    import bench_reweight  # its methods are found by this name

    bench_reweight.main()
