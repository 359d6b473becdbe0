# Written by hub/build.py from climb_opt: change it there.
"""Who enters: a method says how mixtures are proposed, which is recommended, what is promised.

    sampler     (problem, seed) -> an Optuna sampler; without one: the shared random design
    recommend   (problem, data, seed) -> the mixture to keep: weights (K,), or a `Pick`
    predict     (problem, data, seed) -> a function of mixtures (m, K): means (m,), or both means
                and deviations
    rung        (problem, data) -> the rung of the next trial; without it: the target

Each is optional: a sampler alone recommends what it measured best, a `predict` alone the mixture
that it expects to be best, and without any of them a method is random search. Where mixtures may
change in phases, a sampler proposes schedules; whoever has none is given one mixture throughout.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from .parts.emulator_lowest import exchanged
from .parts.errors import UserError
from .parts.extras import installed
from .problems import Problem
from .parts.phases import over_run, throughout

LEVEL = 0.9  # of an interval
QUANTILE = 1.6448536269514722  # of a normal: half the width of such an interval in deviations
POOL = 6000  # random mixtures among which the best expected is looked for first
BOX = "u/"  # begins the parameters of samplers that know boxes only
BOXED = "mixbench/weights"  # the mixture that such parameters stand for


@dataclass(frozen=True)
class Data:
    """What a method has learnt: mixtures (n, K), scores (n,) (lower is better), rungs (n,).

    `trials` are the same as Optuna holds them, failed ones too.
    """

    weights: np.ndarray
    scores: np.ndarray
    rungs: np.ndarray
    trials: tuple[FrozenTrial, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, rung: int) -> Data:
        """What was measured on one rung."""
        rows = self.rungs == rung
        return Data(self.weights[rows], self.scores[rows], self.rungs[rows], self.trials)


@dataclass(frozen=True)
class Pick:
    """A mixture (K,) and what is promised of its true score: a mean, and a 90 % interval."""

    weights: np.ndarray
    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def within(cls, weights: np.ndarray, mean: float, deviation: float) -> Pick:
        """With the interval of a normal distribution."""
        half = QUANTILE * deviation
        return cls(weights, mean, mean - half, mean + half)


Predicted = np.ndarray | tuple[np.ndarray, np.ndarray]
Predict = Callable[[Problem, Data, int], Callable[[np.ndarray], Predicted]]
Recommend = Callable[[Problem, Data, int], "np.ndarray | Pick"]


@dataclass(frozen=True)
class Method:
    """One entry of a comparison; see the top of this file.

    Args:
        free: it needs no trial: a fixed mixture.
        chooses: the sampler names the rung of a trial itself, in its user attribute `climb/rung`.
        boxed: the sampler knows boxes only: it is asked for a number in (0, 1) for each domain,
            and the mixture is -log of them, divided by their sum (Optuna's own advice).
        prepare: called with a run's fresh study, for samplers that read attributes of it.
        needs: what must be installed for it; "" when it is. A method that needs something is
            skipped with that reason.

    >>> from climb_opt.mixbench import problem, run
    >>> def mine(problem, data, seed):
    ...     return data.weights[np.argsort(data.scores)[:4]].mean(axis=0)
    >>> outcome = run(Method(recommend=mine), problem("interactions"), seed=0, trials=16)
    >>> 0 <= outcome.regret < 1.5
    True
    """

    sampler: Callable[[Problem, int], optuna.samplers.BaseSampler] | None = None
    recommend: Recommend | None = None
    predict: Predict | None = None
    rung: Callable[[Problem, Data], int] | None = None
    free: bool = False
    chooses: bool = False
    boxed: bool = False
    prepare: Callable[[optuna.Study], None] = lambda study: None
    needs: str = ""

    def pick(self, problem: Problem, data: Data, seed: int) -> Pick:
        """What it recommends, whichever of its functions says so."""
        seen, told = self.told(problem, data)
        pick = self._pick(seen, told, seed)
        if seen is problem:
            return pick
        held = seen.space.made_by("recommend", pick.weights)
        return replace(pick, weights=throughout(problem.space, held))

    def told(self, problem: Problem, data: Data) -> tuple[Problem, Data]:
        """The problem and its data as this method knows them: without a sampler, there is one
        mixture throughout."""
        seen = problem if self.sampler is not None else problem.throughout
        if seen is problem:
            return problem, data
        return seen, replace(data, weights=over_run(problem.space, data.weights))

    def _pick(self, problem: Problem, data: Data, seed: int) -> Pick:
        if self.recommend is not None:
            found = self.recommend(problem, data, seed)
            return found if isinstance(found, Pick) else Pick(np.asarray(found, dtype=float))
        if not len(data):
            return Pick(problem.space.project(problem.space.prior))
        if self.predict is None:
            return Pick(best_measured(problem, data))
        believed = believe(self.predict(problem, data, seed))
        weights = best_expected(problem, data, lambda w: believed(w)[0], seed)
        mean, deviation = believed(weights[None])
        if not np.isfinite(deviation[0]):
            return Pick(weights, float(mean[0]))
        return Pick.within(weights, float(mean[0]), float(deviation[0]))


def method_of(given: Any, name: str = "method") -> Method:
    """A method as people write one: a `Method`, a class or function that makes one, or `recommend`.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(given, Method):
        return given
    if callable(given):
        try:
            parameters = inspect.signature(given).parameters.values()
        except (TypeError, ValueError):
            parameters = {}.values()
        needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        if len(needed) == 3:
            return Method(recommend=given)
        if not needed and isinstance(made := given(), Method):
            return made
    raise UserError(
        f"{name}: give a mixbench.Method, a function that returns one, or a function (problem, "
        f"data, seed) -> weights; this is {given!r:.80}."
    )


def missing(module: str, purpose: str) -> str:
    """Why a method cannot run without a module; "" where it is installed."""
    return "" if installed(module) else f"{purpose} needs {module}, which is not installed"


def best_measured(problem: Problem, data: Data) -> np.ndarray:
    """The mixture (K,) with the lowest score, at the dearest rung that any trial had."""
    top = data.at(int(data.rungs.max()))
    return np.asarray(top.weights[int(np.argmin(top.scores))])


def best_expected(
    problem: Problem, data: Data, mean: Callable[[np.ndarray], np.ndarray], seed: int
) -> np.ndarray:
    """The mixture (K,) that a function of mixtures (m, K) -> (m,) expects to be best."""
    pool = problem.space.sample_mixed(np.random.default_rng([seed, len(data)]), POOL)
    pool = np.concatenate([problem.space.project(data.weights), pool])
    return exchanged(mean, problem.space, pool[int(np.argmin(mean(pool)))])


def believe(
    predicted: Callable[[np.ndarray], Predicted],
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Means and deviations (m,), the latter infinite where the function gives none."""

    def both(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = predicted(weights)
        if isinstance(found, tuple):
            return np.asarray(found[0], dtype=float), np.asarray(found[1], dtype=float)
        mean = np.asarray(found, dtype=float)
        return mean, np.full(len(mean), np.inf)

    return both
