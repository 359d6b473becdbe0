"""What a recipe amounts to: arms with complete study recipes, settings, runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from climb_opt import recipe_files, recipes
from climb_opt.ablation.recipe.arms import ArmOptions, arm_data, split
from climb_opt.ablation.recipe.recipe import LIVE, AblationRecipe, Budget, TestRecipe
from climb_opt.apportion import apportion
from climb_opt.errors import UserError, within
from climb_opt.ladder import recipe as ladders
from climb_opt.ladder.recipe import rung_count
from climb_opt.proxy.cost import overhead
from climb_opt.recipes import BudgetRecipe, Choice, StudyRecipe
from climb_opt.retrain.sibling import at_target
from climb_opt.strict import as_list

BENCH = "mixbench"  # its arms may be methods, too
LADDERS = ("ladder", "ladder-tables", "rows", BENCH)  # emulated objectives with rungs
LIVE_KEYS = ("corpus", "proxy")  # of a study recipe: an emulator has neither


@dataclass(frozen=True)
class Arm:
    """An arm, resolved: what it does beside searching, and its complete study recipe."""

    name: str
    options: ArmOptions
    study: StudyRecipe

    @property
    def searches(self) -> bool:
        """Whether a sampler proposes mixtures; else it has a fixed one, or trains baselines."""
        return self.options.fixed is None and bool(
            self.study.rounds or self.study.budget or self.study.ladder
        )


@dataclass(frozen=True)
class Run:
    """One arm in one setting with one seed. `key` names its study and its result file."""

    setting: str
    objective: Choice
    arm: Arm
    seed: int
    promises: tuple[int, ...] = ()
    test: TestRecipe = field(default_factory=TestRecipe)  # which judges a live run

    @property
    def key(self) -> str:
        """`<setting>/<arm>/seed<n>`, the name of the run's study and files."""
        return "/".join([*([self.setting] if self.setting else []), self.arm.name, self.tag])

    @property
    def tag(self) -> str:
        """The last part of the key."""
        return f"seed{self.seed}"


def runs(recipe: AblationRecipe) -> list[Run]:
    """Every run, seed by seed, so that an ablation stopped early has compared all arms."""
    seeds = range(recipe.first_seed, recipe.first_seed + recipe.seeds)
    resolved = arms(recipe)
    return [
        Run(setting, objective, _own(arm, objective, seed), seed, recipe.promises, recipe.test)
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


def arms(recipe: AblationRecipe) -> list[Arm]:
    """The arms with their complete study recipes, in the recipe's order."""
    base = _base(recipe)
    resolved = []
    for name, given in recipe.arms.items():
        options, over = split(name, arm_data(name, given))
        with within(f"arm {name!r}"):
            method = over["proxy"].get("reweight") if isinstance(over.get("proxy"), dict) else None
            if method is not None and options.fixed is not None:
                raise UserError("give either fixed or reweight (doremi), not both.")
            if method is not None and not recipe.live:
                raise UserError(
                    "its method reweights real proxies while they train; leave it out or use "
                    "`objective: live`."
                )
            if not recipe.live:  # an emulator has neither, so that a recipe serves both
                over = {key: value for key, value in over.items() if key not in LIVE_KEYS}
                over = _laddered(options, over, recipe)
            if not recipe.live and (base.get("branches") or over.get("branches")):
                raise UserError(
                    "a trunk and branches are trained, and no law says how they rank; leave them "
                    "out or use `objective: live`."
                )
            only = over.get("rounds") == [] and (over.get("baselines") or over.get("branches"))
            study = recipes.study_from(recipe_files.merge(_at_target(base) if only else base, over))
            if options.method is not None and recipe.objective.name != BENCH:
                raise UserError(f"a method is run by `objective: {BENCH}` alone.")
            arm = Arm(name, options, study)
            if study.methods and not (arm.searches or options.fixed):
                raise UserError(
                    "an arm trains each of its proxies by one method; take it out of baselines, "
                    f"and write proxy: {{reweight: {min(study.methods)}}}."
                )
            study = _sized(arm, recipe.budget)
        arm = replace(arm, study=study)
        if recipe.objective.name == BENCH and not arm.searches and recipe.budget.trials:
            # Judged after the whole budget like the others, though it spends none of it.
            arm = replace(arm, study=replace(study, rounds=(recipe.budget.trials,)))
        resolved.append(arm)
    return resolved


def judged_study(recipe: AblationRecipe, study: StudyRecipe) -> StudyRecipe:
    """The study recipe under which the final mixtures of live arms are retrained and scored.

    Every arm is judged by the same one, but for the corpus, which its domains belong to, and the
    phases of its mixtures.
    """
    base = _at_target({**_base(recipe), "corpus": study.corpus, "phases": study.phases})
    judged = recipes.study_from(recipe_files.merge(base, recipe.test.study))
    return at_target(judged, rounds=(1,), baselines=(), pruner=None, verify=0)


def allocate(n: int, shares: Sequence[int]) -> tuple[int, ...]:
    """n trials split in proportion to `shares`, at least one each, by largest remainder."""
    total = sum(shares)
    spare = n - len(shares)
    exact = [max(0.0, n * s / total - 1) for s in shares]
    scale = spare / sum(exact) if sum(exact) > 0 else 0.0
    return tuple(1 + extra for extra in apportion(np.array(exact) * scale, spare).tolist())


# --- private -----------------------------------------------------------------------------------


def _base(recipe: AblationRecipe) -> dict[str, Any]:
    base = dict(recipe_files.included("studies", recipe.base))
    if isinstance(base.get("proxy"), str):  # so that an arm can change a part of it
        base["proxy"] = {"include": base["proxy"]}
    if recipe.live:
        return base
    # An emulator has no corpus and trains nothing; these keys say so in the stored recipe.
    stand_in = {"corpus": "emulated", "proxy": {}, "score": ["value"], "baselines": []}
    return {**stand_in, "evaluators": [recipe.objective.name], **base}


def _at_target(base: Mapping[str, Any]) -> dict[str, Any]:
    base = dict(base)
    ladders.read(base)  # a base with rungs has the last for its proxy
    for key in ("ladder", "rounds", "rungs", "budget"):
        base.pop(key, None)
    return base


def _laddered(options: ArmOptions, over: dict[str, Any], recipe: AblationRecipe) -> dict[str, Any]:
    """The overrides of an arm that says `ladder: true`, with rungs that stand for the emulated."""
    if not over.get("ladder"):
        return over
    objective = recipe.objective
    if over["ladder"] is not True or objective.name not in LADDERS:
        raise UserError(
            f"ladder: true lets it use the rungs of an objective that has some "
            f"({', '.join(LADDERS)}); the objective is {objective.name!r}."
        )
    if options.parallel > 1:
        raise UserError("an arm with a ladder asks for one trial at a time.")
    rungs = objective.options.get("rungs") or objective.options.get("costs") or (1, 4, 16)
    count = len(as_list(rungs))
    over = {**over, "ladder": [{"tokens": 1 + place} for place in range(count)]}
    if any(isinstance(entry, Mapping) for entry in over.get("rounds", ())):
        return over
    return {**over, "rounds": [], "budget": {"flops": 1.0}}  # in target trials; see `_sized`


def _sized(arm: Arm, budget: Budget) -> StudyRecipe:
    study, options = arm.study, arm.options
    if not arm.searches and options.fixed is None:  # it trains its baselines, each once
        if not (study.baselines or (study.branches and study.branches.read)):
            raise UserError("no rounds, budget or baselines: it trains nothing.")
        return study
    # Baselines are arms of their own here; inside a search they would be trials beyond the budget.
    study = replace(study, baselines=())
    if not arm.searches:
        return at_target(study)
    if any(rung < rung_count(study) - 1 for rung in study.rungs):
        return study  # its rounds are as they are written
    cost = options.cost * overhead(study.proxy)
    if budget.trials is not None:
        affordable = budget.trials * options.share / cost
    else:
        affordable = float(budget.tokens or 0) * options.share / (study.proxy.tokens * cost)
    if rung_count(study) > 1 and not study.rungs:  # in target trials as yet
        ladder = study.ladder or (study.proxy,)
        return replace(study, rounds=(), ladder=ladder, budget=BudgetRecipe(affordable))
    if study.branches is not None:  # the trunk is paid once, its share of no trial
        affordable = (affordable - study.branches.share) / (1 - study.branches.share)
    n, rounds = int(affordable + 1e-9), study.rounds
    if n < len(rounds) + study.verify:
        more = f" and verify {study.verify} more" if study.verify else ""
        raise UserError(
            f"a budget of {budget} pays {n} trials, but its {len(rounds)} rounds need one "
            f"each{more}."
        )
    return replace(study, rounds=allocate(n, rounds))


def _own(arm: Arm, objective: Choice, seed: int) -> Arm:
    stored = Choice(objective.name, {**objective.options, **arm.options.objective})
    evaluators = arm.study.evaluators if objective.name == LIVE else (stored,)
    return replace(arm, study=replace(arm.study, seed=seed, evaluators=evaluators))


def _point(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value.replace("/", "-")
    return f"{key} {json.dumps(value)}"
