"""The named slots of a trunk, its branches, and the mixtures that check what is read off them.

branch/trunk, branch/<name>    train; they wait for one another in stages
check/0, check/1, ...          mixtures far apart, trained on the target, as baselines are
read/merge/check/0, ...        the same mixtures, as a read-out scores them
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial
from scipy.spatial.distance import cdist

from climb_opt.attributes import BRANCH, CHECK, READ, SLOT
from climb_opt.simplex import MixtureSpace

TRUNK = f"{BRANCH}trunk"
DRAWN = 512  # mixtures, of the half of which without dominant domains those are chosen

Stage = tuple[str, ...]


def stages_of(names: Sequence[str], checks: Sequence[str], readouts: Sequence[str]) -> list[Stage]:
    """The slots that come before the rounds; each stage waits for the one before it.

    Args:
        names: of the branches.
        checks: slots of mixtures that are trained on the target.
        readouts: what scores them too.
    """
    trained = (TRUNK,), tuple(BRANCH + name for name in names), tuple(checks)
    read = tuple(reading(readout, slot) for readout in readouts for slot in checks)
    return [stage for stage in (*trained, read) if stage]


def reading(readout: str, slot: str) -> str:
    """The slot in which a read-out scores the mixture of another slot."""
    return f"{READ}{readout}/{slot}"


def checking(count: int) -> tuple[str, ...]:
    """The slots of mixtures that are trained to check read-outs."""
    return tuple(f"{CHECK}{number}" for number in range(count))


def readout_of(slot: int | str) -> str | None:
    """The read-out that scores a named slot; None: it is trained."""
    if isinstance(slot, str) and slot.startswith(READ):
        return slot.removeprefix(READ).partition("/")[0]
    return None


def part_of(slot: int | str | None) -> str | None:
    """What a slot trains: "trunk", or a branch's name; None where it scores a mixture."""
    named = isinstance(slot, str) and slot.startswith(BRANCH)
    return str(slot).removeprefix(BRANCH) if named else None


def checks_branches(slot: int | str) -> bool:
    """Whether a slot is of no use without branches: it checks what is read off them."""
    return isinstance(slot, str) and slot.startswith((CHECK, READ))


def is_branch(trial: FrozenTrial) -> bool:
    """Whether a trial trained a trunk or a branch, and so scored no mixture."""
    return part_of(trial.user_attrs.get(SLOT)) is not None


def spread_out(space: MixtureSpace, count: int, seed: int) -> np.ndarray:
    """Mixtures (count, K) that lie far apart: each the farthest from the prior and those before.

    None is a domain nearly alone: a read-out gives that domain's own branch, which says nothing of
    whether averages of branches hold.
    """
    drawn = space.sample_mixed(np.random.default_rng([seed, 19]), DRAWN)
    drawn = drawn[np.argsort(drawn.max(axis=1), kind="stable")][: DRAWN // 2]
    roots, chosen = np.sqrt(drawn), list[int]()
    near = cdist(roots, np.sqrt(space.prior[None]))[:, 0]
    for _ in range(count):
        chosen.append(int(np.argmax(near)))
        near = np.minimum(near, cdist(roots, roots[chosen[-1:]])[:, 0])
    return np.asarray(drawn[chosen])


def check_mixtures(space: MixtureSpace, count: int, seed: int) -> dict[str, dict[str, float]]:
    """slot -> mixture of those that are trained to check read-outs."""
    rows = zip(checking(count), spread_out(space, count, seed), strict=True)
    return {slot: space.mixture(row) for slot, row in rows}
