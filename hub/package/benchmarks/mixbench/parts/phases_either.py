# Written by hub/build.py from climb_opt: change it there.
"""What a space of mixtures and one of schedules have in common, asked of either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .phases_space import PhasedSpace
from .schedules import Schedule
from .simplex import MixtureSpace


def space_from_json(data: Any) -> MixtureSpace:
    """The space that a study stores, of mixtures or of schedules."""
    phased = isinstance(data, Mapping) and "shares" in data
    return PhasedSpace.from_json(data) if phased else MixtureSpace.from_json(data)


def one_phase(space: MixtureSpace) -> MixtureSpace:
    """The space of single mixtures: that of a run's mean mixtures, where there are phases."""
    return space.base if isinstance(space, PhasedSpace) else space


def throughout(space: MixtureSpace, mixture: np.ndarray) -> np.ndarray:
    """The point of `space` that is one mixture (..., K) throughout."""
    return space.constant(mixture) if isinstance(space, PhasedSpace) else mixture


def over_run(space: MixtureSpace, weights: np.ndarray) -> np.ndarray:
    """What a point (..., K) of `space` reads over a whole run: a mixture."""
    return space.mean(weights) if isinstance(space, PhasedSpace) else weights


def to_train(
    space: MixtureSpace, mixture: Mapping[str, float]
) -> tuple[Mapping[str, float], Schedule | None]:
    """The mixture of a whole run, domain -> weight, and its schedule where there are phases."""
    if not isinstance(space, PhasedSpace):
        return mixture, None
    weights = space.weights(mixture)
    return space.base.mixture(space.mean(weights)), space.schedule(weights)


def shares_of(space: MixtureSpace) -> tuple[float, ...]:
    """The shares of a space's phases; none where mixtures hold throughout."""
    return tuple(space.shares.tolist()) if isinstance(space, PhasedSpace) else ()
