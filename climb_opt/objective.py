"""One trial: mixture, train, evaluate, score; where search and training meet."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from climb_opt.attributes import METHOD, SEED, SLOT
from climb_opt.errors import TrialFailed, UserError, brief, listed
from climb_opt.evaluators.base import Stating
from climb_opt.evaluators.built import (
    add_up,
    build_evaluator,
    by_token,
    check_components,
    evaluated,
    needed_components,
)
from climb_opt.files import check_folder
from climb_opt.history import excesses, report_components, report_facts
from climb_opt.ladder import rung_of
from climb_opt.ladder.branches.slots import part_of
from climb_opt.phases import one_phase, to_train
from climb_opt.plan import plan_of, space_for
from climb_opt.provenance import provenance
from climb_opt.proxy import model
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import Job, Outcome
from climb_opt.proxy.keep import FOLDER, KeptModels
from climb_opt.proxy.reweight import base as reweight
from climb_opt.proxy.reweight.base import Judge
from climb_opt.proxy.rungs import Rungs
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.schedules import Schedule
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace

log = logging.getLogger(__name__)


def judge_of(corpus: Corpus, recipe: StudyRecipe, space: MixtureSpace) -> Judge:
    """Who scores what a study trains.

    Raises:
        UserError: anything wrong with its evaluators, or with what the recipe asks of them.
    """
    evaluators = [build_evaluator(corpus, choice) for choice in recipe.evaluators]
    check_components(recipe, evaluators)
    return Judge(evaluators, recipe.coefficients(), recipe.direction, one_phase(space))


def check_methods(methods: Iterable[Choice | None], judge: Judge) -> None:
    """Raise a `UserError` where a score does not suit a method that sets a proxy's weights."""
    for method in methods:
        reweight.check(method, judge)


class ProxyObjective:
    """An Optuna objective that trains one proxy per trial and scores it.

    Everything that can be wrong with the recipe, the corpus or the launch is found here, before
    any training. On ranks above 0 only `serve` is called.

    Args:
        directory: where checkpoints and kept models go; a folder per slot.
        stop: whether the worker was asked to stop; looked at between steps, on rank 0.

    Raises:
        UserError: a directory that cannot be written; an evaluator, option or component that does
            not exist; a score on a test set; a model or a batch that does not fit; a false launch.
    """

    def __init__(
        self,
        corpus: Corpus,
        recipe: StudyRecipe,
        *,
        directory: Path,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.corpus, self.recipe, self.directory = corpus, recipe, Path(directory)
        self.stop = stop
        check_folder(self.directory)
        self.space = space_for(corpus.tokens(), recipe)
        self.coefficients = recipe.coefficients()
        self.also = [objective.coefficients() for objective in recipe.also.values()]
        judge = judge_of(corpus, recipe, self.space)
        self.evaluators = list(judge.evaluators)
        self.group = ProxyGroup(recipe.proxy.precision)
        self.rungs = self._rungs()
        self.trainer = self.rungs.trainers[-1]
        for trainer in self.rungs.ours:
            trainer.judge = judge
        check_methods([t.recipe.reweight for t in self.rungs.ours], judge)
        self._kept = KeptModels(
            self.directory / FOLDER, recipe.proxy.keep, maximize=recipe.direction == "maximize"
        )
        self._trial: optuna.Trial | None = None
        self._rung: int | None = None
        self._disk_said = False

    @property
    def is_main(self) -> bool:
        """Whether this process asks and tells (rank 0); the others `serve`."""
        return self.group.is_main

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, ...]:
        """Rank 0: train and score the trial's mixture; one number an objective of the recipe.

        Raises:
            UserError: the sampler proposed something that is not a mixture of this space, or the
                corpus was built anew since the worker started.
            TrialFailed: this mixture cannot be trained or scored; its checkpoint is removed.
            Interrupted: the worker was asked to stop; a retry of the slot resumes.
            optuna.TrialPruned: the study's pruner gave it up, or it trained no mixture.
        """
        self.corpus.check_unchanged()  # what a command or an evaluator reads anew would be another
        part, method = part_of(trial.user_attrs.get(SLOT)), trial.user_attrs.get(METHOD)
        mixture, schedule = self._asked(trial) if part is None else ({}, None)
        job = Job(
            name=folder_name(trial),
            mixture=mixture,
            seed=int(trial.user_attrs.get(SEED, self.recipe.seed)),
            rung=rung_of(trial, self.rungs.target),
            schedule=schedule,
            part=part,
            method=method,
        )
        self._say_disk()
        self._trial = trial
        try:
            status, components, facts = self.group.run(self._work, job)
        except TrialFailed:
            self.rungs.forget(job)
            raise
        finally:
            self._trial = None
        report_facts(trial, **facts)  # before: where it cannot be stored, a retry resumes
        self.rungs.forget(job)
        if status == "pruned":
            raise optuna.TrialPruned
        report_components(trial, components)
        if part is not None:
            raise optuna.TrialPruned  # it scored no mixture: nothing is to be compared with it
        self._constrain(trial, components)
        score = self.aggregate(components)
        if method is not None:  # a score to compare; what it trained on was no mixture
            trial.report(score, facts["steps"])
            raise optuna.TrialPruned
        return (score, *(add_up(components, c) for c in self.also)) if self.also else score

    def serve(self) -> None:
        """Ranks above 0: do rank 0's trials until it closes."""
        self.group.serve(self._work)

    def close(self) -> None:
        """Let the other ranks go. The objective is of no use afterwards."""
        self.group.close()

    def aggregate(self, components: dict[str, float]) -> float:
        """The score: sum of coefficient x component."""
        return add_up(components, self.coefficients)

    # --- on every rank ----------------------------------------------------------------------

    def report(self, network: Any, step: int) -> bool:
        """The score so far goes to Optuna; whether its pruner gives the trial up.

        Pruners compare all trials of a study at the same step, so those below the target report
        nothing and are never given up.
        """
        if self._rung != self.rungs.target:
            return False
        components = self._evaluate(network)
        self.group.curves.scores(components, self.aggregate, step)
        hopeless = False
        if self._trial is not None and not self.also:  # Optuna takes none with several objectives
            self._trial.report(self.aggregate(components), step)
            hopeless = self._may_prune(self._trial) and self._trial.should_prune()
        return self.group.share(hopeless)

    def _work(self, job: Job) -> tuple[str, dict[str, float], dict[str, Any]]:
        begun, self._rung = time.perf_counter(), self.rungs.of(job)
        outcome = self.rungs.train(job, self)
        components: dict[str, float] = {}
        if outcome.status == "finished":
            evaluated = time.perf_counter()
            components = self._score(job, outcome)
            self.group.curves.scores(components, self.aggregate, outcome.facts.get("steps"))
            outcome.facts["evaluate_seconds"] = time.perf_counter() - evaluated
            if self.group.is_main:
                if self._rung == self.rungs.target and job.part is None:
                    self._keep(job, outcome, self.aggregate(components))
                shutil.rmtree(self.directory / job.name / "model", ignore_errors=True)
        outcome.facts["seconds"] = time.perf_counter() - begun
        facts = {**outcome.facts, "corpus": self.corpus.digest, **provenance()}
        for evaluator in self.evaluators:
            if isinstance(evaluator, Stating):
                facts.update(evaluator.facts())
        return outcome.status, components, facts

    def _score(self, job: Job, outcome: Outcome) -> dict[str, float]:
        if outcome.model is None and self.evaluators and not outcome.scored:
            outcome.model = self._model_of_command(self.directory / job.name / "model")
        scored = {} if outcome.model is None else self._evaluate(outcome.model)
        components = {**outcome.scores, **scored}
        for name in needed_components(self.recipe):
            if name not in components:
                raise TrialFailed(f"nothing gave a score {name!r}; given: {listed(components)}")
            value = components[name]
            try:
                finite = math.isfinite(value) and not isinstance(value, (bool, np.bool_))
            except (TypeError, ValueError, OverflowError):  # an evaluator's own: None, a text
                finite = False
            if not finite:
                raise TrialFailed(f"score {name!r} is {value}, not a finite number")
        return components

    def _evaluate(self, network: Any) -> dict[str, float]:
        components: dict[str, float] = {}
        for choice, evaluator in zip(self.recipe.evaluators, self.evaluators, strict=True):
            components.update(evaluated(choice, evaluator, network, self.group.accelerator))
        return components

    # --- private ----------------------------------------------------------------------------

    def _asked(self, trial: optuna.Trial) -> tuple[Mapping[str, float], Schedule | None]:
        if METHOD not in trial.user_attrs:
            return to_train(self.space, self.space.suggest(trial))
        space = one_phase(self.space)  # whatever phases trials have, a method begins with the prior
        return space.mixture(space.project(space.prior)), None

    def _rungs(self) -> Rungs:
        recipe = self.recipe
        if recipe.pruner is not None and not recipe.proxy.report_every:
            raise UserError(
                "study.pruner needs intermediate scores: set proxy.report_every to the steps "
                "between them."
            )
        rungs = Rungs(self.corpus, recipe, self.group, directory=self.directory)
        if rungs.tree is not None:
            rungs.tree.score_by(by_token(recipe, self.evaluators, self.corpus), self.space)
        return rungs

    def _model_of_command(self, folder: Path) -> Any:
        if not folder.is_dir():
            raise TrialFailed(
                f"proxy.command left no model in {folder}, which the study's evaluators score"
            )
        try:
            return model.load(folder).to(self.group.device)
        except Exception as error:  # of a file that is cut the libraries raise anything
            raise TrialFailed(f"the model in {folder} cannot be opened ({brief(error)})") from None

    def _keep(self, job: Job, outcome: Outcome, score: float) -> None:
        if outcome.model is not None:
            network = outcome.model
            kept = self._kept.offer(
                job.name, score, lambda folder: model.save(network, self.corpus, folder)
            )
            if kept is not None:
                outcome.facts["model"] = str(kept)

    def _may_prune(self, trial: optuna.Trial) -> bool:
        slot, first_round = trial.user_attrs.get(SLOT), self.recipe.prune_first_round
        return plan_of(self.recipe).may_prune(slot, first_round=first_round)

    def _constrain(self, trial: optuna.Trial, components: dict[str, float]) -> None:
        maximize = self.recipe.direction == "maximize"
        found = excesses(components, self.recipe.constraints, maximize=maximize)
        for name, excess in found.items():
            trial.set_constraint(name, excess)

    def _say_disk(self) -> None:
        if not self._disk_said and isinstance(self.trainer, Trainer):
            self._disk_said = True
            size = 4e-6 * model.size_of(self.trainer.config).parameters
            log.info(
                "Disk: a checkpoint of a trial in training takes %.1f MB; models kept: %d of "
                "%.1f MB each; both in %s.",
                (4 if self.recipe.proxy.average else 3) * size,
                self.recipe.proxy.keep,
                size,
                self.directory,
            )


def folder_name(trial: optuna.Trial) -> str:
    """The folder of a trial: its slot's, which a retry shares, or its own outside the plan."""
    slot = trial.user_attrs.get(SLOT)
    return f"trial-{trial.number}" if slot is None else f"slot-{str(slot).replace('/', '-')}"
