"""The study of an emulated run: created, asked and told, in this process."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from climb_opt import recipes
from climb_opt.ablation.recipe.resolve import Run
from climb_opt.ablation.run.results import run_digest
from climb_opt.ablation.run.surfaces import Surface
from climb_opt.attributes import ABLATION, ERROR, LADDER, RECIPE, SLOT
from climb_opt.errors import TrialFailed, UserError
from climb_opt.history import set_aggregate
from climb_opt.ladder import Ladder
from climb_opt.recipes import BudgetRecipe, StudyRecipe
from climb_opt.selection.verifying import shortlist
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import study_lock
from climb_opt.study import build_sampler
from climb_opt.view import StudyView, store_space, study_named
from climb_opt.workers import Work
from climb_opt.workers import work as run_plan


def search(
    run: Run, ground: Surface, storage: BaseStorage | None, prefix: str
) -> tuple[optuna.Study, float]:
    """The run's finished study, and the CPU seconds it took.

    Args:
        storage: where the study goes, named by `study_of`; None: in memory.

    Raises:
        UserError: an unknown sampler or option, or a study of that name that is not this run's.
    """
    study = _create(run, ground, storage or InMemoryStorage(), prefix)
    started = time.process_time()
    _ask_and_tell(study, ground, run)
    return study, time.process_time() - started


def check_ours(study: optuna.Study) -> None:
    """Refuse a study that belongs to no ablation.

    Raises:
        UserError: it does not.
    """
    if ABLATION not in study.user_attrs:
        raise UserError(
            f"Study {study.study_name!r} exists and is no run of an ablation. Give the ablation "
            "another --study-name."
        )


def study_of(storage: BaseStorage, prefix: str, run: Run) -> tuple[str, optuna.Study | None]:
    """The name of a run's study, and the study if there is one.

    It is `<prefix>/<run.key>`; where a run of another recipe has that name, `/<digest>` is added.
    """
    name = f"{prefix}/{run.key}"
    study = study_named(storage, name)
    belongs = None if study is None else study.user_attrs.get(ABLATION)
    if belongs is None or belongs.get("digest") == run_digest(run):
        return name, study
    name = f"{name}/{run_digest(run)}"
    return name, study_named(storage, name)


def furnish(
    study: optuna.Study, recipe: StudyRecipe, space: MixtureSpace, ladder: Ladder | None
) -> None:
    """Store with a fresh study what samplers and reports read of it.

    Args:
        ladder: the rungs of what is searched, which an arm with a ladder may use.
    """
    # Not every sampler does; reports and the dashboard's cards need it.
    store_space(study, space)
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        study.set_metric_names(list(recipe.objectives()))
    if recipe.ladder and ladder is not None:
        study.set_user_attr(LADDER, ladder.to_data())
        if recipe.budget is not None:  # of an ablation: in trials of the target
            flops = recipe.budget.flops * ladder.rungs[-1].flops
            recipe = replace(recipe, budget=BudgetRecipe(flops))
    study.set_user_attr(RECIPE, recipes.to_json(recipe))


# --- private -----------------------------------------------------------------------------------


def _create(run: Run, ground: Surface, storage: BaseStorage, prefix: str) -> optuna.Study:
    name, earlier = study_of(storage, prefix, run)
    belongs = {"key": run.key, "digest": run_digest(run)}
    if earlier is not None:
        check_ours(earlier)
        if not earlier.trials:
            belongs = earlier.user_attrs[ABLATION]  # claimed for this run
        else:  # cut short
            optuna.delete_study(study_name=name, storage=storage)
    sampler = build_sampler(run.arm.study, ground.space)
    study = optuna.create_study(
        study_name=name, storage=storage, sampler=sampler, load_if_exists=True
    )
    furnish(study, run.arm.study, ground.space, ground.ladder)
    study.set_user_attr(ABLATION, belongs)
    return study


def _ask_and_tell(study: optuna.Study, ground: Surface, run: Run) -> None:
    objective = ground.objective(run.seed)
    if objective.components:
        names, coefficients = ground.source.names, ground.source.coefficients
        set_aggregate(study, dict(zip(names, coefficients.tolist(), strict=True)))
    if run.arm.study.ladder:  # by the plan: which slot may start next, and on which rung
        work = Work(StudyView(study).plan, space=ground.space)
        run_plan(study, objective, study_lock(study), work)
        return
    left, verify = sum(run.arm.study.rounds), run.arm.study.verify
    while left > 0:
        if left == verify:
            for weights in shortlist(study, verify, space=ground.space, seed=run.seed):
                study.enqueue_trial(ground.space.params(weights))
        most = left if left <= verify else left - verify
        batch = [study.ask() for _ in range(min(run.arm.options.parallel, most))]
        for trial in batch:  # all are proposed before the first result is known
            ground.space.suggest(trial)
            if SLOT not in trial.user_attrs:  # for reports; what was proposed no longer hangs on it
                trial.set_user_attr(SLOT, trial.number)
        for trial in batch:
            try:
                study.tell(trial, objective(trial))
            except TrialFailed as reason:  # it spends its part of the budget, as a lost proxy would
                trial.set_user_attr(ERROR, str(reason))
                study.tell(trial, state=TrialState.FAIL)
        left -= len(batch)
