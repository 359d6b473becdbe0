"""An ablation recipe: one base study, arms that override it, a budget, seeds.

    objective: {name: mixing-law, domains: 12, noise: 0.3}
    grid: {noise: [0.0, 0.3]}          # options of the objective, every combination
    budget: {trials: 112}
    arms: {random: , climb: , "6:1": {like: climb, rounds: [6, 1]}}
    reference: random                  # the arm that the others are compared with
    seeds: 10
    scales: {mini: {objective: live, base: {include: demo}, seeds: 3}}

A *setting* is one point of the grid; a *run* is one arm in one setting with one seed.

    recipe.py    the dataclasses
    resolve.py   arms with complete study recipes, settings, runs
    reading.py   YAML, scales and overrides -> a checked recipe
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from climb_opt.errors import UserError
from climb_opt.recipes import Choice
from climb_opt.strict import ONE, Range

LIVE = "live"


@dataclass(frozen=True)
class Budget:
    """What every arm may spend: trials, tokens trained on, or seconds of training and scoring.

    A search that stops after `seconds` still needs a plan: `trials` is then the most it may run.
    """

    trials: int | None = None
    tokens: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if set(given) not in ({"trials"}, {"tokens"}, {"seconds", "trials"}) or not all(
            value > 0 for value in given.values()
        ):
            raise UserError(
                "budget: give trials, or tokens, or seconds with the trials that they may be "
                f"spent on at most; all above 0. This one is {given}."
            )

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"{self.seconds:g} seconds, at most {self.trials} trials"
        return f"{self.trials} trials" if self.trials else f"{self.tokens:g} tokens"


@dataclass(frozen=True)
class TestRecipe:
    """How the mixtures that live arms end with are judged: retrained, scored on held-out tests.

    `study` overrides the base (a larger proxy, test evaluators, their score); `seeds` fresh
    training seeds are shared by all finalists.
    """

    __test__ = False  # not a pytest class

    study: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1

    RANGES: ClassVar = {"seeds": ONE}


@dataclass(frozen=True)
class AblationRecipe:
    """One comparison. `answers` says which published figure it answers to.

    `only`, where it is given, names the arms that a scale runs, in their order. After each number
    of trials in `promises` the search is asked what it would recommend, and whether the intervals
    that it states hold is counted (emulated objectives, which know the truth).
    """

    objective: Choice
    arms: dict[str, dict[str, Any] | None]
    only: tuple[str, ...] = ()
    base: dict[str, Any] = field(default_factory=dict)
    answers: str = ""
    reference: str | None = None
    budget: Budget = field(default_factory=lambda: Budget(trials=112))
    seeds: int = 10
    first_seed: int = 0
    grid: dict[str, list[Any]] = field(default_factory=dict)
    test: TestRecipe = field(default_factory=TestRecipe)
    promises: tuple[int, ...] = ()

    RANGES: ClassVar = {"seeds": ONE, "first_seed": Range(0, 2**32 - 1)}

    @property
    def live(self) -> bool:
        """Whether proxies are trained, rather than an emulator asked."""
        return self.objective.name == LIVE
