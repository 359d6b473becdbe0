"""What a space of mixtures and one of schedules have in common, asked of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.phases.space import PhasedSpace
from climb_opt.schedules import Phase, Schedule
from climb_opt.simplex import PREFIX, MixtureSpace

AMOUNTS = '{"web": 700, "code": 300}'


def checked_space(given: Any) -> MixtureSpace:
    """What was given as the argument `space`; a `UserError` where it is none, as amounts are."""
    if not isinstance(given, MixtureSpace):
        raise UserError(
            f"space must be a MixtureSpace, e.g. MixtureSpace({AMOUNTS}), not {given!r:.60}."
        )
    return given


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


def point_of(
    space: MixtureSpace,
    given: Mapping[str, float] | Sequence[Mapping[str, float]] | Schedule,
    what: str = "The mixture",
) -> np.ndarray:
    """The weights (K,) of a mixture or of a schedule that a person gives.

    Raises:
        UserError: as of `MixtureSpace.weights`; phases, where the space has none.
    """
    if isinstance(space, PhasedSpace):
        return space.weights(given, what=what)
    phases: list[Any] = [given] if isinstance(given, Mapping) else list(given)
    if len(phases) != 1:
        raise UserError(
            f"{what}: a schedule of {len(phases)} phases, but this study's mixtures hold "
            "throughout (no `phases:` in its recipe)."
        )
    first = phases[0]
    return space.weights(first.mixture if isinstance(first, Phase) else first, what=what)


def parameters(space: MixtureSpace | None, mixture: Mapping[str, float]) -> dict[str, float]:
    """The parameters of a trial that is to run a mixture of `space`, as it was given."""
    if isinstance(space, PhasedSpace):
        return space.params(space.weights(mixture))
    return {PREFIX + domain: float(weight) for domain, weight in mixture.items()}


def side_by_side(space: MixtureSpace, name: str, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Columns (K,) that show a point of `space`: it, or of a schedule its mean and its phases."""
    if not isinstance(space, PhasedSpace):
        return {name: weights}
    shares = zip(space.shares, space.blocks(weights), strict=True)
    phases = {f"phase {p} ({s:.3g})": block for p, (s, block) in enumerate(shares, start=1)}
    return {name: space.mean(weights), **phases}


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
