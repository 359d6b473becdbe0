"""The named slots of a trunk, its branches, and the mixtures that check what is read off them.

branch/trunk, branch/<name>    train; they wait for one another in stages
mixmin                         finds the optimum of the branches' ensemble
check/mixmin                   that optimum, trained on the target before other mixtures
check/0, check/1, ...          mixtures far apart, trained on the target, as baselines are
read/merge/check/0, ...        the same mixtures, as a read-out scores them
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from optuna.trial import FrozenTrial, Trial, TrialState

from climb_opt.attributes import BRANCH, CHECK, FACTS, READ, SLOT
from climb_opt.simplex import MixtureSpace
from climb_opt.study_recipe import MIXMIN

TRUNK = f"{BRANCH}trunk"
OPTIMUM = f"{CHECK}{MIXMIN}"
DRAWN = 512  # mixtures, of the half of which without dominant domains those are chosen

Stage = tuple[str, ...]


def stages_of(names: Sequence[str], checks: Sequence[str], readouts: Sequence[str]) -> list[Stage]:
    """The slots that come before the rounds; each stage waits for the one before it.

    Args:
        names: of the branches.
        checks: slots of mixtures that are trained on the target.
        readouts: what scores them too.
    """
    found = (MIXMIN,) if OPTIMUM in checks else ()
    trained = (TRUNK,), tuple(BRANCH + name for name in names), found, tuple(checks)
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
    """What a slot makes: "trunk", a branch by its name, "mixmin"; None: it scores a mixture."""
    named = isinstance(slot, str) and (slot.startswith(BRANCH) or slot == MIXMIN)
    return str(slot).removeprefix(BRANCH) if named else None


def needs_branches(slot: int | str) -> bool:
    """Whether a slot is of no use without branches: it is read off them, or checks that."""
    return isinstance(slot, str) and (slot.startswith((CHECK, READ)) or slot == MIXMIN)


def optimum_of(trials: Iterable[FrozenTrial]) -> dict[str, float] | None:
    """The mixture that MixMin found; None where it has found none yet."""
    for trial in trials:
        if trial.user_attrs.get(SLOT) == MIXMIN and trial.state == TrialState.PRUNED:
            return dict(trial.user_attrs[FACTS]["mixture"])
    return None


def is_branch(trial: FrozenTrial | Trial) -> bool:
    """Whether a trial made a trunk, a branch or their optimum, and so scored no mixture."""
    return part_of(trial.user_attrs.get(SLOT)) is not None


def spread_out(space: MixtureSpace, count: int, seed: int) -> np.ndarray:
    """Mixtures (count, K) that lie far apart: each the farthest from the prior and those before.

    None is a domain nearly alone: a read-out gives that domain's own branch, which says nothing of
    whether averages of branches hold.
    """
    from scipy.spatial.distance import cdist  # 200 ms, which `status` need not wait for

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
