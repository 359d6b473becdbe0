"""A worker of a study: its sampler, pruner and objective, and what each trial records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from climb_opt import recipes
from climb_opt import workers as rounds
from climb_opt.attributes import BESIDE, SEED, SLOT
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError, listed
from climb_opt.evaluators.base import Reporting
from climb_opt.history import report_facts
from climb_opt.ladder import rung_of
from climb_opt.ladder.branches.slots import part_of
from climb_opt.metrics import higher_is_better, searchable
from climb_opt.plan import Plan
from climb_opt.provenance import provenance
from climb_opt.recipes import StudyRecipe
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import explained, patient, study_lock
from climb_opt.study.corpora import corpus_for
from climb_opt.study.given import given_mixtures, method_slots
from climb_opt.study.opening import load_corpus, read_recipe
from climb_opt.study.own_folder import mark_folder, own_folder
from climb_opt.study.seeds import Objective, seeded
from climb_opt.study.tried import build_pruner, build_sampler
from climb_opt.view import StudyView
from climb_opt.workers import Pace, Work, log_trial


def work(
    study: optuna.Study,
    *,
    corpus: str | Path | CorpusRecipe | None = None,
    directory: str | Path = "runs",
    objective: Objective | None = None,
    wrap: Callable[[Objective], Objective] = lambda objective: objective,
    stop: Callable[[], bool] = lambda: False,
    on_trial: Callable[[FrozenTrial], None] = log_trial,
    pace: Pace | None = None,
) -> None:
    """Train proxies for the study until its plan is done or `stop` says so.

    Start it as often as you like, on any machine, plainly or by `accelerate launch`: the processes
    of one launch are one worker.

    Args:
        corpus: where the corpus lies here, if not where the recipe says.
        directory: checkpoints and kept models go to `directory`/<study>.
        objective: trial -> score, instead of training and scoring a proxy.
        wrap: put around the objective, for example to write notes on running trials.
        stop: asked again and again; once it says yes no trial begins, and a proxy in training is
            saved and given back.
        on_trial: called with each trial that this worker finished; logged at INFO by default.
        pace: how often workers beat and look, in seconds; the same for all workers of a study.

    Raises:
        UserError: a corpus other than the study's, or anything wrong with the recipe; found before
            any training.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/work.journal")
    >>> space = climb_opt.MixtureSpace(climb_opt.Corpus.load("corpora/tiny").tokens())
    >>> climb_opt.work(study, objective=lambda trial: space.suggest(trial)["code"])
    >>> climb_opt.status(study).finished
    6
    """
    from climb_opt.selection.verifying import Verification  # with SciPy: `status` needs none

    recipe = read_recipe(study)
    for mark, command in BESIDE.items():
        if mark in study.user_attrs:
            raise UserError(
                f"Study {study.study_name!r} is no search; go on with it by `climb-opt {command}`."
            )
    view = StudyView(study)
    study.sampler, study.pruner = build_sampler(recipe, view.space), build_pruner(recipe.pruner)
    given = given_mixtures(study, recipe, view.plan, view.space)
    mixtures = Verification(patient(study, stop), view.plan, given, seed=recipe.seed)
    wanted = Work(view.plan, mixtures, method_slots(recipe), stop=stop, on_trial=on_trial)
    wanted = replace(wanted, pace=pace or wanted.pace)

    def run(trained: Objective, lost: Event) -> None:
        run_plan(study, wrap(_foretold(trained, view.space)), replace(wanted, lost=lost))

    if objective is not None:
        check_own(objective, recipe)
        run(_sparing(objective, view.plan, recipe), wanted.lost)
    else:
        with_proxies(study, run, corpus=corpus, directory=directory, stop=stop)


def check_own(objective: Objective | None, recipe: StudyRecipe) -> None:
    """Raise a `UserError` where somebody's own objective is to train a baseline by a method."""
    if objective is not None and recipe.methods:
        raise UserError(
            f"study.baselines: {listed(recipe.methods)}: a method sets the weights of proxies that "
            "climb_opt trains, and this objective trains its own; leave it out of baselines."
        )


def with_proxies(
    study: optuna.Study,
    run: Callable[[Objective, Event], Any],
    *,
    corpus: str | Path | CorpusRecipe | None = None,
    directory: str | Path = "runs",
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Call `run` with the objective of the study's recipe, and what makes it end a training as
    `stop` does: `Work.lost` of whoever runs it. Other processes of a launch serve it."""
    lost = Event()
    proxies = make_objective(
        study, corpus=corpus, directory=directory, stop=lambda: stop() or lost.is_set()
    )
    try:
        if proxies.is_main:
            mark_folder(study, directory, stop)
            run(proxies, lost)
        else:
            proxies.serve()
    except Exception:
        proxies.close()
        raise
    # What is no `Exception` (a rank is gone, a second Ctrl-C) leaves at once: the other ranks do
    # not listen, and saying goodbye would wait for them.
    proxies.close()


def make_objective(
    study: optuna.Study,
    *,
    corpus: str | Path | CorpusRecipe | None = None,
    directory: str | Path = "runs",
    stop: Callable[[], bool] = lambda: False,
) -> Any:
    """The objective of a study's recipe: a `ProxyObjective` on this machine's copy of the corpus.

    Raises:
        UserError: the corpus is missing or another, or an extra is not installed.
    """
    return loaded_objective(study, read_recipe(study), corpus, directory, stop)


def loaded_objective(
    study: optuna.Study,
    recipe: StudyRecipe,
    corpus: str | Path | CorpusRecipe | None,
    directory: str | Path,
    stop: Callable[[], bool] = lambda: False,
) -> Any:
    """The objective of a recipe, on the study's corpus and in its folder of `directory`."""
    folder, loaded = own_folder(study, directory), load_corpus(study, corpus)
    return _training().ProxyObjective(loaded, recipe, directory=folder, stop=stop)


def equal_score(recipe: StudyRecipe, corpus: str | Path | None = None) -> dict[str, float]:
    """What `score: auto` adds up, each as much as the others: component -> coefficient.

    Args:
        corpus: where it lies here, if not where the recipe says.

    Raises:
        UserError: no evaluator says what it measures, or all of it is measured on test sets.
    """
    loaded = corpus_for(recipe, corpus)
    evaluators = [_training().build_evaluator(loaded, choice) for choice in recipe.evaluators]
    tests = {n for e in evaluators if isinstance(e, Reporting) for n in e.reported()}
    found = searchable(n for e in evaluators for n in e.components() if n not in tests)
    if not found:
        raise UserError(
            "study.score: auto adds up what the study's evaluators measure, but none measures "
            "anything to search on; name the components, e.g. [arc_easy/bpb]."
        )
    maximize = recipe.direction == "maximize"
    signs = [1 if higher_is_better(n, default=maximize) == maximize else -1 for n in found]
    return {n: sign / len(found) for n, sign in zip(found, signs, strict=True)}


def _training() -> Any:
    """What trains and scores proxies, loaded."""
    try:
        from climb_opt import objective
    except ImportError as error:
        raise UserError(
            f"Training proxies needs an extra ({error}); run pip install 'climb-opt[proxy]'."
        ) from None
    return objective


def run_plan(study: optuna.Study, objective: Objective, wanted: Work) -> None:
    """`rounds.work` on a study with a recipe: its space, its lock, provenance on every trial."""
    recipe, view = read_recipe(study), StudyView(study)
    corpus = None if view.corpus is None else view.corpus.digest
    facts = {"recipe": recipes.digest(recipe), "corpus": corpus, **provenance()}
    known = seeded(objective, view.space, recipe, view.plan.target)
    recorded = _recorded(known, facts, recipe.seed)
    with explained(view.storage):
        rounds.work(study, recorded, study_lock(study), replace(wanted, space=view.space))


def _sparing(objective: Objective, plan: Plan, recipe: StudyRecipe) -> Objective:
    """A person's own objective, told "go on" for the trials that the plan lets run to their end.

    Not a pruner around the pruner: Optuna shows a sampler its bracket only if the study's pruner is
    the `HyperbandPruner` itself.
    """

    def spare(trial: optuna.Trial) -> Any:
        if part_of(trial.user_attrs.get(SLOT)) is not None:
            raise optuna.TrialPruned  # of a trunk or a branch, which this objective does not train
        below = rung_of(trial, plan.target) < plan.target
        if below:  # pruners compare all trials at a step: those of the target only
            trial.report = lambda value, step: None  # type: ignore[method-assign]
        slot, first_round = trial.user_attrs.get(SLOT), recipe.prune_first_round
        if below or not plan.may_prune(slot, first_round=first_round):
            trial.should_prune = lambda: False  # type: ignore[method-assign]
        return objective(trial)

    return spare


def _foretold(objective: Objective, space: MixtureSpace) -> Objective:
    """The objective, with what is expected of each trial stored before it runs, whoever proposed
    it: baselines, mixtures in line and samplers of somebody else's have no forecast of their own.
    """
    from climb_opt.samplers.forecasts import Forecaster

    forecaster = Forecaster(space)

    def foretell(trial: optuna.Trial) -> Any:
        forecaster.foretell_trial(trial)
        return objective(trial)

    return foretell


def _recorded(objective: Objective, facts: Mapping[str, Any], seed: int) -> Objective:
    """The objective, with provenance and seconds added to what it stores; failed or not."""

    def record(trial: optuna.Trial) -> Any:
        begun = time.perf_counter()
        try:
            return objective(trial)
        finally:
            used, spent = trial.user_attrs.get(SEED, seed), time.perf_counter() - begun
            report_facts(trial, **facts, seed=int(used), seconds=round(spent, 3))

    return record
