"""YAML, scales and overrides -> a checked ablation recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from climb_opt import lookup, recipe_files, recipes
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import Arm, arms, judged_study
from climb_opt.ablation.run.final import check_final
from climb_opt.errors import UserError, within
from climb_opt.reading import read_json
from climb_opt.strict import build, check_ranges
from climb_opt.study.asked import check_choices

FOLDER = "studies/ablations"


def shipped() -> list[str]:
    """The names of the ablation recipes in studies/ablations."""
    return recipe_files.names(FOLDER)


def scales(name: str) -> list[str]:
    """The scales of a shipped ablation, its default first."""
    found = _data(name).get("scales", {})
    return list(found) if isinstance(found, Mapping) else []


def title(name: str) -> str:
    """What the ablation of a shipped name or a path is called."""
    return str(_stored(Path(name))["name"]) if Path(name).suffix == ".json" else Path(name).stem


def read_ablation(
    name: str,
    *,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    chosen: Sequence[str] = (),
) -> AblationRecipe:
    """The ablation recipe of a shipped name or a path, at one of its scales.

    Only the arms that are `chosen`, if some are; the reference is dropped if it is not among them.

    The `ablation.json` that an ablation leaves behind is a recipe, too: that of the same runs.

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
        data = recipe_files.merge(data, scales[scale])
    return ablation_from(recipe_files.set_overrides(data, overrides), chosen)


def ablation_from(data: Mapping[str, Any], chosen: Sequence[str] = ()) -> AblationRecipe:
    """An ablation recipe from plain data, of its arms or of those that are `chosen`."""
    data = dict(data)
    if "objective" in data:
        data["objective"] = recipes.choice_data(data["objective"], "ablation.objective")
    if isinstance(data.get("arms"), (list, tuple)):
        data["arms"] = dict.fromkeys(map(str, data["arms"]))
    recipe = build(AblationRecipe, data, "ablation")
    if not recipe.arms:
        raise UserError("ablation: arms must name at least one arm.")
    if recipe.only:
        recipe = replace(recipe, arms=_only(recipe, recipe.only), only=())
    lookup.check_name("objective", recipe.objective.name)
    check_ranges(recipe, "ablation")
    if recipe.reference is not None and recipe.reference not in recipe.arms:
        raise UserError(
            f"ablation: the reference {recipe.reference!r} is not among the arms: "
            f"{', '.join(recipe.arms)}."
        )
    if not recipe.live and (recipe.budget.trials is None or recipe.budget.seconds is not None):
        raise UserError(
            "ablation: an emulator trains nothing, so its budget counts trials; give "
            "budget: {trials: N}."
        )
    if recipe.promises and (recipe.live or min(recipe.promises) < 1):
        raise UserError(
            "ablation: promises lists numbers of trials, from 1 on, and needs an emulator, which "
            f"knows the truth; it is {list(recipe.promises)}."
        )
    if recipe.live and recipe.grid:
        raise UserError("ablation: a grid varies an emulator's options; give live arms instead.")
    for option, values in recipe.grid.items():
        if not values:
            raise UserError(f"ablation.grid.{option}: give at least one value, or leave it out.")
    if chosen:
        reference = recipe.reference if recipe.reference in chosen else None
        recipe = replace(recipe, arms=_only(recipe, chosen), reference=reference)
    for arm in arms(recipe):
        with within(f"arm {arm.name!r}"):
            _check(arm, recipe)
    return recipe


# --- private -----------------------------------------------------------------------------------


def _check(arm: Arm, recipe: AblationRecipe) -> None:
    """Raise for a name or an option that would show only when the arm begins, ends or is judged."""
    check_final(arm.options.final)
    if (fixed := arm.options.fixed) is not None:
        lookup.check_name("baseline", fixed.name)
        with suppress(lookup.NotHere):
            lookup.check_options("baseline", fixed.name, fixed.options, {"space"})
    if recipe.live:
        check_choices(arm.study)
        check_choices(judged_study(recipe, arm.study))
    else:  # what it is scored by stands for evaluators
        check_choices(replace(arm.study, evaluators=()))


def _stored(path: Path) -> dict[str, Any]:
    """What `render.as_json` wrote."""
    data = read_json(path)
    if not isinstance(data, dict) or not {"name", "recipe"} <= set(data):
        raise UserError(f"{path} is no ablation.json: it has no name and recipe.")
    return data


def _data(name: str) -> dict[str, Any]:
    if Path(name).suffix == ".json":
        recipe: dict[str, Any] = _stored(Path(name))["recipe"]
        objective = recipe["objective"]  # spelt as in YAML, so that --set reaches its options
        return {**recipe, "objective": {"name": objective["name"], **objective["options"]}}
    others = "a .yaml file or of an ablation.json"
    return recipe_files.read_shipped(FOLDER, name, "ablation", others)


def _only(recipe: AblationRecipe, names: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    if unknown := [name for name in names if name not in recipe.arms]:
        raise UserError(f"No arm {unknown[0]!r} in the ablation. Arms: {', '.join(recipe.arms)}.")
    return {name: recipe.arms[name] for name in names}
