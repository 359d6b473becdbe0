"""Which rung a search buys next: the start, the rungs that may be trusted, the last trials.

The first mixtures are drawn on the cheapest rung, and a few of them are run on the next one too
where that costs little. Then the pair of mixture and rung with the most expected improvement per
FLOP (`gp/rungs.py`) - but each time some of a trial of the target was spent below it, the target
runs a mixture of the cheap rung, and not its best alone, which would not show how far it ranks as
the target does. A rung that says much is free from then on, though every other trial of the target
doubts it; those with which the target's results are foretold worse than without are not bought any
more, nor one that says little. With none left, the search goes on as one of one rung does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from climb_opt.gp.knowledge import told_or_better
from climb_opt.gp.ladder import LadderProcess
from climb_opt.gp.ladder_fit import MISLED
from climb_opt.gp.proposal import Problem, propose
from climb_opt.gp.rungs import choose, fresh, recommended
from climb_opt.history import History
from climb_opt.ladder import BudgetSpent, Ladder
from climb_opt.ladder.agreement import paired

PAIRS = 5  # mixtures of the start that the second rung runs too
DEAR = 0.1  # in trials of the target: a second rung above it is not bought for pairs alone
TRUSTED = 0.5  # what a result on a rung says of the target, below which it is not bought any more
FEW = 5  # mixtures on a rung and the target, before which nobody knows what it says
CREDIT = 0.4  # trials of the target that are spent below it before each mixture of theirs it runs
SURE = 0.75  # what a rung says of the target, from which it needs no credit
PROBE = 0.05  # of the target's trials, what FEW of a rung may cost that the others bode ill for
PLACES = (0.0, 0.75, 0.0, 0.4, 0.0)  # of those the target runs for that, in the rung's ranking
# (docs/notes/searching.md#what-keeps-regret-up-at-8)
EVERY = 2  # trials of the target, of which one is chosen by a process that doubts the rungs below
DOUBT = 16.0  # times as large as believed: the variances of what rungs differ in, for it
LEAST = 0.01  # in trials of the target, what a trial counts for at least: its evaluation, its turn


@dataclass(frozen=True)
class Purse:
    """What a search may buy next.

    Args:
        ladder: None: there is one rung.
        left: FLOPs; infinite without a budget.
        fixed: the rung of the next trial; None: it is to be chosen.
        lost: rungs that are not bought, whatever is believed of them.
    """

    ladder: Ladder | None
    left: float = np.inf
    fixed: int | None = None
    lost: Collection[int] = ()

    @property
    def first(self) -> int | None:
        """The rung of draws that nothing is known for; None without a ladder."""
        if self.ladder is None:
            return None
        if self.fixed is not None:
            return self.fixed
        return next(rung for rung in range(len(self.ladder)) if rung not in self.lost)

    @property
    def due(self) -> bool:
        """Whether what is left pays for a trial of the target, and for no draw before it."""
        if self.ladder is None or self.fixed is not None or self.first is None:
            return False
        last = self.ladder.costs[self.ladder.target]
        return bool(last <= self._left < last + self.ladder.costs[self.first])

    @property
    def paired(self) -> int:
        """How many mixtures of the start are run on the second rung too."""
        if self.ladder is None or self.fixed is not None or len(self.ladder) < 3 or self.lost:
            return 0
        return PAIRS if self.ladder.shares[1] <= DEAR else 0

    def pair(self, problem: Problem, history: History, place: int) -> np.ndarray | None:
        """The mixture (K,) to run on the second rung after the start's `place` other pairs."""
        if place >= self.paired or history.rungs is None or not self._spares(1):
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
            BudgetSpent: no trial of the target is paid for any more.
        """
        assert self.ladder is not None
        target, costs = self.ladder.target, self.ladder.costs
        counted = np.maximum(costs, LEAST * costs[-1])
        going_on = np.maximum(self.ladder.going_on, LEAST * costs[-1])
        last = self.left < 2 * costs[target]
        rungs = [self.fixed] if self.fixed is not None else self._rungs(problem, history)
        if self.fixed is None and not last:
            unknown = self._witness(problem, history, rungs)
            if unknown is not None:
                return unknown, target
            if rungs == [target]:  # no rung is left below it: a search of one rung
                return told_or_better(problem.trusted, rng, explore), target
        if rng.random() < explore and not (last and rungs == [target]):
            return propose(problem, rng, 1.0), rungs[0]
        chosen = choose(problem, counted, rungs, rng, going_on)
        if self.fixed is None and chosen.rung == target:
            if last:  # see what is recommended, if nobody has
                weights = recommended(problem, rng)
                if len(fresh(weights[None], problem, target)):
                    return weights, target
            elif (doubtful := _doubtful(problem, target)) is not None:
                return propose(doubtful, rng), target
        return chosen.weights, chosen.rung

    def _rungs(self, problem: Problem, history: History) -> list[int]:
        """The rungs that are trusted, and leave enough for a trial of the target after them: what
        nobody checks any more at the target has led searches astray at their very end."""
        assert self.ladder is not None
        if not self._spares(self.ladder.target):
            raise BudgetSpent
        lost = {*self.lost, *distrusted(problem, history, self.ladder.shares)}
        return [r for r in range(len(self.ladder)) if r not in lost and self._spares(r)]

    @property
    def _left(self) -> float:
        return self.left * (1 + 1e-9)  # what was added up and taken off again

    def _spares(self, rung: int) -> bool:
        """Whether a trial on `rung` leaves enough for one of the target, if it is not that."""
        assert self.ladder is not None
        costs, target = self.ladder.costs, self.ladder.target
        return bool(costs[rung] + (costs[target] if rung < target else 0.0) <= self._left)

    def _witness(self, problem: Problem, history: History, rungs: list[int]) -> np.ndarray | None:
        """The mixture (K,) that the target runs next to show what a rung below says of it, once the
        credit is used up; None: that is known, or not yet asked."""
        assert self.ladder is not None and history.rungs is not None
        process, target = problem.objectives[0], self.ladder.target
        assert isinstance(process, LadderProcess)
        begun = problem.known_rungs
        spent = float(np.maximum(self.ladder.shares, LEAST)[begun[begun < target]].sum())
        for rung in rungs:
            on = problem.known[begun == rung]
            both = len(on) - len(fresh(on, problem, target))
            sure = both >= FEW and process.says(rung) >= SURE
            rows = history.weights[history.rungs == rung]
            rows = rows[fresh(rows, problem, target)]
            if rung < target and spent >= CREDIT * (1 + both) and not sure and len(rows):
                order = np.argsort(process.mean(np.sqrt(rows)), kind="stable")
                return np.asarray(rows[order[int(PLACES[both % FEW] * (len(rows) - 1))]])
        return None


def _doubtful(problem: Problem, target: int) -> Problem | None:
    """What is believed where rungs below are trusted less, for one of `EVERY` trials of the target
    that are not spent on showing what they say; else None.

    Few results of the target, most of them near each other, leave a process too sure of what it
    learnt of the others: it sees nothing to be gained where a cheap rung is wrong.
    """
    process = problem.objectives[0]
    assert isinstance(process, LadderProcess)
    ran = np.count_nonzero(problem.known_rungs == target)
    if ran < FEW or ran % EVERY:
        return None
    pending = problem.pending.reshape(-1, len(problem.space))
    doubting = process.doubting(DOUBT).imagine(np.sqrt(pending), problem.pending_rungs)
    known = replace(problem, evaluated=problem.known, pending=pending[:0])
    return replace(known, objectives=[doubting])


def distrusted(problem: Problem, history: History, shares: np.ndarray) -> dict[int, str]:
    """The rungs that say too little of the target to be bought, each with why.

    Nothing is known before the target has run `FEW` mixtures of one of them. Then rungs with which
    its scores are foretold worse than without are lost: those with so many pairs, and of the others
    those that it costs much to find out about.

    Args:
        shares: costs of a trial on each rung (R,), in trials of the target.
    """
    process, target = problem.objectives[0], history.target
    assert isinstance(process, LadderProcess) and history.rungs is not None
    pairs = [len(paired(history, rung, target)[0]) for rung in range(target)]
    ran = np.count_nonzero(history.rungs == target)
    misled = max(pairs, default=0) >= FEW and problem.told < MISLED
    lost = {}
    for rung in range(target):
        if pairs[rung] >= FEW and process.says(rung) < TRUSTED:
            lost[rung] = (
                "what one of its scores says of the target, as a correlation, is "
                f"{process.says(rung):.2f} of what a score of the target says, below {TRUSTED:g}"
            )
        elif misled and (pairs[rung] >= FEW or FEW * shares[rung] > PROBE * ran):
            lost[rung] = (
                f"each left out, the {ran} scores of the target are foretold worse with the rungs "
                f"below it than without, by {-problem.told:.1f} nats"
            )
    return lost
