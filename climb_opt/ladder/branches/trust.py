"""Whether a read-out ranks mixtures as training does: asked once, before it is trusted.

A few mixtures far apart, and the baselines, are trained and read off. Merging has held well below
ten percent of parameter shift (DeMix) and has failed elsewhere (Marin, 39 domains), so a search
spends nothing on a read-out that has not ranked these alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import SLOT
from climb_opt.ladder.agreement import Agreement
from climb_opt.ladder.branches.slots import reading

ENOUGH = 0.6  # rank correlation of a read-out with trained mixtures
LOWEST = 0.3  # the lower end of its 90 % interval


@dataclass(frozen=True)
class Verdict:
    """How a read-out ranked the mixtures of its check; `lost` slots name what could not be made."""

    readout: str
    agreement: Agreement
    lost: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether mixtures may be scored by it."""
        found = self.agreement
        return not self.lost and found.known and found.estimate >= ENOUGH and found.low >= LOWEST

    def __str__(self) -> str:
        what = "merging" if self.readout == "merge" else "the ensemble"
        if self.lost:
            return (
                f"{what} does not hold here: {', '.join(self.lost)} could not be trained; the "
                "search goes on as if it had no branches"
            )
        measured = f"rank correlation with {self.agreement.n} trained mixtures {self.agreement}"
        if self.holds:
            return f"{what} holds: {measured}"
        return (
            f"{what} does not hold here: {measured}, where at least {ENOUGH:g} and a lower end of "
            f"{LOWEST:g} are asked; the search goes on as if it had no branches"
        )


def verdict_on(
    readout: str,
    rungs: tuple[int, int],
    checks: Sequence[str],
    lost: Sequence[str],
    trials: Iterable[FrozenTrial],
) -> Verdict:
    """What the slots `checks` say of a read-out so far.

    Args:
        rungs: its number, and the target's.
        lost: branches that were given up.
    """
    values = {
        t.user_attrs.get(SLOT): t.values[0]
        for t in trials
        if t.state == TrialState.COMPLETE and t.values and math.isfinite(t.values[0])
    }
    both = [(reading(readout, slot), slot) for slot in checks]
    pairs = [(values[a], values[b]) for a, b in both if a in values and b in values]
    return Verdict(readout, Agreement.of(*rungs, np.array(pairs).reshape(-1, 2)), tuple(lost))
