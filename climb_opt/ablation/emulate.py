"""One emulated run: an ordinary Optuna study, asked and told here, in seconds.

A run is a pure function of its recipe and seed: one process does all of it, the noise of the j-th
trial depends on the seed and j alone, and a run cut short is done again from its beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from climb_opt import lookup, recipes
from climb_opt.ablation.final import COMMON, final_mixture
from climb_opt.ablation.resolve import Run, allocate
from climb_opt.ablation.results import RunResult, mixtures_digest, run_digest
from climb_opt.ablation.statistics import spearman
from climb_opt.ablation.surfaces import Surface, surface
from climb_opt.emulator.objective import reference_draws
from climb_opt.errors import TrialFailed, UserError
from climb_opt.fixed import fixed_mixture
from climb_opt.history import History, read_history, set_aggregate
from climb_opt.predictors.base import expected
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.rounds import ERROR
from climb_opt.simplex import MixtureSpace
from climb_opt.study import RECIPE, build_sampler

RUN = "climb/ablation"  # study: {key, digest} of the run it belongs to
RANKED = 500  # random mixtures on which a predictor's ranking is checked
FORESIGHT = (4, 2, 1)  # where a search without rounds is cut to look at its predictor


def emulate(run: Run, *, storage: BaseStorage | None = None, prefix: str = "ablation") -> RunResult:
    """Do one run and judge the mixture it ends with.

    Args:
        storage: where its study goes; by default in memory.
        prefix: of the study's name, `<prefix>/<run.key>`.

    Raises:
        UserError: an unknown sampler or option, a table that cannot be read, a study of that name
            that is not this run's.
    """
    options = {**run.objective.options, **run.arm.options.objective}
    ground = surface(Choice(run.objective.name, options))
    if run.arm.options.fixed is not None:
        return _fixed(run, ground)
    recipe = run.arm.study
    study = _create(run, ground.space, storage or InMemoryStorage(), prefix)
    started, cpu = time.perf_counter(), time.process_time()
    _search(study, ground, run)
    history = read_history(study, ground.space)
    final, error = _final(study, ground.space, run, run.arm.options.final)
    spent = time.process_time() - cpu
    ours, _ = _final(study, ground.space, run, COMMON)
    tried = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    rows = [ground.space.weights_of(t) for t in tried]
    result = RunResult(
        setting=run.setting,
        arm=run.arm.name,
        seed=run.seed,
        recipe=run_digest(run),
        mixture=None,
        final=None,
        auto=None if ours is None else float(ground.regret(ours[None])[0]),
        curve=_curve(history, ground),
        ranks=_ranks(history, ground, recipe),
        rounds=recipe.rounds,
        trials=sum(t.state == TrialState.COMPLETE for t in tried),
        failed=sum(t.state == TrialState.FAIL for t in tried),
        seconds=spent,
        mixtures=mixtures_digest(np.array([w for w in rows if w is not None])),
        error=error,
        facts={"wall_seconds": time.perf_counter() - started},
    )
    best = result.curve[-1] if result.curve else None
    return _judged(replace(result, best=best), final, ground)


# --- the study ---------------------------------------------------------------------------------


def _create(run: Run, space: MixtureSpace, storage: BaseStorage, prefix: str) -> optuna.Study:
    name = f"{prefix}/{run.key}"
    belongs = {"key": run.key, "digest": run_digest(run)}
    if (earlier := _load(name, storage)) is not None:
        if RUN not in earlier.user_attrs:
            raise UserError(
                f"Study {name!r} exists and is no run of an ablation. Give the ablation another "
                "--study-name."
            )
        optuna.delete_study(study_name=name, storage=storage)  # cut short, or of another recipe
    study = optuna.create_study(
        study_name=name, storage=storage, sampler=build_sampler(run.arm.study, space)
    )
    study.set_user_attr(RECIPE, recipes.to_json(run.arm.study))
    study.set_user_attr(RUN, belongs)
    return study


def _load(name: str, storage: BaseStorage) -> optuna.Study | None:
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def _search(study: optuna.Study, ground: Surface, run: Run) -> None:
    objective = ground.objective(run.seed)
    if objective.components:
        names, coefficients = ground.source.names, ground.source.coefficients
        set_aggregate(study, dict(zip(names, coefficients.tolist(), strict=True)))
    left = sum(run.arm.study.rounds)
    while left > 0:
        batch = [study.ask() for _ in range(min(run.arm.options.parallel, left))]
        for trial in batch:  # all are proposed before the first result is known
            ground.space.suggest(trial)
        for trial in batch:
            _evaluate(study, trial, objective)
        left -= len(batch)


def _evaluate(
    study: optuna.Study, trial: optuna.Trial, objective: Callable[[optuna.Trial], float]
) -> None:
    try:
        study.tell(trial, objective(trial))
    except TrialFailed as reason:  # it spends its part of the budget, as a lost proxy would
        trial.set_user_attr(ERROR, str(reason))
        study.tell(trial, state=TrialState.FAIL)


# --- judging -----------------------------------------------------------------------------------


def _final(
    study: optuna.Study, space: MixtureSpace, run: Run, rule: Choice
) -> tuple[np.ndarray | None, str]:
    try:
        return final_mixture(study, space, run.arm.study, rule), ""
    except UserError as error:  # nothing finished: the run is counted as lost, with its reason
        return None, str(error)


def _fixed(run: Run, ground: Surface) -> RunResult:
    choice = run.arm.options.fixed
    assert choice is not None
    weights = fixed_mixture(ground.space, choice.name, **choice.options)
    result = RunResult(run.setting, run.arm.name, run.seed, run_digest(run), None, None)
    return _judged(result, weights, ground)


def _judged(result: RunResult, final: np.ndarray | None, ground: Surface) -> RunResult:
    facts = {**result.facts, "quality": ground.quality}
    if final is None:
        return replace(result, facts=facts)
    facts["final_extrapolates"] = bool(ground.source.extrapolates(final[None])[0])
    return replace(
        result,
        mixture=ground.space.mixture(final),
        final=float(ground.regret(final[None])[0]),
        facts=facts,
    )


def _curve(history: History, ground: Surface) -> tuple[float, ...]:
    """True value of the best measurement so far, after each finished trial."""
    if not len(history):
        return ()
    regret = ground.regret(history.weights)
    leaders, best = [], 0
    for i, value in enumerate(history.values):
        best = i if value < history.values[best] else best
        leaders.append(best)
    return tuple(float(regret[i]) for i in leaders)


def _ranks(history: History, ground: Surface, recipe: StudyRecipe) -> tuple[float, ...]:
    """Rank correlation of predicted and true values of random mixtures, after each round."""
    if len(history) < len(FORESIGHT):
        return ()
    rounds = recipe.rounds if len(recipe.rounds) > 1 else allocate(len(history), FORESIGHT)
    name = str(recipe.sampler.options.get("predictor", "lightgbm"))
    draws = reference_draws(ground.space, RANKED)
    truth, found = ground.truth(draws), []
    for end in np.cumsum(rounds):
        rows = slice(0, int(end))
        predictor = lookup.find("predictor", name)()
        predictor.fit(history.weights[rows], history.values[rows])
        found.append(spearman(expected(predictor, draws), truth))
    return tuple(found)
