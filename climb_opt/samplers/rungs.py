"""Which rung a search buys next: the start, the rungs that may be trusted, the last trials.

The first mixtures are drawn on the cheapest rung, and a few of them are run on the next one too
where that costs little. Then the pair of mixture and rung with the most expected improvement per
FLOP (`gp/rungs.py`) - but once one trial of the target's worth was spent below it, the target runs
the best mixtures of the cheap rungs until it is known what these say of it. A rung that says little
is not bought any more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from climb_opt.gp.ladder import LadderProcess
from climb_opt.gp.proposal import SAME, Problem, propose
from climb_opt.gp.rungs import choose, fresh, recommended
from climb_opt.history import History
from climb_opt.ladder import BudgetSpent, Ladder

PAIRS = 5  # mixtures of the start that the second rung runs too
DEAR = 0.1  # in trials of the target: a second rung above it is not bought for pairs alone
TRUSTED = 0.5  # what a result on a rung says of the target, below which it is not bought any more
FEW = 5  # mixtures on a rung and above it, before which nobody knows what it says
CREDIT = 1.0  # trials of the target that may be spent below it before the target is asked
LEAST = 0.01  # in trials of the target, what a trial counts for at least: its evaluation, its turn


@dataclass(frozen=True)
class Purse:
    """What a search may buy next.

    Args:
        ladder: None: there is one rung.
        left: FLOPs; infinite without a budget.
        fixed: the rung of the next trial; None: it is to be chosen.
    """

    ladder: Ladder | None
    left: float = np.inf
    fixed: int | None = None

    @property
    def first(self) -> int | None:
        """The rung of draws that nothing is known for; None without a ladder."""
        return None if self.ladder is None else (self.fixed or 0)

    @property
    def paired(self) -> int:
        """How many mixtures of the start are run on the second rung too."""
        if self.ladder is None or self.fixed is not None or len(self.ladder) < 3:
            return 0
        return PAIRS if self.ladder.shares[1] <= DEAR else 0

    def pair(self, problem: Problem, history: History, place: int) -> np.ndarray | None:
        """The mixture (K,) to run on the second rung after the start's `place` other pairs."""
        if place >= self.paired or history.rungs is None:
            return None
        rows = history.weights[history.rungs == 0]
        rows = rows[fresh(rows, problem, 1)]
        return rows[0] if len(rows) else None

    def buy(
        self, problem: Problem, history: History, rng: np.random.Generator, explore: float
    ) -> tuple[np.ndarray, int]:
        """The mixture (K,) and the rung of the next trial.

        Args:
            explore: probability of a fresh draw with a low expected value, on the lowest rung.

        Raises:
            BudgetSpent: no rung that is still paid for is trusted.
        """
        assert self.ladder is not None
        target, costs = self.ladder.target, self.ladder.costs
        counted = np.maximum(costs, LEAST * costs[-1])
        if self.fixed is None and (unknown := self._witness(problem, history)) is not None:
            return unknown, target
        rungs = [self.fixed] if self.fixed is not None else self._rungs(problem, history)
        if not rungs:
            raise BudgetSpent
        if self.fixed is None and target in rungs and self.left < 2 * costs[target]:
            # The last trial of the target: see what is recommended, if nobody has.
            weights = recommended(problem, rng)
            if len(fresh(weights[None], problem, target)):
                return weights, target
        if rng.random() < explore:
            return propose(problem, rng, 1.0), rungs[0]
        chosen = choose(problem, counted, rungs, rng)
        return chosen.weights, chosen.rung

    def _rungs(self, problem: Problem, history: History) -> list[int]:
        return [rung for rung in trusted(problem, history) if self._pays(rung)]

    def _pays(self, rung: int) -> bool:
        assert self.ladder is not None
        return bool(self.ladder.costs[rung] <= self.left * (1 + 1e-9))

    def _witness(self, problem: Problem, history: History) -> np.ndarray | None:
        """The mixture (K,) that the target runs next to show what the rungs below say of it: the
        best of theirs, once they have used up the credit; None: that is known, or not yet asked.
        """
        assert self.ladder is not None and history.rungs is not None and problem.rungs is not None
        shares, target = self.ladder.shares, self.ladder.target
        begun = np.concatenate([problem.rungs, problem.pending_rungs])  # type: ignore[list-item]
        spent = float(shares[begun[begun < target]].sum())
        ran = [r for r in np.unique(history.rungs) if r < target]
        unknown = [r for r in ran if pairs(problem.known, begun, r) < FEW]
        if spent < CREDIT or not unknown or not self._pays(target):
            return None
        rows = history.weights[history.rungs == unknown[0]]
        rows = rows[fresh(rows, problem, target)]
        if not len(rows):
            return None
        return np.asarray(rows[int(np.argmin(problem.objectives[0].mean(np.sqrt(rows))))])


def trusted(problem: Problem, history: History) -> list[int]:
    """The rungs that say enough of the target, or of which that is not known; and the target."""
    process, target = problem.objectives[0], history.target
    assert isinstance(process, LadderProcess) and history.rungs is not None
    known = [r for r in range(target) if pairs(history.weights, history.rungs, r) >= FEW]
    lost = {rung for rung in known if process.says(rung) < TRUSTED}
    return [rung for rung in range(target + 1) if rung not in lost]


def pairs(weights: np.ndarray, rungs: np.ndarray, rung: int) -> int:
    """Mixtures, of `weights` (n, K) on `rungs` (n,), that are on `rung` and on one above it."""
    here, above = weights[rungs == rung], weights[rungs > rung]
    if not len(here) or not len(above):
        return 0
    return int((cdist(here, above, "cityblock").min(axis=1) <= SAME).sum())
