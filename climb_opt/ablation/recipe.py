"""An ablation recipe: one base study, arms that override it, a budget, seeds.

    objective: {name: mixing-law, domains: 12, noise: 0.3}
    grid: {noise: [0.0, 0.3]}          # options of the objective, every combination
    budget: {trials: 112}
    arms: {random: , climb: , "6:1": {like: climb, rounds: [6, 1]}}
    reference: random                  # the arm that the others are compared with
    seeds: 10
    scales: {mini: {objective: live, base: {include: demo}, seeds: 3}}

A *setting* is one point of the grid; a *run* is one arm in one setting with one seed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from climb_opt import recipes
from climb_opt.ablation.arms import ArmOptions, arm_data, split
from climb_opt.errors import UserError
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.strict import build

FOLDER = "ablations"  # inside studies/
LIVE = "live"
LIVE_KEYS = ("corpus", "proxy")


@dataclass(frozen=True)
class Budget:
    """What every arm may spend: trials, tokens trained on, or seconds of training and scoring."""

    trials: int | None = None
    tokens: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) != 1 or not next(iter(given.values())) > 0:
            raise UserError(
                f"budget: give one of trials, tokens or seconds, above 0, but got {given}."
            )

    def __str__(self) -> str:
        unit, amount = next((k, v) for k, v in vars(self).items() if v is not None)
        return f"{amount:g} {unit}"


@dataclass(frozen=True)
class TestRecipe:
    """How the mixtures that live arms end with are judged: retrained, scored on held-out tests.

    `study` overrides the base (a larger proxy, test evaluators, their score); `seeds` fresh
    training seeds are shared by all finalists.
    """

    __test__ = False  # not a pytest class

    study: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1


@dataclass(frozen=True)
class AblationRecipe:
    """One comparison. `answers` says which published figure it answers to.

    `only`, where it is given, names the arms that a scale runs, in their order.
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

    @property
    def live(self) -> bool:
        """Whether proxies are trained, rather than an emulator asked."""
        return self.objective.name == LIVE


@dataclass(frozen=True)
class Arm:
    """An arm, resolved: what it does beside searching, and its complete study recipe."""

    name: str
    options: ArmOptions
    study: StudyRecipe

    @property
    def searches(self) -> bool:
        """Whether it runs trials; a fixed mixture and DoReMi do not."""
        return self.options.fixed is None and self.options.doremi is None


@dataclass(frozen=True)
class Run:
    """One arm in one setting with one seed. `key` names its study and its result file."""

    setting: str
    objective: Choice
    arm: Arm
    seed: int

    @property
    def key(self) -> str:
        """`<setting>/<arm>/seed<n>`, the name of the run's study and files."""
        return "/".join([*([self.setting] if self.setting else []), self.arm.name, self.tag])

    @property
    def tag(self) -> str:
        """The last part of the key."""
        return f"seed{self.seed}"


# --- reading ---------------------------------------------------------------------------------


def shipped() -> list[str]:
    """The names of the ablation recipes in studies/ablations."""
    folder = recipes.find("studies", recipes.names("studies")[0]).parent / FOLDER
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_ablation(
    name: str, *, scale: str | None = None, overrides: Sequence[str] = ()
) -> AblationRecipe:
    """The ablation recipe of a shipped name or a path, at one of its scales.

    Raises:
        UserError: no such recipe or scale, an unknown key, an unknown arm, a reference that is
            not among the arms.
    """
    data = _data(name)
    scales = data.pop("scales", {})
    if scale is None and "objective" not in data and isinstance(scales, Mapping) and scales:
        scale = next(iter(scales))
    if scale is not None:
        if not isinstance(scales, Mapping) or scale not in scales:
            known = ", ".join(scales) if isinstance(scales, Mapping) else ""
            raise UserError(f"Ablation {name!r} has no scale {scale!r}. Scales: {known or 'none'}.")
        data = recipes.merge(data, scales[scale])
    for override in overrides:
        recipes.set_override(data, override)
    return ablation_from(data)


def ablation_from(data: Mapping[str, Any]) -> AblationRecipe:
    """An ablation recipe from plain data."""
    data = dict(data)
    if "objective" in data:
        data["objective"] = recipes.choice_data(data["objective"], "ablation.objective")
    if isinstance(data.get("arms"), (list, tuple)):
        data["arms"] = dict.fromkeys(map(str, data["arms"]))
    recipe: AblationRecipe = build(AblationRecipe, data, "ablation")
    if not recipe.arms:
        raise UserError("ablation: arms must name at least one arm.")
    if recipe.only:
        recipe = replace(recipe, arms=_only(recipe, recipe.only), only=())
    if recipe.seeds < 1:
        raise UserError(f"ablation: seeds must be at least 1, but is {recipe.seeds}.")
    if recipe.reference is not None and recipe.reference not in recipe.arms:
        raise UserError(
            f"ablation: the reference {recipe.reference!r} is not among the arms: "
            f"{', '.join(recipe.arms)}."
        )
    if not recipe.live and recipe.budget.trials is None:
        raise UserError(
            "ablation: an emulator trains nothing, so its budget counts trials; give "
            "budget: {trials: N}."
        )
    if recipe.live and recipe.grid:
        raise UserError("ablation: a grid varies an emulator's options; give live arms instead.")
    arms(recipe)
    return recipe


def arms(recipe: AblationRecipe) -> list[Arm]:
    """The arms with their complete study recipes, in the recipe's order."""
    base = _base(recipe)
    resolved = []
    for name, given in recipe.arms.items():
        options, over = split(name, arm_data(name, given))
        if not recipe.live:  # an emulator has neither, so that a recipe serves both
            over = {key: value for key, value in over.items() if key not in LIVE_KEYS}
        try:
            study = recipes.study_from(recipes.merge(base, over))
        except UserError as error:
            raise UserError(f"arm {name!r}: {error}") from None
        if options.doremi is not None and not recipe.live:
            raise UserError(
                f"arm {name!r}: DoReMi trains real proxies; leave it out or use `objective: live`."
            )
        resolved.append(_sized(Arm(name, options, study), recipe.budget))
    return resolved


def chosen_arms(recipe: AblationRecipe, names: Sequence[str]) -> AblationRecipe:
    """The recipe with these arms only; the reference is dropped if it is not among them."""
    reference = recipe.reference if recipe.reference in names else None
    return replace(recipe, arms=_only(recipe, names), reference=reference)


def runs(recipe: AblationRecipe) -> list[Run]:
    """Every run, seed by seed, so that an ablation stopped early has compared all arms."""
    seeds = range(recipe.first_seed, recipe.first_seed + recipe.seeds)
    resolved = arms(recipe)
    return [
        Run(setting, objective, _own(arm, objective, seed), seed)
        for seed in seeds
        for setting, objective in settings(recipe)
        for arm in resolved
    ]


def settings(recipe: AblationRecipe) -> list[tuple[str, Choice]]:
    """Every point of the grid: its name and the objective with its options."""
    points = []
    for values in itertools.product(*recipe.grid.values()):
        chosen = dict(zip(recipe.grid, values, strict=True))
        name = ", ".join(_point(key, value) for key, value in chosen.items())
        options = {**recipe.objective.options, **chosen}
        points.append((name, replace(recipe.objective, options=options)))
    return points


def judged_study(recipe: AblationRecipe, study: StudyRecipe) -> StudyRecipe:
    """The study recipe under which the final mixtures of live arms are retrained and scored.

    Every arm is judged by the same one, but for the corpus, which its domains belong to.
    """
    base = {**_base(recipe), "corpus": study.corpus}
    judged = recipes.study_from(recipes.merge(base, recipe.test.study))
    return replace(judged, rounds=(1,), baselines=(), pruner=None)


# --- private ---------------------------------------------------------------------------------


def _data(name: str) -> dict[str, Any]:
    if not Path(name).suffix and name not in shipped():
        raise UserError(
            f"No ablation {name!r}. Shipped: {', '.join(shipped())}; "
            "or give the path of a .yaml file."
        )
    return recipes.read_data("studies", name if Path(name).suffix else f"{FOLDER}/{name}")


def _only(recipe: AblationRecipe, names: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    unknown = [name for name in names if name not in recipe.arms]
    if unknown:
        raise UserError(f"No arm {unknown[0]!r} in the ablation. Arms: {', '.join(recipe.arms)}.")
    return {name: recipe.arms[name] for name in names}


def _base(recipe: AblationRecipe) -> dict[str, Any]:
    base = dict(recipe.base)
    parent = base.pop("include", None)
    if parent is not None:
        base = recipes.merge(recipes.read_data("studies", str(parent)), base)
    if isinstance(base.get("proxy"), str):  # so that an arm can change a part of it
        base["proxy"] = {"include": base["proxy"]}
    if recipe.live:
        return base
    # An emulator has no corpus and trains nothing; these keys say so in the stored recipe.
    stand_in = {
        "corpus": "emulated",
        "proxy": {},
        "evaluators": [recipe.objective.name],
        "score": ["value"],
        "baselines": [],
    }
    return {**stand_in, **base}


def _sized(arm: Arm, budget: Budget) -> Arm:
    rounds = arm.study.rounds
    # Baselines are arms of their own here; inside a search they would be trials beyond the budget.
    arm = replace(arm, study=replace(arm.study, baselines=()))
    if not arm.searches or budget.seconds is not None:
        return arm
    if budget.trials is not None:
        affordable = budget.trials * arm.options.share / arm.options.cost
    else:
        tokens = float(budget.tokens or 0) * arm.options.share
        affordable = tokens / (arm.study.proxy.tokens * arm.options.cost)
    n = int(affordable + 1e-9)
    if n < len(rounds):
        raise UserError(
            f"arm {arm.name!r}: a budget of {budget} pays {n} trials, "
            f"but its {len(rounds)} rounds need one each."
        )
    return replace(arm, study=replace(arm.study, rounds=allocate(n, rounds)))


def allocate(n: int, shares: Sequence[int]) -> tuple[int, ...]:
    """n trials split in proportion to `shares`, at least one each, by largest remainder."""
    total = sum(shares)
    spare = n - len(shares)
    exact = [max(0.0, n * s / total - 1) for s in shares]
    scale = spare / sum(exact) if sum(exact) > 0 else 0.0
    floors = [int(e * scale + 1e-9) for e in exact]
    order = sorted(range(len(shares)), key=lambda i: (floors[i] - exact[i] * scale, i))
    extra = set(order[: spare - sum(floors)])
    return tuple(1 + f + (i in extra) for i, f in enumerate(floors))


def _own(arm: Arm, objective: Choice, seed: int) -> Arm:
    options = {**objective.options, **arm.options.objective}
    stored = Choice(objective.name, options)
    evaluators = arm.study.evaluators if objective.name == LIVE else (stored,)
    return replace(arm, study=replace(arm.study, seed=seed, evaluators=evaluators))


def _point(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value.replace("/", "-")
    return f"{key} {json.dumps(value)}"
