"""Which seed a trial trains with: all of a study share one, but for a mixture that is tried again.

With a seed in common, trials differ by their mixtures alone. The same mixture once more would score
the same to the last digit: a training for nothing, and for a model, which takes what differs
between two runs of one mixture for noise, a proof that there is none.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import optuna
from optuna.trial import TrialState

from climb_opt.attributes import SEED, SLOT
from climb_opt.ladder import rung_of
from climb_opt.lookup import MOST_SEED
from climb_opt.simplex import MixtureSpace
from climb_opt.view import all_trials

APART = 100_000  # from one seed to the next: `confirm` and `noise` take those right after the first
SAME = 2e-6  # of the tokens, in each domain: exports write millionths, `enqueue` reads them back
LOST = (TrialState.FAIL, TrialState.WAITING)


def seed_of(trial: optuna.Trial, space: MixtureSpace, first: int, target: int) -> int:
    """The seed of a trial that is about to train: its own, else the first that no earlier trial of
    its mixture, on its rung, has. One that is not `first` is stored: a retry keeps it.

    Args:
        first: the recipe's.
        target: the rung of trials that name none.
    """
    attributes = trial.user_attrs
    if SEED in attributes:
        return int(attributes[SEED])
    own, slot, rung = space.weights_of(trial), attributes.get(SLOT), rung_of(trial, target)
    taken = set()
    for other in all_trials(trial.study)[: trial.number]:
        its = other.user_attrs
        if other.state in LOST or rung_of(other, target) != rung:
            continue
        if slot is not None and its.get(SLOT) == slot:  # an attempt before this one
            continue
        weights = space.weights_of(other)
        if own is not None and weights is not None and np.abs(weights - own).max() <= SAME:
            taken.add(int(its.get(SEED, first)))
    seeds = ((first + APART * again) % (MOST_SEED + 1) for again in count())
    seed = next(seed for seed in seeds if seed not in taken)
    if seed != first:
        trial.set_user_attr(SEED, seed)
    return seed
