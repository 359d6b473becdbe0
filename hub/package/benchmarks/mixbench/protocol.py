# Written by hub/build.py from climb_opt: change it there.
"""The protocol: one method on one problem with one seed and one budget.

The budget is in trials of the target, paid in FLOPs: a trial on a cheaper rung costs its share.
Methods with one seed share the noise of the j-th trial, and those without a sampler the random
mixtures. After each part of the budget in `at` the method is asked what it would recommend from the
trials so far, and the true score of that mixture is judged. A trial that is no mixture of the space
counts as failed and costs what it would have; a method that raises or thinks too long ends there,
with what it recommended before. All of it is told in the `Outcome`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from .parts.attributes import RUNG
from .parts.errors import UserError, brief
from .parts.ladder import BudgetSpent
from .limits import TooLong, within
from .methods import BOX, BOXED, LEVEL, Data, Method, Pick
from .problems import Objective, Problem, proposed

USUAL = (14, 28, 56)  # trials after which a recommendation is asked for
LIMIT = 60.0  # CPU seconds that a method may think about a proposal or a recommendation
SAME = 6  # decimals: mixtures equal up to them are one
OFF = "mixbench/off"  # of a trial: why its parameters are no mixture
Judged = dict[str, float]
T = TypeVar("T")


@dataclass
class Outcome:
    """What came of a run. `judged` maps a part of the budget to figures of its recommendation.

    regret, excess   the true score: in units of the problem, and above the best known in its own
    held             1 where the promised interval holds the true score, 0 where not; absent: none
    error, half      promised minus true, and half the interval's width, in regrets
    winkler          the interval score, in regrets; less is better
    spent            trials of the target that were paid for

    `curve` is, for each trial, the FLOPs paid so far (in trials of the target) and the regret of
    the mixture that measured best. `off` proposals were no mixture of the space, `repeated` ones
    were there before, `failed` ones raised; `slow` says whether a limit of time was passed.
    """

    seed: int
    judged: dict[str, Judged] = field(default_factory=dict)
    weights: np.ndarray | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    proposed: list[np.ndarray] = field(default_factory=list)
    trials: int = 0
    failed: int = 0
    off: int = 0
    repeated: int = 0
    slow: bool = False
    error: str = ""
    skipped: str = ""
    spent: float = 0.0
    seconds: float = 0.0
    slowest: float = 0.0

    @property
    def regret(self) -> float:
        """Of the last recommendation; infinite without one."""
        return list(self.judged.values())[-1]["regret"] if self.judged else math.inf


def run(
    method: Method,
    problem: Problem,
    *,
    seed: int = 0,
    trials: float = USUAL[-1],
    at: Sequence[float] = (),
    limit: float = LIMIT,
) -> Outcome:
    """One method on one problem with one seed.

    Args:
        trials: the budget, in trials of the target.
        at: parts of it after which a recommendation is asked for, beside the whole.
        limit: CPU seconds that the method may think about one proposal or recommendation.

    Raises:
        UserError: no positive budget or limit.
    """
    if not (trials > 0 and limit > 0 and all(part > 0 for part in at)):
        raise UserError(f"trials, at and limit must be above 0, not {trials}, {at}, {limit}.")
    outcome = Outcome(seed)
    if method.needs:
        outcome.skipped = method.needs
        return outcome
    started = time.process_time()
    _Run(method, problem, outcome, limit).spend(sorted({x for x in (*at, trials) if x <= trials}))
    outcome.seconds = time.process_time() - started
    return outcome


class _Run:
    def __init__(self, method: Method, problem: Problem, outcome: Outcome, limit: float) -> None:
        self.method, self.problem, self.outcome, self.limit = method, problem, outcome, limit
        self.objective: Objective = problem.objective(outcome.seed)
        self.seen: set[tuple[float, ...]] = set()
        self.lowest = self.leader = math.inf
        self.waiting: optuna.Trial | None = None  # asked for, but too dear for a part

    def spend(self, parts: Sequence[float]) -> None:
        try:
            study = self._think(self._study)
            for part in parts:
                while not self.method.free and self._affords(part) and self._trial(study, part):
                    pass
                self._recommend(study, part)
        except TooLong as error:
            self.outcome.slow, self.outcome.error = True, f"given up: {error}"
        except Exception as error:  # whatever somebody else's code raises ends its run, and is told
            self.outcome.error = f"given up: {brief(error)}"
        if self.outcome.judged:  # what it recommended last stands
            last = list(self.outcome.judged.values())[-1]
            for part in parts:
                self.outcome.judged.setdefault(f"{part:g}", last)

    def _think(self, think: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return within(self.limit, think)
        finally:
            self.outcome.slowest = max(self.outcome.slowest, time.monotonic() - started)

    def _study(self) -> optuna.Study:
        make, seed = self.method.sampler, self.outcome.seed
        sampler = self.problem.random(seed) if make is None else make(self.problem, seed)
        study = optuna.create_study(sampler=sampler)
        self.method.prepare(study)
        return study

    def _affords(self, part: float, rung: int | None = None) -> bool:
        """Whether this part of the budget still pays for a trial, by default the cheapest."""
        shares = self.problem.ladder.shares
        if rung is None:
            chooses = self.method.chooses or self.method.rung is not None
            rung = 0 if chooses else self.problem.ladder.target
        return self.outcome.spent + float(shares[rung]) <= part + 1e-9

    def _trial(self, study: optuna.Study, part: float) -> bool:
        """Run the next trial; False where this part of the budget does not pay for it."""
        problem, outcome = self.problem, self.outcome
        weights, wrong = None, ""
        try:
            if (trial := self._asked(study, part)) is None:
                return False
            weights = self._think(lambda: suggest(problem, trial, boxed=self.method.boxed))
        except BudgetSpent:
            return False
        except OffSimplex as error:
            assert trial is not None, "it is the trial that was read"
            wrong = str(error)
        rung = problem.ladder.rung_of(trial)
        if not self._affords(part, rung):  # it named a dear rung itself: for the next part
            self.waiting = trial
            return False
        outcome.spent += float(problem.ladder.shares[rung])
        if weights is None:
            outcome.off += 1
            outcome.failed += 1
            trial.set_user_attr(OFF, wrong)
            study.tell(trial, state=TrialState.FAIL)
            return True
        value = self.objective(Weighed(trial, problem, weights))  # type: ignore[arg-type]
        study.tell(trial, value)
        self._count(weights, value, rung)
        return True

    def _asked(self, study: optuna.Study, part: float) -> optuna.Trial | None:
        """A trial, with the rung that the method's `rung` says; None where it cannot be paid."""
        if self.waiting is not None:
            trial, self.waiting = self.waiting, None
            return trial
        rung = self._chosen(study)
        if rung is not None and not self._affords(part, rung):
            return None
        trial = self._think(study.ask)
        if rung is not None and rung < self.problem.ladder.target:
            trial.set_user_attr(RUNG, rung)
        return trial

    def _chosen(self, study: optuna.Study) -> int | None:
        choose, target = self.method.rung, self.problem.ladder.target
        if choose is None:
            return None
        data = data_of(self.problem, study.get_trials(deepcopy=False))
        rung = self._think(lambda: choose(self.problem, data))
        if not isinstance(rung, int) or not 0 <= rung <= target:
            raise UserError(f"a rung must be a number from 0 to {target}, not {rung!r}")
        return rung

    def _count(self, weights: np.ndarray, value: float, rung: int) -> None:
        outcome = self.outcome
        outcome.trials += 1
        key = (float(rung), *np.round(weights, SAME).tolist())
        outcome.repeated += key in self.seen
        self.seen.add(key)
        outcome.proposed.append(weights)
        if rung == self.problem.ladder.target and value < self.lowest:
            self.lowest = value
            self.leader = float(self.problem.regret(weights[None])[0])
        if math.isfinite(self.lowest):
            outcome.curve.append((outcome.spent, self.leader))

    def _recommend(self, study: optuna.Study, part: float) -> None:
        data = data_of(self.problem, study.get_trials(deepcopy=False))
        pick = self._think(lambda: self.method.pick(self.problem, data, self.outcome.seed))
        self.outcome.judged[f"{part:g}"] = judge(self.problem, pick, self.outcome.spent)
        self.outcome.weights = pick.weights


def judge(problem: Problem, pick: Pick, spent: float = 0.0) -> Judged:
    """The figures of a recommendation; see `Outcome`.

    Raises:
        UserError: it is no mixture of the space.
    """
    weights = problem.space.made_by("recommend", pick.weights)
    problem.space.check(weights, "The recommended mixture")
    true = float(problem.truth(weights[None])[0])
    excess = true - problem.best
    found = {"regret": excess / problem.unit, "excess": excess, "spent": spent}
    if pick.mean is not None:
        found["error"] = (pick.mean - true) / problem.unit
    if pick.low is not None and pick.high is not None:
        outside = max(pick.low - true, true - pick.high, 0.0)
        width = pick.high - pick.low
        found["held"] = float(outside <= 1e-9 * problem.unit)
        found["half"] = width / 2 / problem.unit
        found["winkler"] = (width + 2 / (1 - LEVEL) * outside) / problem.unit
    return found


def data_of(problem: Problem, trials: Sequence[FrozenTrial]) -> Data:
    """The finished trials as arrays."""
    rows, scores, rungs = [], [], []
    for trial in trials:
        boxed = trial.user_attrs.get(BOXED)
        weights = problem.space.weights_of(trial) if boxed is None else np.array(boxed)
        if trial.state == TrialState.COMPLETE and weights is not None and trial.values:
            rows.append(weights)
            scores.append(trial.values[0])
            rungs.append(problem.ladder.rung_of(trial))
    shape = (len(rows), len(problem.space))
    return Data(np.array(rows).reshape(shape), np.array(scores), np.array(rungs), tuple(trials))


def suggest(problem: Problem, trial: optuna.Trial, *, boxed: bool = False) -> np.ndarray:
    """The trial's mixture (K,), of a sampler that knows the simplex or boxes only.

    Raises:
        OffSimplex: it is no mixture of the space.
    """
    space = problem.space
    if not boxed:
        try:
            return proposed(space, trial)
        except UserError as error:
            raise OffSimplex(str(error)) from None
    u = [trial.suggest_float(f"{BOX}{domain}", 1e-6, 1.0 - 1e-6) for domain in space.domains]
    weights = space.project(-np.log(np.array(u)))
    trial.set_user_attr(BOXED, weights.tolist())
    return weights


class OffSimplex(Exception):
    """A proposal that is no mixture of the space."""


class Weighed:
    """A trial as the objective sees it: its mixture is known, however its sampler encodes it."""

    def __init__(self, trial: optuna.Trial, problem: Problem, weights: np.ndarray) -> None:
        self._trial, self._params = trial, problem.space.params(weights)
        self.number, self.user_attrs = trial.number, trial.user_attrs
        self.set_user_attr = trial.set_user_attr

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """The weight."""
        return self._params[name]
