"""Judging live arms: the mixtures they end with, retrained and scored on the recipe's test.

One study per corpus, one named slot per mixture and fresh seed; mixtures that several arms end with
are retrained once. All mixtures share the seeds, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from climb_opt import recipes
from climb_opt.ablation.foresight import foreseen
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import Run, judged_study
from climb_opt.ablation.run.contents import contents
from climb_opt.ablation.run.results import RunResult, mixtures_digest
from climb_opt.attributes import COMPONENTS, INTERRUPTED, SLOT
from climb_opt.baselines import fixed_mixture
from climb_opt.errors import Interrupted
from climb_opt.history import History, fact
from climb_opt.metrics import scores_of
from climb_opt.recipes import StudyRecipe
from climb_opt.retrain.sibling import orders, run_by
from climb_opt.simplex import MixtureSpace
from climb_opt.statistics import spearman
from climb_opt.study import open_study, read_recipe, with_proxies
from climb_opt.study.asked import OtherRecipe
from climb_opt.study.seeds import Objective
from climb_opt.view import StudyView, all_trials, read_history

JUDGE_SEED = 1_000  # first of the fresh training seeds, far from the runs' own
SAME = 6  # decimals: mixtures equal up to them are retrained once


@dataclass(frozen=True)
class Place:
    """Where live runs happen: their storage, the studies' prefix, the folder of checkpoints."""

    storage: BaseStorage
    prefix: str
    directory: Path
    stop: Callable[[], bool]

    def open(self, recipe: StudyRecipe, name: str) -> optuna.Study:
        """The study of an arm, created or joined.

        Raises:
            UserError: as of `open_study`; what another recipe may do here.
        """
        try:
            return open_study(recipe, storage=self.storage, study_name=name)
        except OtherRecipe as error:
            remedy = (
                "Leave the ablation's recipe and its files as they were to go on, or give another "
                "--study-name to start a new ablation."
            )
            raise OtherRecipe(name, error.changes, remedy) from None

    def check_stop(self) -> None:
        """Raise `Interrupted` if the worker was asked to stop."""
        if self.stop():
            raise Interrupted("the ablation was stopped")


@dataclass(frozen=True)
class Found:
    """What one run ended with, before it is judged; `mixture` is None with an `error`.

    A fixed arm has neither: its mixture needs the corpus, which the judge opens.
    """

    run: Run
    mixture: dict[str, float] | None
    error: str
    study: optuna.Study | None


def judge(
    recipe: AblationRecipe,
    found: list[Found],
    place: Place,
    on_trial: Callable[[FrozenTrial], None],
) -> Iterator[tuple[Run, RunResult]]:
    """Retrain what runs of one corpus and the same phases ended with; yields every run's result.

    Raises:
        Interrupted: the worker was asked to stop.
    """
    judged = judged_study(recipe, found[0].run.arm.study)
    phases = "".join(f"-{share:g}" for share in judged.phases)
    name = f"{place.prefix}/judge-{Path(judged.corpus_folder).name}{phases}"
    try:
        study = open_study(judged, storage=place.storage, study_name=name)
    except OtherRecipe:  # the test has changed since: what the searches found is judged again
        name = f"{name}-{recipes.digest(judged)}"
        study = open_study(judged, storage=place.storage, study_name=name)
    space = StudyView(study).space
    finals = [_with_fixed(f, space) for f in found]
    slots = {f.run.key: _slot(f.mixture, space) for f in finals if f.mixture is not None}
    wanted = {slot: f.mixture for f in finals if (slot := slots.get(f.run.key)) and f.mixture}
    seeds = range(JUDGE_SEED, JUDGE_SEED + recipe.test.seeds)
    if wanted:
        todo = orders(wanted, {f"seed{s}": s for s in seeds}, judged.max_attempts)

        def train(proxies: Objective, lost: Event) -> None:
            run_by(proxies, stop=place.stop, on_trial=on_trial, lost=lost)(study, todo)

        with_proxies(study, train, directory=place.directory, stop=place.stop)
        place.check_stop()
    for f in finals:
        yield f.run, _result(f, _trials_of(study, slots.get(f.run.key)), judged.sign)


# --- private -----------------------------------------------------------------------------------


def _with_fixed(found: Found, space: MixtureSpace) -> Found:
    choice = found.run.arm.options.fixed
    if choice is None:
        return found
    weights = fixed_mixture(space, choice.name, **choice.options)
    return replace(found, mixture=space.mixture(weights))


def _slot(mixture: Mapping[str, float], space: MixtureSpace) -> str:
    return mixtures_digest(np.round(space.weights(mixture, normalise=True), SAME))


def _trials_of(study: optuna.Study, slot: str | None) -> list[FrozenTrial]:
    prefix = f"{slot}/"
    return [t for t in all_trials(study) if str(t.user_attrs.get(SLOT, "")).startswith(prefix)]


def _result(found: Found, judged: list[FrozenTrial], sign: float) -> RunResult:
    run, error = found.run, found.error
    done = [t for t in judged if t.state == TrialState.COMPLETE]
    if found.mixture is not None and not done:
        error = "every retraining of its mixture failed"
    result = RunResult.of(
        run,
        mixture=found.mixture,
        final=sign * float(np.mean([t.values[0] for t in done])) if done else None,
        scores=_mean_components(done),
        error=error,
        facts={"judged": len(done)},
        contents=contents(run),
    )
    return result if found.study is None else _with_search(result, found)


def _with_search(result: RunResult, found: Found) -> RunResult:
    study = found.study
    assert study is not None
    trials = [t for t in all_trials(study) if t.state.is_finished()]
    failures = [t for t in trials if t.state == TrialState.FAIL]
    spent = replace(
        result,
        trials=sum(t.state == TrialState.COMPLETE for t in trials),
        failed=sum(not t.user_attrs.get(INTERRUPTED) for t in failures),  # stopped ones are resumed
        tokens=sum(fact(t, "tokens") for t in trials),
        flops=sum(fact(t, "flops") for t in trials),
        seconds=sum(fact(t, "seconds") for t in trials),
    )
    if not found.run.arm.searches:
        return spent
    recipe = read_recipe(study)
    history = read_history(study, StudyView(study).space)
    curve = np.minimum.accumulate(history.values) if len(history) else np.zeros(0)
    return replace(
        spent,
        rounds=recipe.rounds,
        best=float(curve[-1]) if len(curve) else None,
        curve=tuple(float(v) for v in curve),
        ranks=_ranks(history, recipe),
        mixtures=mixtures_digest(_in_slot_order(history)),
    )


def _ranks(history: History, recipe: StudyRecipe) -> tuple[float | None, ...]:
    """Rank correlation of each later round's scores with what the earlier rounds foretold."""
    slots = np.array([_number(t.user_attrs.get(SLOT)) for t in history.trials])
    found: list[float | None] = []
    for start, end in pairwise(np.cumsum(recipe.rounds)):
        seen, new = (slots >= 0) & (slots < start), (slots >= start) & (slots < end)
        if seen.sum() < 2 or new.sum() < 3:
            found.append(None)
            continue
        foretold = foreseen(recipe.sampler, history.rows(seen), history.weights[new])
        rho = spearman(foretold, history.values[new])
        found.append(rho if np.isfinite(rho) else None)
    return tuple(found)


def _in_slot_order(history: History) -> np.ndarray:
    """With a barrier the mixture of a slot is the same whoever ran it and when."""
    order = np.argsort([_number(t.user_attrs.get(SLOT)) for t in history.trials], kind="stable")
    return history.weights[order]


def _number(slot: Any) -> int:
    return slot if isinstance(slot, int) else -1


def _mean_components(trials: list[FrozenTrial]) -> dict[str, float]:
    if not trials:
        return {}
    names = scores_of(trials[0].user_attrs.get(COMPONENTS, {}))
    return {n: float(np.mean([t.user_attrs[COMPONENTS][n] for t in trials])) for n in names}
