"""Which rung of a new study an older study's trials belong to: the one that trains the same."""

from __future__ import annotations

import dataclasses

from climb_opt import recipe_files
from climb_opt.proxy.cost import share_of
from climb_opt.proxy_recipe import ProxyRecipe
from climb_opt.recipes import StudyRecipe
from climb_opt.view import StudyView


def same_rungs(new: StudyView, old: StudyView) -> dict[int, int]:
    """Rung of the old study -> that of the new one with the same proxy; a study without a ladder is
    of one rung. Of studies without recipes targets are taken for the same, other rungs by what is
    stored of them."""
    if new.recipe is not None and old.recipe is not None:
        ours = [_scored(proxy) for proxy in new.recipe.proxies]
        theirs = [_scored(proxy) for proxy in old.recipe.proxies]
        return {r: ours.index(proxy) for r, proxy in enumerate(theirs) if proxy in ours}
    here, there = new.ladder, old.ladder
    ends = (0 if here is None else here.target, 0 if there is None else there.target)
    found = {ends[1]: ends[0]}
    if here is not None and there is not None:
        for r, rung in enumerate(there.rungs[:-1]):
            if rung in here.rungs[:-1]:
                found[r] = here.rungs.index(rung)
    return found


def proxies_differ(recipe: StudyRecipe, old_recipe: StudyRecipe) -> list[str]:
    """How the targets' proxies differ, a line each."""
    was, now = ({"proxy": dataclasses.asdict(r.proxy)} for r in (old_recipe, recipe))
    return recipe_files.difference(was, now)


def cautions(
    names: list[str], same: dict[int, int], recipe: StudyRecipe, old_recipe: StudyRecipe
) -> list[str]:
    """A word on rungs that repeat domains otherwise than in the old study.

    Args:
        names: of the new study's rungs.
        same: of `same_rungs`.
    """
    found = []
    for r, rung in same.items():
        was, now = _share(old_recipe, r), _share(recipe, rung)
        if was != now:
            found.append(
                f"Rung {names[rung]} read {was:.3g} of each domain in the older study and reads "
                f"{now:.3g} here (repetition: {recipe.repetition}): its scores compare as far as "
                "neither repeats domains."
            )
    return found


def rung_names(study: StudyView) -> list[str]:
    """Names of a study's rungs, cheapest first."""
    return ["its proxy"] if study.ladder is None else [rung.name for rung in study.ladder.rungs]


# --- private -------------------------------------------------------------------------------------


def _scored(proxy: ProxyRecipe) -> ProxyRecipe:
    """What its score depends on: a trial that goes on from another ends as if from the start."""
    return dataclasses.replace(proxy, go_on=False)


def _share(recipe: StudyRecipe, rung: int) -> float:
    """The share of each domain that a rung's trials read."""
    return 1.0 if recipe.repetition == "whole" else share_of(recipe.proxies, rung)
