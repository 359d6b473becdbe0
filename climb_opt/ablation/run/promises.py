"""What a search promises of the mixture it recommends, against what is true.

Errors and widths are in units of regret (0 the best mixture, 1 a typical random one); an error is
stated minus true: of the score, negative promises too much. `winkler` is the interval score: the
width plus 20 times what the truth lies outside, less is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from climb_opt.selection import Estimate, best_mixture
from climb_opt.selection.recommendation import LEVEL
from climb_opt.simplex import MixtureSpace
from climb_opt.view import store_space

Score = Callable[[np.ndarray], np.ndarray]  # weights (n, K) -> true score (n,), lower is better
Kept = dict[str, float]
WHAT = ("score", "gain")  # of which intervals are stated


def prefix(space: MixtureSpace, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study of these trials alone."""
    study = optuna.create_study()
    store_space(study, space)
    study.add_trials(trials)
    return study


def kept(space: MixtureSpace, trials: Sequence[FrozenTrial], truth: Score, unit: float) -> Kept:
    """What the recommendation after these trials promises, and whether it holds.

    Args:
        truth: the noise-free score.
        unit: of errors and widths.
    """
    pick = best_mixture(prefix(space, trials), space=space)
    true, prior = truth(np.stack([space.weights(pick), space.project(space.prior)]))
    found: Kept = {"true": float(true)}
    stated = zip(WHAT, (pick.predicted, pick.gain), (true, prior - true), strict=True)
    for what, estimate, value in stated:
        if estimate is not None:
            judged = held(estimate, float(value), unit)
            found |= {f"{what} {name}": figure for name, figure in judged.items()}
    return found


def held(estimate: Estimate, truth: float, unit: float) -> Kept:
    """One interval against the truth."""
    outside = max(estimate.low - truth, truth - estimate.high, 0.0)
    return {
        "held": float(outside <= 1e-9 * unit),  # a digit that rounding takes is no miss
        "error": (estimate.mean - truth) / unit,
        "half": estimate.half / unit,
        "winkler": (2 * estimate.half + 2 / (1 - LEVEL) * outside) / unit,
    }
