"""What reading mixtures off branches saved, in FLOPs.

Beside the same mixtures, each trained once from the trunk: what the branches took, the mixtures
trained for no reason but to check them, and reading. The trunk and the baselines are paid either
way. A mixture that two read-outs scored counts once, one that was trained after all not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import CHECK, SLOT
from climb_opt.ladder import Ladder
from climb_opt.ladder.branches.before import Before
from climb_opt.ladder.branches.slots import TRUNK, is_branch, needs_branches


@dataclass(frozen=True)
class Saved:
    """FLOPs: spent on branches, on their checks, on reading; of one trial from the trunk."""

    mixtures: int
    branches: float
    checks: float
    reading: float
    trial: float

    @property
    def spent(self) -> float:
        """All that reading mixtures off branches took."""
        return self.branches + self.checks + self.reading

    @property
    def instead(self) -> float:
        """What training the mixtures would have taken."""
        return self.mixtures * self.trial

    @property
    def net(self) -> float:
        """By how much that would have been more."""
        return self.instead - self.spent


def saved_by(before: Before, ladder: Ladder, trials: Iterable[FrozenTrial]) -> Saved:
    """What reading mixtures off branches saved a study with these trials."""
    slots = [(str(t.user_attrs.get(SLOT, "")), t) for t in trials]
    parts = [t for slot, t in slots if is_branch(t) and slot != TRUNK]
    checks = [t for slot, t in slots if slot.startswith(CHECK)]
    read, trained = set[tuple[float, ...]](), set[tuple[float, ...]]()
    reading = []
    for slot, trial in slots:
        if is_branch(trial) or trial.state != TrialState.COMPLETE:
            continue
        mixture = tuple(trial.params[name] for name in sorted(trial.params))
        if ladder.rung_of(trial) < len(before.readouts):
            reading.append(trial)
            read |= set() if needs_branches(slot) else {mixture}
        elif ladder.rung_of(trial) == ladder.target:
            trained.add(mixture)
    branches, checked, priced = (ladder.spent(some) for some in (parts, checks, reading))
    return Saved(len(read - trained), branches, checked, priced, ladder.rungs[-1].flops)
