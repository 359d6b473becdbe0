# Written by hub/build.py from climb_opt: change it there.
"""Schedules as people give them: a mixture for each phase, or one throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .errors import UserError, misnamed
from .schedules import Phase, Schedule
from .simplex import MixtureSpace

Mixture = Mapping[str, float]


def read(
    given: Mixture | Sequence[Mixture] | Schedule,
    base: MixtureSpace,
    shares: np.ndarray,
    *,
    normalise: bool,
    what: str,
) -> np.ndarray:
    """The mixtures (P, K) of phases with these shares (P,); see `PhasedSpace.weights`."""
    free = MixtureSpace(zip(base.domains, base.prior, strict=True))  # bounds are looked at later
    if isinstance(given, Mapping) and set(given) <= set(base.domains):
        row = free.weights(given, what=what, normalise=normalise)
        return np.broadcast_to(row, (len(shares), len(row)))
    each = _by_phase(given, base, len(shares), what) if isinstance(given, Mapping) else given
    if len(each) != len(shares):
        raise UserError(
            f"{what}: a mixture for each of {len(shares)} phases, but there are {len(each)}."
        )
    stated = [one.share for one in each if isinstance(one, Phase)]
    if stated and not np.allclose(stated, shares, rtol=0, atol=1e-6):
        raise UserError(
            f"{what}: its phases are {shown(stated)} of a run, but those of this space are "
            f"{shown(shares)}."
        )
    mixtures = [one.mixture if isinstance(one, Phase) else one for one in each]
    called = ((f"{what}, phase {place}", m) for place, m in enumerate(mixtures, start=1))
    return np.stack([free.weights(m, what=name, normalise=normalise) for name, m in called])


def labels(domains: Sequence[str], count: int) -> tuple[str, ...]:
    """What each weight of `count` phases is called: "1/web", "1/code", "2/web", ..."""
    return tuple(f"{place}/{domain}" for place in range(1, count + 1) for domain in domains)


def shown(shares: Sequence[float] | np.ndarray) -> str:
    """Shares of phases as they are read: "0.8 + 0.2"."""
    return " + ".join(f"{share:g}" for share in shares)


def _by_phase(
    mixture: Mixture, base: MixtureSpace, count: int, what: str
) -> list[dict[str, float]]:
    each: list[dict[str, float]] = [{} for _ in range(count)]
    known = labels(base.domains, count)
    for name, weight in mixture.items():
        label = name if name in known else name.removeprefix("w")
        if label not in known:
            raise UserError(f"{what}: Unknown {misnamed('domain', name, known)}")
        place, _, domain = label.partition("/")
        phase = each[int(place) - 1]
        if domain in phase:
            raise UserError(f"{what}: {label!r} is given twice, with and without its w.")
        phase[domain] = weight
    return each
