"""`climb_opt.noise`: how much of a score is chance, and with which weights it is least.

The runs are those of repeats.py, in an ordinary study `<name>-noise`. What they say stays with it:
`score: auto` takes its weights from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, Unpack

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from climb_opt.attributes import NOISE, REPEATED, SLOT, WEIGHTS
from climb_opt.gp.uneven import growth_of
from climb_opt.history import MOST
from climb_opt.phases import over_run, point_of
from climb_opt.recipes import MAIN, StudyRecipe
from climb_opt.retrain.paired import student
from climb_opt.retrain.repeats import (
    CORNER,
    DRAW,
    PRIOR,
    Terms,
    begin,
    orders,
    read_errors,
    read_scores,
    subject,
    tried,
)
from climb_opt.retrain.sibling import Runner, Training, train_beside
from climb_opt.selection.signal import Part, Runs, weights_for
from climb_opt.study import read_recipe
from climb_opt.study.asked import NOISE_SUFFIX
from climb_opt.view import StudyView, all_trials, study_named

SHARE = 0.25  # of the signal: the gain that a confirmation is to see
CHANCE = 0.8  # with which it is to see it
# Trials with which simplex-gp is where CLIMB is after 112, the most of three tables, by relative
# noise up to: docs/simplex-gp.md#against-climb-on-published-tables.
TRIALS = ((0.05, 24), (0.3, 80), (math.inf, 112))


class Repeated(NamedTuple):
    """Of the score's noise: by how much its log variance is expected to grow from the prior to
    where all tokens differ (`gp.uneven`; 0 without two runs at the corner), and its standard
    deviation at the prior, 0 without two runs there, with its degrees of freedom."""

    growth: float = 0.0
    std: float = 0.0
    freedom: int = 1


@dataclass(frozen=True)
class Noise:
    """What the runs say.

    Args:
        study: the study of the runs.
        runs: mixture -> its finished runs.
        corner: the domain that the corner is the most of.
        parts: every component that was reported, those of the score first.
        score: component -> coefficient, as it is.
        weights: component -> coefficient, with the least noise for its signal.
        before, after: the score as it is, and with these weights.
        missing: slots without a result.
        tried: mixtures that the signal is taken from.
        diverged: numbers that count as `history.MOST`, for being larger.
        stated: component -> the standard error that its evaluator states, over the documents it
            read: root mean square of the runs.
        repeated, reweighed: of the noise of the score, as it is and by `weights`, what the search
            is told.
    """

    study: str
    runs: Mapping[str, int]
    corner: str
    parts: Sequence[Part]
    score: Mapping[str, float]
    weights: Mapping[str, float]
    before: Part
    after: Part
    missing: Sequence[str]
    tried: int
    diverged: int = 0
    stated: Mapping[str, float] = field(default_factory=dict)
    repeated: Repeated = field(default_factory=Repeated)
    reweighed: Repeated = field(default_factory=Repeated)

    @property
    def seeds(self) -> int | None:
        """Seeds with which a confirmation sees a gain of a quarter of the signal; None: unknown.

        As if seeds were not paired, which makes differences smaller: at most so many.
        """
        return seeds_for(self.after.relative) if self.after.shown else None

    @property
    def trials(self) -> int | None:
        """Trials that a search needs at this noise, as measured; None where it is not known."""
        relative = self.after.relative
        return None if math.isnan(relative) else next(n for upto, n in TRIALS if relative <= upto)


def noise(
    study: optuna.Study | StudyRecipe | str,
    *,
    repeats: int = 6,
    corner: int = 2,
    spread: int = 8,
    name: str | None = None,
    storage: str | Path | BaseStorage | None = None,
    **training: Unpack[Training],
) -> Noise:
    """Train given mixtures several times: how much of the score is chance, and what to search on?

    An ordinary study NAME-noise beside the search, which need not have begun; call it in as many
    processes and on as many machines as you like. Stopped, it is continued by the same call.

    Args:
        study: the search, or the recipe of one that has not begun.
        repeats: runs of the prior, each with its own seed.
        corner: runs of the most extreme mixture that is allowed, the smallest domain's.
        spread: mixtures run once, 3 or more, where the search has tried fewer than 8; 0: the
            noise alone.
        name: of the study of these runs (default: NAME-noise).
        storage: of a search that has not begun.
        training: `objective`, `corpus`, `directory`, `stop`, `on_trial` as of `climb_opt.work`. An
            objective finds the trial's seed in its attribute `climb_opt.attributes.SEED`.

    Raises:
        UserError: fewer than 2 repeats, one or two draws, or a study of that name that measured
            another recipe or is none of noise runs.

    >>> import climb_opt, numpy as np
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/noise.journal")
    >>> space = climb_opt.MixtureSpace(climb_opt.Corpus.load("corpora/tiny").tokens())
    >>> def score(trial):
    ...     seed = trial.user_attrs[climb_opt.attributes.SEED]
    ...     return space.suggest(trial)["code"] + np.random.default_rng(seed).normal(0, 0.01)
    >>> found = climb_opt.noise(study, objective=score)
    >>> found.runs["prior"], found.before.noise < 0.03 < found.before.signal
    (6, True)
    """
    of = subject(study, storage)
    sibling = begin(of, Terms(repeats, corner, spread, name), training.get("corpus"))
    train_beside(sibling, partial(work_on, sibling), training)
    return noise_of(sibling)


def work_on(sibling: optuna.Study, runner: Runner) -> None:
    """Train until every slot is done, then store the weights, if the runs say enough."""
    wanted = orders(sibling)
    runner(sibling, wanted)
    if wanted.plan.ended(wanted.plan.named, all_trials(sibling)):
        found = noise_of(sibling)
        if not math.isnan(found.before.noise) and MAIN not in found.weights:
            parts = {"before": found.before.relative, "after": found.after.relative}
            relative = {when: one if math.isfinite(one) else None for when, one in parts.items()}
            sibling.set_user_attr(WEIGHTS, {"score": dict(found.weights), **relative})
        told = {"score": found.repeated._asdict(), "reweighed": found.reweighed._asdict()}
        sibling.set_user_attr(REPEATED, told)
        search = study_named(StudyView(sibling).storage, sibling.user_attrs[NOISE]["of"])
        if search is not None:  # else it takes it when it is created
            by = "reweighed" if WEIGHTS in search.user_attrs else "score"
            search.set_user_attr(REPEATED, told[by])


def noise_of(sibling: optuna.Study) -> Noise:
    """What the runs say so far."""
    view = StudyView(sibling)
    facts, score = view.attributes[NOISE], read_recipe(sibling).coefficients()
    search = study_named(view.storage, facts["of"])
    done: dict[str, list[dict[str, float]]] = {}
    errors: dict[str, list[float]] = {}
    missing = ["/".join(place) for place in facts["places"]]
    for trial in all_trials(sibling):
        slot = str(trial.user_attrs.get(SLOT))
        if trial.state == TrialState.COMPLETE and slot in missing:
            missing.remove(slot)
            done.setdefault(slot.rpartition("/")[0], []).append(read_scores(trial))
            for component, error in read_errors(trial).items():
                if math.isfinite(error):
                    errors.setdefault(component, []).append(error)
    mixtures = [runs[0] for name, runs in done.items() if name.startswith(DRAW)]
    if not mixtures and search is not None:
        mixtures = tried(search)
    repeats = {name: done.get(name, []) for name in (PRIOR, CORNER)}
    seen = {n: None for runs in (*repeats.values(), mixtures) for one in runs for n in one}
    if seen and not score.keys() & seen.keys():
        score = {MAIN: 1.0}  # an objective that tells no components of the score
    names = (*score, *sorted(seen.keys() - {*score, MAIN}))
    tables = {m: _table(rows, names) for m, rows in {**repeats, "": mixtures}.items()}
    diverged = sum(int((np.abs(table) > MOST).sum()) for table in tables.values())
    tables = {m: np.clip(table, -MOST, MOST) for m, table in tables.items()}
    runs = Runs(names, {m: tables[m] for m in repeats}, tables[""])
    weights = weights_for(runs, score)
    return Noise(
        study=view.name,
        runs={name: len(rows) for name, rows in done.items()},
        corner=facts["corner"],
        parts=runs.parts(),
        score=score,
        weights=weights,
        before=runs.total("score", score),
        after=runs.total("score", weights),
        missing=missing,
        tried=len(mixtures),
        diverged=diverged,
        stated={name: float(np.sqrt(np.mean(np.square(e)))) for name, e in sorted(errors.items())},
        repeated=_repeated(runs, score, view),
        reweighed=_repeated(runs, weights, view),
    )


def noise_beside(study: optuna.Study) -> Noise | None:
    """What the study NAME-noise beside a study says; None where there is none, or no result."""
    view = StudyView(study)
    sibling = study_named(view.storage, f"{view.name}{NOISE_SUFFIX}")
    if sibling is None or NOISE not in sibling.user_attrs:
        return None
    found = noise_of(sibling)
    return found if found.runs else None


def seeds_for(relative: float) -> int | None:
    """Seeds a mixture with which a quarter of the signal is seen at this relative noise."""
    if not math.isfinite(relative):
        return None
    for seeds in range(2, 10_000):
        reach = student(0.975, seeds - 1) + student(CHANCE, seeds - 1)
        if reach * relative * math.sqrt(2 / seeds) <= SHARE:
            return seeds
    return None


# --- private -----------------------------------------------------------------------------------


def _repeated(runs: Runs, score: Mapping[str, float], view: StudyView) -> Repeated:
    mixtures = view.attributes[NOISE]["mixtures"]
    ends = [over_run(view.space, point_of(view.space, mixtures[m])) for m in (PRIOR, CORNER)]
    seen = {m: (float(s.std(ddof=1)), len(s)) for m, s in runs.totals(score).items() if len(s) > 1}
    growth = growth_of(seen, PRIOR, CORNER, float(np.abs(ends[0] - ends[1]).sum()) / 2)
    std, count = seen.get(PRIOR, (0.0, 2))
    return Repeated(growth, std, count - 1)


def _table(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> np.ndarray:
    table = [[row.get(name, math.nan) for name in names] for row in rows]
    return np.array(table, dtype=float).reshape(len(rows), len(names))
