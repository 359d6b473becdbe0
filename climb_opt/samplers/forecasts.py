"""What is expected of a trial before it runs: stored with it, tested by its result.

A sampler that models the scores says what it proposed the mixture with. For all others - stock
samplers, draws that start a search, mixtures that a person put in line, baselines - the study's own
process says it (`Forecaster`), from 4 results on: fewer teach no spread. It is kept between asks,
takes in results when there are a quarter more trials and is fitted anew when there are twice as
many, so that an ask takes little longer (`python tests/bench/bench_ask.py --forecasts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from climb_opt.attributes import FORECAST, METHOD, SLOT
from climb_opt.gp.fit import fit_shape
from climb_opt.gp.ladder import RungOfProcess
from climb_opt.gp.model import GaussianProcess, Shape, Surrogate
from climb_opt.gp.outliers import tame
from climb_opt.ladder.branches.slots import part_of
from climb_opt.predictors.base import Predictor
from climb_opt.samplers.copies import Memory
from climb_opt.simplex import MixtureSpace
from climb_opt.threads import one_blas_thread
from climb_opt.view import StudyView, all_trials, read_history, remember

Forecast = dict[str, float | None]  # the attribute FORECAST

FEWEST = 4  # finished trials below which nothing is foretold
START = (0.7, -4.0, 0.0)  # log length, noise, linear term: where a fit begins, as in gp/fit.py
STEPS = 8  # of a fit, which goes on from that of half as many results


class Forecaster:
    """The process of a study of `space`, cheap enough to ask at every trial."""

    def __init__(self, space: MixtureSpace) -> None:
        length, noise, linear = START
        self._space, self._start = space, Shape(np.full(len(space), length), noise, linear)
        self._known: Memory[_Learnt] = Memory()  # by study

    def foretell(self, study: optuna.Study, weights: np.ndarray) -> dict[str, Any]:
        """{FORECAST: what is expected of `weights` (K,)}; empty where too little is known."""
        view, trials = StudyView(study), len(all_trials(study))
        known = self._known.of(view.storage)
        learnt = known.get(view.number)
        step = max(1, 1 << trials.bit_length() >> 3)
        if learnt is None or learnt.trials // step != trials // step:
            learnt = known[view.number] = self._learn(study, trials, learnt)
        if learnt.surrogate is None:
            return {}
        return {FORECAST: expected(learnt.surrogate, weights, view.sign)}

    def foretell_given(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Store what is expected of a trial that brings its own mixture; no sampler is asked."""
        weights = given(self._space, trial.system_attrs)
        if weights is not None:
            self._store(study, trial, weights)

    def foretell_trial(self, trial: optuna.Trial) -> None:
        """Store what is expected of a trial that is about to run, where nobody has said it."""
        study = trial.study
        named = trial.user_attrs  # of no mixture: a part that others go on from, a method's path
        scores = part_of(named.get(SLOT)) is None and METHOD not in named
        if len(study.directions) == 1 and scores:
            weights = self._space.weights(self._space.suggest(trial))  # asks its sampler, if any
            self._store(study, all_trials(study)[trial.number], weights)

    def _store(self, study: optuna.Study, trial: FrozenTrial, weights: np.ndarray) -> None:
        ladder = StudyView(study).ladder
        below = ladder is not None and ladder.rung_of(trial) < ladder.target
        if FORECAST not in trial.system_attrs and not below:  # the process is of the target's
            for name, value in self.foretell(study, weights).items():
                remember(study, trial, name, value)

    @one_blas_thread()
    def _learn(self, study: optuna.Study, trials: int, before: _Learnt | None) -> _Learnt:
        """From all usable results; the shape is fitted anew when they are twice as many."""
        nothing = _Learnt(trials, self._start, FEWEST // 2)
        if len(study.directions) > 1:
            return nothing
        history = read_history(study, self._space)
        values, roots = history.values, np.sqrt(history.weights)
        if len(values) < FEWEST or not np.ptp(values) > 0:
            return nothing
        few, shape = (FEWEST // 2, self._start) if before is None else (before.few, before.shape)
        while 2 * few <= len(values):
            few *= 2
            shape = fit_shape(roots[:few], tame(values[:few]), shape, STEPS)
        return _Learnt(trials, shape, few, GaussianProcess(roots, tame(values), shape))


@dataclass(frozen=True)
class _Learnt:
    """What is believed after so many trials, by a shape fitted to the first `few` results."""

    trials: int
    shape: Shape
    few: int
    surrogate: Surrogate | None = None


def given(space: MixtureSpace, attributes: dict[str, Any]) -> np.ndarray | None:
    """The weights (K,) that a trial was put in line with; None without all, or out of bounds."""
    fixed = attributes.get("fixed_params", {})
    if not set(space.parameter_names) <= set(fixed):
        return None
    weights = np.array([fixed[name] for name in space.parameter_names], dtype=float)
    return weights if bool(space.contains(weights)) else None


def expected(surrogate: Surrogate | RungOfProcess, weights: np.ndarray, sign: float) -> Forecast:
    """What a process expects of `weights` (K,), in the study's units."""
    mean, std = surrogate.moments(np.sqrt(weights[None]))
    measured = np.hypot(std[0], surrogate.noise)
    return {"mean": sign * float(mean[0]), "std": float(std[0]), "measured": float(measured)}


def predicted(predictor: Predictor | None, batch: np.ndarray, sign: float) -> list[Forecast]:
    """What `predictor` expects of each mixture of `batch` (m, K), in the study's units.

    Empty without one, or where it cannot say how sure it is. Its deviation is that of a
    measurement: it does not tell a mixture's own from the noise.
    """
    if predictor is None:
        return []
    mean, std = predictor.predict(batch)
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(std))):
        return []
    return [
        {"mean": sign * float(m), "std": None, "measured": float(s)}
        for m, s in zip(mean, std, strict=True)
    ]
