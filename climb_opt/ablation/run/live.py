"""Live arms: real proxies, as ordinary studies on a shared storage.

    <prefix>/<arm>/seed<n>    one search, or DoReMi's two training runs; the seed is also the
                              training seed, so arms of one seed share their random numbers
    <prefix>/judge-<corpus>   the mixtures they end with, and the fixed ones, retrained with fresh
                              seeds and scored on the test of the recipe

Any worker, anywhere, takes slots of these studies; `accelerate launch -m climb_opt search
--study-name <prefix>/<arm>/seed<n>` helps with a search on several GPUs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import Run, judged_study, runs
from climb_opt.ablation.run.final import final_mixture
from climb_opt.ablation.run.judge import Found, Place, judge
from climb_opt.ablation.run.results import RunResult
from climb_opt.attributes import DOREMI
from climb_opt.commands import command
from climb_opt.errors import UserError, within
from climb_opt.history import fact
from climb_opt.objective import judge_of
from climb_opt.plan import space_for
from climb_opt.proxy.ladders import ladder_of
from climb_opt.recipes import BudgetRecipe, StudyRecipe
from climb_opt.reports.dashboard.notebook import Notebook
from climb_opt.study import build_pruner, build_sampler, work
from climb_opt.study.corpora import corpus_for
from climb_opt.text import file_name
from climb_opt.view import StudyView, all_trials, study_named

log = logging.getLogger(__name__)


def run_live(
    recipe: AblationRecipe, place: Place, on_trial: Callable[[FrozenTrial], None]
) -> Iterator[tuple[Run, RunResult]]:
    """Search with every arm and seed, then judge; yields the results once all are judged.

    Raises:
        Interrupted: the worker was asked to stop; everything resumes.
        UserError: several processes in one launch, or anything wrong with a recipe or corpus.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        helps = command("search", "--study-name", f"{place.prefix}/ARM/seedN")
        raise UserError(
            "ablate runs one process a worker. For several GPUs a trial, let `accelerate launch -m "
            f"{helps.replace('climb-opt', 'climb_opt', 1)}` help with each study, or start one "
            "`climb-opt ablate` per GPU."
        )
    planned = runs(recipe)
    _check([run for run in planned if run.seed == recipe.first_seed], recipe)
    found = [_found(run, recipe, place, on_trial) for run in planned]
    for domains in dict.fromkeys(_domains(run) for run in planned):
        yield from judge(recipe, [f for f in found if _domains(f.run) == domains], place, on_trial)


def _check(planned: list[Run], recipe: AblationRecipe) -> None:
    """Raise for what would show only when an arm begins, or is judged: hours of others later."""
    judged = set()
    for run in planned:
        with within(f"arm {run.arm.name!r}"):
            study, corpus = run.arm.study, corpus_for(run.arm.study)
            space = space_for(corpus.tokens(), study)
            build_sampler(study, space)
            build_pruner(study.pruner)
            if _domains(run) not in judged:
                judge_of(corpus, judged_study(recipe, study), space)
                judged.add(_domains(run))


# --- the searches ------------------------------------------------------------------------------


def _found(
    run: Run, recipe: AblationRecipe, place: Place, on_trial: Callable[[FrozenTrial], None]
) -> Found:
    if run.arm.options.fixed is not None:
        return Found(run, None, "", None)  # its mixture needs the corpus: see judge.py
    name = f"{place.prefix}/{run.key}"
    if (old := _of_last_release(run, place, name)) is not None:
        return old
    study = place.open(_priced(run.arm.study), name)
    most, spent = recipe.budget.seconds, [fact(t, "seconds") for t in all_trials(study)]

    def on_finished(trial: FrozenTrial) -> None:
        spent.append(fact(trial, "seconds"))
        on_trial(trial)

    def stop() -> bool:
        return place.stop() or (most is not None and sum(spent) >= most)

    if run.arm.study.branches is not None:  # no arm takes the trunk that another has paid for
        place = replace(place, directory=place.directory / file_name(run.arm.name))
    space, lost = StudyView(study).space, ""
    notes = Notebook(study, prior=space.mixture(space.prior))
    try:
        work(study, directory=place.directory, wrap=notes.annotate, stop=stop, on_trial=on_finished)
    except UserError as error:
        if not any(t.state == TrialState.FAIL for t in all_trials(study)):
            raise  # the recipe is wrong, not the arm
        log.warning("%s is given up: %s", study.study_name, error)
        lost = str(error)
    place.check_stop()
    try:
        weights = final_mixture(study, space, run.arm.study, run.arm.options.final)
    except UserError as error:  # nothing finished: the run is counted as lost, with its reason
        return Found(run, None, lost or str(error), study)
    return Found(run, space.mixture(weights), lost, study)


def _domains(run: Run) -> tuple[str, tuple[float, ...]]:
    """Runs that agree in this end with mixtures of the same names."""
    return run.arm.study.corpus_folder, run.arm.study.phases


def _priced(study: StudyRecipe) -> StudyRecipe:
    """The recipe with its budget, which an ablation gives in trials of the target, in FLOPs."""
    if study.budget is None:
        return study
    price = ladder_of(study.ladder, corpus_for(study).vocab_size).costs[-1]
    return replace(study, budget=BudgetRecipe(float(study.budget.flops * price)))


def _of_last_release(run: Run, place: Place, name: str) -> Found | None:
    """What DoReMi ended with in a study of version 0.1.0, which had a loop of its own for it."""
    study = study_named(place.storage, name)
    for trial in () if study is None else all_trials(study):
        if trial.state == TrialState.COMPLETE and DOREMI in trial.user_attrs:
            return Found(run, dict(trial.user_attrs[DOREMI]), "", study)
    return None
