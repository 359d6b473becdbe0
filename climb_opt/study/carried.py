"""What a recipe names by a path and a study carries with it: the influence of its domains.

A study may be worked on by machines on which the file is not. So what is measured goes into the
recipe that the study stores, and a file that has changed since is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from climb_opt.gains.table import Gains, read_gains
from climb_opt.recipes import StudyRecipe
from climb_opt.strict import build

INFLUENCE = "influence"  # the option of a sampler
FILE = "file"  # the fact that says where it was read
KEPT = ("hessian", "tokens", "reliability")  # facts of the measurement that a report shows


def carried(recipe: StudyRecipe) -> StudyRecipe:
    """The recipe with the content of the files that it names by a path.

    Raises:
        UserError: one that cannot be read.
    """
    path = recipe.sampler.options.get(INFLUENCE)
    if not isinstance(path, str):
        return recipe
    gains = read_gains(path)
    facts = {FILE: path, **{key: gains.facts[key] for key in KEPT if key in gains.facts}}
    return _with(recipe, dataclasses.asdict(replace(gains, facts=facts)))


def carried_as(stored: StudyRecipe, wanted: StudyRecipe) -> tuple[StudyRecipe, list[str]]:
    """The `wanted` recipe with what a study carries already, and what its file changed since.

    Raises:
        UserError: the file cannot be read.
    """
    path, held = wanted.sampler.options.get(INFLUENCE), influence_of(stored)
    if not isinstance(path, str) or held is None or held.facts.get(FILE) != path:
        return wanted, []
    changes = []
    if Path(path).exists():
        now = read_gains(path)
        pairs = {n: (getattr(held, n), getattr(now, n)) for n in ("lowers", "score", "direction")}
        changes = [
            f"influence {path!r} has changed: {_change(*pair, name)}"
            for name, pair in pairs.items()
            if pair[0] != pair[1]
        ]
    return _with(wanted, stored.sampler.options[INFLUENCE]), changes


def influence_of(recipe: StudyRecipe) -> Gains | None:
    """The measurement that a study carries; None of one without, or that names a path."""
    held = recipe.sampler.options.get(INFLUENCE)
    if not isinstance(held, Mapping) or not isinstance(held.get("lowers"), Mapping):
        return None
    return build(Gains, held, INFLUENCE)


def _with(recipe: StudyRecipe, influence: Any) -> StudyRecipe:
    options = {**recipe.sampler.options, INFLUENCE: influence}
    return replace(recipe, sampler=replace(recipe.sampler, options=options))


def _change(old: Any, new: Any, what: str) -> str:
    """The first thing that differs, in words."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in (*old, *new):
            if old.get(key) != new.get(key):
                return _change(old.get(key), new.get(key), f"{what} of {key!r}")
    return f"{what} was {old}, is {new}"
