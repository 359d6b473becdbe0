"""One trial: mixture, train, evaluate, score. The only place where search and training meet."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from climb_opt import lookup
from climb_opt.errors import TrialFailed, UserError
from climb_opt.evaluators.base import Evaluator
from climb_opt.history import report_components
from climb_opt.proxy import checkpoint
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.train import Job, Trainer
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.slots import SLOT

log = logging.getLogger(__name__)

FACTS = "climb/facts"  # trial: what was trained on what, how fast
SEED = "climb/seed"  # trial: overrides the recipe's seed


class ProxyObjective:
    """An Optuna objective that trains one proxy per trial and scores it.

    Everything that can be wrong with the recipe, the corpus or the launch is found here, before
    any training.

    Args:
        directory: where checkpoints and kept models go.
        stop: whether the worker was asked to stop; looked at between steps.

    Raises:
        UserError: an evaluator, option or component that does not exist; a model or a batch that
            does not fit; a launch that is not what it seems.
    """

    def __init__(
        self,
        corpus: Corpus,
        recipe: StudyRecipe,
        *,
        directory: Path,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.corpus, self.recipe = corpus, recipe
        self.directory = Path(directory)
        self._stop = stop
        self.coefficients = recipe.coefficients()
        self.evaluators = [build_evaluator(corpus, choice) for choice in recipe.evaluators]
        check_score(self.coefficients, self.evaluators)
        self.space = MixtureSpace(
            corpus.tokens(),
            lower=recipe.space.lower,
            upper=recipe.space.upper,
            max_epochs=recipe.space.max_epochs,
            trial_tokens=recipe.proxy.tokens,
        )
        self.group = ProxyGroup(recipe.proxy.precision)
        self.trainer = Trainer(corpus, recipe.proxy, self.group, directory=self.directory)
        self._trial: optuna.Trial | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process asks and tells (rank 0); the others `serve`."""
        return self.group.is_main

    def __call__(self, trial: optuna.Trial) -> float:
        """Rank 0: the score of the trial's mixture."""
        job = Job(
            name=folder_name(trial),
            mixture=self.space.suggest(trial),
            seed=int(trial.user_attrs.get(SEED, self.recipe.seed)),
        )
        self._trial = trial
        components, facts = self.group.run(self._work, job)
        trial.set_user_attr(FACTS, facts)
        report_components(trial, components)
        checkpoint.remove(self.directory / job.name)
        return aggregate(components, self.coefficients)

    def serve(self) -> None:
        """Ranks above 0: do rank 0's trials until it closes."""
        self.group.serve(self._work)

    def close(self) -> None:
        """Rank 0: let the other ranks go."""
        self.group.close()

    # --- on every rank ----------------------------------------------------------------------

    def stop(self) -> bool:
        """Rank 0: whether the worker was asked to stop."""
        return self._stop()

    def report(self, model: Any, step: int) -> bool:
        """Report the score so far to Optuna; whether its pruner gives the trial up."""
        components = self._evaluate(model)
        hopeless = False
        if self._trial is not None:
            self._trial.report(aggregate(components, self.coefficients), step)
            hopeless = self._trial.should_prune()
        return self.group.share(hopeless)

    def _work(self, job: Job) -> tuple[dict[str, float], dict[str, Any]]:
        outcome = self.trainer.train(job, self)
        begun = time.perf_counter()
        components = self._evaluate(outcome.model)
        outcome.facts["evaluate_seconds"] = time.perf_counter() - begun
        for name in self.coefficients:
            if not math.isfinite(components[name]):
                raise TrialFailed(f"score {name!r} is {components[name]}")
        return components, outcome.facts

    def _evaluate(self, model: Any) -> dict[str, float]:
        components: dict[str, float] = {}
        for evaluator in self.evaluators:
            components.update(evaluator.evaluate(model, self.group.accelerator))
        return components


def build_evaluator(corpus: Corpus, choice: Choice) -> Evaluator:
    """The evaluator a recipe names, with its options."""
    lookup.check_options("evaluator", choice.name, choice.options, {"corpus"})
    evaluator: Evaluator = lookup.find("evaluator", choice.name)(corpus, **choice.options)
    return evaluator


def check_score(coefficients: Mapping[str, float], evaluators: list[Evaluator]) -> None:
    """Raise if the study's score names a component that no evaluator gives."""
    known = [name for evaluator in evaluators for name in evaluator.components()]
    for name in coefficients:
        if name not in known:
            raise UserError(
                f"study.score: no evaluator gives {name!r}. Known components: {', '.join(known)}."
            )


def aggregate(components: Mapping[str, float], coefficients: Mapping[str, float]) -> float:
    """The score: sum of coefficient x component."""
    return sum(weight * components[name] for name, weight in coefficients.items())


def folder_name(trial: optuna.Trial) -> str:
    """The folder of a trial: its slot's, which a retry shares, or its own outside the plan."""
    slot = trial.user_attrs.get(SLOT)
    if slot is None:
        return f"trial-{trial.number}"
    return f"slot-{str(slot).replace('/', '-')}"
