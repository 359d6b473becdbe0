"""One emulated run: an ordinary Optuna study, asked and told here, in seconds.

A run is a pure function of its recipe and seed: one process does all of it, the noise of the j-th
trial depends on the seed and j alone, and a run cut short is done again from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from climb_opt import recipes
from climb_opt.ablation.foresight import foreseen
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import BENCH, Run, allocate, runs
from climb_opt.ablation.run import promises
from climb_opt.ablation.run.benched import benched, problem_of
from climb_opt.ablation.run.contents import contents, reads_files
from climb_opt.ablation.run.final import COMMON, final_mixture
from climb_opt.ablation.run.options import prepared
from climb_opt.ablation.run.results import RunResult, mixtures_digest, run_digest
from climb_opt.ablation.run.searching import search
from climb_opt.ablation.run.surfaces import Surface, surface
from climb_opt.baselines import fixed_mixture
from climb_opt.emulator.objective import reference_draws
from climb_opt.errors import UserError
from climb_opt.history import History
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.statistics import spearman
from climb_opt.threads import one_blas_thread
from climb_opt.view import read_history

RANKED = 500  # random mixtures on which a predictor's ranking is checked
FORESIGHT = (4, 2, 1)  # where a search without rounds is cut to look at its predictor
KEPT = 8  # searches in memory

# A finished search, and what can be said of it whatever the final rule.
Searched = tuple[optuna.Study, RunResult]


class Searches:
    """The last few searches in memory: arms that differ in their final rule only share one."""

    def __init__(self) -> None:
        self._kept: dict[str, Searched] = {}  # the oldest first

    def get(self, run: Run, ground: Surface, storage: BaseStorage | None, prefix: str) -> Searched:
        """The run's search; with a storage each run has a study of its own."""
        if storage is not None:
            return _searched(run, ground, storage, prefix)
        parallel = str(run.arm.options.parallel)
        # The objective is among the evaluators.
        key = f"{recipes.to_json(run.arm.study)}{parallel}{run.promises}{contents(run)}"
        if key not in self._kept:
            self._kept[key] = _searched(run, ground, None, prefix)
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[key]


@one_blas_thread()
def emulate(
    run: Run,
    *,
    storage: BaseStorage | None = None,
    prefix: str = "ablation",
    searches: Searches | None = None,
) -> RunResult:
    """Do one run and judge the mixture it ends with.

    Args:
        storage: where its study goes; by default in memory.
        prefix: of the study's name; see `study_of`.
        searches: those of earlier runs of this process.

    Raises:
        UserError: an unknown sampler or option, a table that cannot be read, a study of that name
            that is not this run's.
    """
    read = contents(run)
    return replace(_emulated(run, storage, prefix, searches or Searches()), contents=read)


def check_objective(recipe: AblationRecipe) -> None:
    """Refuse an objective that no run could search; where it reads files, keys and types alone.

    Raises:
        UserError: an unknown option, one of another type or out of range.
    """
    for run in [] if recipe.live else runs(replace(recipe, seeds=1)):
        objective = _searched_on(run)
        if run.objective.name == BENCH:
            make: Callable[[], Any] = partial(problem_of, objective.options, run.seed)
        else:
            prepared(objective.name, objective.options)
            make = partial(surface, objective)
        if not reads_files(objective.options):
            make()


# --- private -----------------------------------------------------------------------------------


def _emulated(run: Run, storage: BaseStorage | None, prefix: str, searches: Searches) -> RunResult:
    if run.objective.name == BENCH:
        return benched(run)
    ground = surface(_searched_on(run))
    if (fixed := run.arm.options.fixed) is not None:
        weights = fixed_mixture(ground.space, fixed.name, **fixed.options)
        return _judged(RunResult.of(run), weights, ground)
    study, found = searches.get(run, ground, storage, prefix)
    result = replace(found, setting=run.setting, arm=run.arm.name, recipe=run_digest(run))
    try:
        final = final_mixture(study, ground.space, run.arm.study, run.arm.options.final)
    except UserError as error:  # nothing finished: the run is counted as lost, with its reason
        return _judged(replace(result, error=str(error)), None, ground)
    return _judged(result, final, ground)


def _searched_on(run: Run) -> Choice:
    return Choice(run.objective.name, {**run.objective.options, **run.arm.options.objective})


def _searched(run: Run, ground: Surface, storage: BaseStorage | None, prefix: str) -> Searched:
    study, seconds = search(run, ground, storage, prefix)
    recipe, space = run.arm.study, ground.space
    history = read_history(study, space)
    curve = _curve(history, ground)
    tried = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    rows = [space.weights_of(t) for t in tried]
    result = RunResult.of(
        run,
        best=curve[-1] if curve else None,
        auto=_ours(study, ground, recipe) if curve else None,
        curve=curve,
        ranks=_ranks(history, ground, recipe),
        rounds=recipe.rounds,
        trials=sum(t.state == TrialState.COMPLETE for t in tried),
        failed=sum(t.state == TrialState.FAIL for t in tried),
        seconds=seconds,
        flops=0.0 if ground.ladder is None else ground.ladder.spent(tried),
        mixtures=mixtures_digest(np.array([w for w in rows if w is not None])),
        promises={str(n): _promised(history, ground, n) for n in run.promises if n <= len(history)},
    )
    return study, result


def _ours(study: optuna.Study, ground: Surface, recipe: StudyRecipe) -> float:
    return float(ground.regret(final_mixture(study, ground.space, recipe, COMMON)[None])[0])


def _judged(result: RunResult, final: np.ndarray | None, ground: Surface) -> RunResult:
    facts = {**result.facts, "quality": ground.quality}
    if final is None:
        return replace(result, facts=facts)
    facts["final_extrapolates"] = bool(ground.source.extrapolates(final[None])[0])
    regret = float(ground.regret(final[None])[0])
    return replace(result, mixture=ground.space.mixture(final), final=regret, facts=facts)


def _promised(history: History, ground: Surface, n: int) -> dict[str, float | None]:
    """What the recommendation after the first n results promises, and its regret."""
    unit = ground.typical - ground.best
    found = promises.kept(ground.space, history.trials[:n], ground.truth, unit)
    return {**found, "regret": (found.pop("true") - ground.best) / unit}


def _curve(history: History, ground: Surface) -> tuple[float, ...]:
    """True value of the best measurement so far, after each finished trial."""
    if not len(history):
        return ()
    values = history.values
    lower = np.append(True, values[1:] < np.minimum.accumulate(values)[:-1])
    leaders = np.maximum.accumulate(np.where(lower, np.arange(len(values)), 0))
    return tuple(ground.regret(history.weights)[leaders].tolist())


def _ranks(history: History, ground: Surface, recipe: StudyRecipe) -> tuple[float, ...]:
    """Rank correlation of predicted and true values of random mixtures, after each round."""
    if len(history) < len(FORESIGHT):
        return ()
    several = len(recipe.rounds) > 1 and not recipe.ladder
    rounds = recipe.rounds if several else allocate(len(history), FORESIGHT)
    draws = reference_draws(ground.space, RANKED)
    truth, so_far = ground.truth(draws), [history.rows(np.arange(n)) for n in np.cumsum(rounds)]
    return tuple(spearman(foreseen(recipe.sampler, seen, draws), truth) for seen in so_far)
