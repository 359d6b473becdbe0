"""What CLIMB's paper leaves open, and two ways to fill it in: docs/notes/climb.md#constants."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from climb_opt import lookup
from climb_opt.errors import UserError


@dataclass(frozen=True)
class ClimbRules:
    """What the paper leaves open.

    Args:
        design: initial design of round 1: "regmix", "dirichlet", "mixed" or "module:Name".
        pool_size: candidates in A.
        pool_temperature, pool_strength: A is drawn from Dirichlet(strength x prior^temperature).
        top_n: N; None is the public code's max(M*M, 128).
        exclude: leave out of A what has been tried.
        decimals: of the recommended weights; None leaves them as they are.
    """

    design: str = "regmix"
    pool_size: int = 100_000
    pool_temperature: float = 1.0
    pool_strength: float = 1.0
    top_n: int | None = None
    exclude: bool = False
    decimals: int | None = 4

    def __post_init__(self) -> None:
        lookup.find("design", self.design)
        positive = {"pool_size": self.pool_size, "pool_strength": self.pool_strength}
        for name, value in {**positive, "top_n": self.top_n or 1}.items():
            if not value > 0:
                raise UserError(f"{name} must be positive, but is {value}.")

    def n_top(self, m: int) -> int:
        """N for a round of m."""
        return max(m, self.top_n if self.top_n is not None else max(m * m, 128))


NEMO = ClimbRules()
"""The public code's constants: RegMix's sparse start, candidates may be tried twice."""

PAPER = ClimbRules(design="dirichlet", exclude=True, decimals=None)
"""The paper's equations: a Dirichlet start on token counts, no candidate twice."""


def climb_rules(preset: str, **overrides: Any) -> ClimbRules:
    """A preset with some of its rules replaced; overrides that are None change nothing."""
    rules: ClimbRules = lookup.find("preset", preset)
    given = {name: value for name, value in overrides.items() if value is not None}
    return dataclasses.replace(rules, **given)
