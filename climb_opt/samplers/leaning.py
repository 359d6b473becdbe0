"""What a search knows of its domains before it begins: the influence that was measured of them.

It starts with TiKMiX's mixture beside the prior, and draws each other start several times to keep
the one that the domains' gains favour; every third is kept as it is drawn, for the gains may err.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.gains.program import solve
from climb_opt.gains.table import Gains, read_gains
from climb_opt.phases import PhasedSpace
from climb_opt.samplers.design import start_mixture
from climb_opt.simplex import MixtureSpace
from climb_opt.strict import build, convert

CHOICES = 4  # draws of a start, of which the most promising is taken
APART = 30_000  # between the numbers of two draws of a start; a multiple of 12 keeps their kind
STARTS = 8  # trials before the model is used; fewer than a search without gains takes

Given = str | Gains | Mapping[str, Any]


class Leaning:
    """Gains (K,) of a space's domains, and where a search begins with them.

    Args:
        given: the file of a measurement, the measurement, its data, or domain -> gain in any unit.

    Raises:
        UserError: a file that cannot be read, a domain without influence data, a space of phases.
    """

    def __init__(self, space: MixtureSpace, given: Given) -> None:
        if isinstance(space, PhasedSpace):
            raise UserError("influence: it was measured of mixtures; leave it out with phases.")
        measured = read_gains(given) if isinstance(given, str) else given
        if not isinstance(measured, Gains):
            if not isinstance(measured, Mapping):
                raise UserError(f"influence: expected a file or domain: gain, but got {given!r}.")
            measured = _measured(measured)
        rows, shares = measured.tasks(space.domains)
        self.space, self.gains = space, np.asarray(shares @ rows)
        self.mixture = solve(space, rows, shares=shares).weights

    def start(self, seed: int, index: int, stream: int) -> np.ndarray:
        """The weights (K,) of start `index`."""
        if index == 1:
            return self.mixture
        draws = [start_mixture(self.space, seed, index, stream)]
        if index and index % 3:
            numbers = (index + APART * i for i in range(1, CHOICES))
            draws += [start_mixture(self.space, seed, number, stream) for number in numbers]
        return draws[int(np.argmax(np.array(draws) @ self.gains))]


def _measured(given: Mapping[str, Any]) -> Gains:
    if isinstance(given.get("lowers"), Mapping):  # as a study carries it
        return build(Gains, given, "influence")
    return Gains({"given": convert(dict(given), dict[str, float], "influence")}, {"given": 1.0})
