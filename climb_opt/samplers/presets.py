"""What CLIMB's paper leaves open, and two ways to fill it in: docs/notes/climb.md#constants."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from climb_opt import lookup
from climb_opt.errors import UserError
from climb_opt.predictors.base import Predictor
from climb_opt.predictors.own import predictor_factory
from climb_opt.written import flag, number, whole_number


def _real(value: object, name: str, above: float = -math.inf) -> float:
    real = number(value, name)
    if not above < real < math.inf:
        allowed = "finite" if above == -math.inf else "positive and finite"
        raise UserError(f"{name} must be {allowed}, but is {real}.")
    return real


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
        read = {
            "pool_size": whole_number(self.pool_size, "pool_size"),
            "pool_temperature": _real(self.pool_temperature, "pool_temperature"),
            "pool_strength": _real(self.pool_strength, "pool_strength", above=0.0),
            "top_n": None if self.top_n is None else whole_number(self.top_n, "top_n"),
            "exclude": flag(self.exclude, "exclude"),
        }
        for name, value in read.items():
            object.__setattr__(self, name, value)

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


@dataclass(frozen=True)
class ClimbOptions:
    """How a search is CLIMB: a preset, what replaces its rules, and the predictor.

    Args:
        predictor: a short name, "module:Name" or a class.
        predictor_options: keyword arguments of the predictor.
        per_component: one predictor per component where trials store them; None decides by
            whether there are several.
        design, pool_size, pool_temperature, pool_strength, top_n, exclude: see `ClimbRules`; None
            leaves the preset's.

    Raises:
        UserError: an unknown preset, design or predictor, a number out of range, or what is of
            another kind than is asked.
    """

    preset: str = "nemo"
    predictor: str | Callable[..., Predictor] = lookup.PREDICTOR
    predictor_options: dict[str, Any] = field(default_factory=dict)
    per_component: bool | None = None
    design: str | None = None
    pool_size: int | None = None
    pool_temperature: float | None = None
    pool_strength: float | None = None
    top_n: int | None = None
    exclude: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.predictor_options, Mapping):
            raise UserError(
                "predictor_options must be a mapping, option: value, but is "
                f"{self.predictor_options!r}."
            )
        options = {str(name): value for name, value in self.predictor_options.items()}
        object.__setattr__(self, "predictor_options", options)
        if self.per_component is not None:
            object.__setattr__(self, "per_component", flag(self.per_component, "per_component"))
        rules, _ = self.rules, self.make  # says whatever is wrong with them
        for name in (f.name for f in dataclasses.fields(rules)):
            if getattr(self, name, None) is not None:
                object.__setattr__(self, name, getattr(rules, name))  # as they can be stored

    @property
    def rules(self) -> ClimbRules:
        """The preset's rules with what replaces them."""
        replaced = {f.name: getattr(self, f.name, None) for f in dataclasses.fields(ClimbRules)}
        return climb_rules(self.preset, **replaced)

    @property
    def make(self) -> Callable[[], Predictor]:
        """Makes untrained predictors."""
        return predictor_factory(self.predictor, self.predictor_options)

    def picked(self) -> dict[str, Any] | None:
        """What the search's own pick depends on, as JSON; None where it cannot be written."""
        name = self.predictor
        if not isinstance(name, str):
            name = f"{getattr(name, '__module__', '')}:{getattr(name, '__qualname__', '')}"
        of_the_start = ("design", "top_n", "exclude")
        found = {k: v for k, v in vars(self).items() if v is not None and k not in of_the_start}
        try:
            json.dumps(found := found | {"predictor": name})
        except TypeError:  # an option that is no plain value
            return None
        return None if "<" in name else found
