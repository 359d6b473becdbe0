"""What a recipe names by a path and a study carries with it: the influence of its domains.

A study may be worked on by machines on which the file is not. So what is measured goes into the
recipe that the study stores, and a file that has changed since is refused.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from climb_opt.errors import UserError
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


def carried_as(stored: StudyRecipe, wanted: StudyRecipe, study: str) -> StudyRecipe:
    """The `wanted` recipe with what the study carries already, where that is the same.

    Raises:
        UserError: the file holds something else now.
    """
    path, held = wanted.sampler.options.get(INFLUENCE), influence_of(stored)
    if not isinstance(path, str) or held is None or held.facts.get(FILE) != path:
        return wanted
    if Path(path).exists():
        now = read_gains(path)
        for name in ("lowers", "score", "direction"):
            if getattr(now, name) != getattr(held, name):
                raise UserError(
                    f"Study {study!r} began with another influence than {path!r} holds now: "
                    f"{_change(getattr(held, name), getattr(now, name), name)}. Give another "
                    f"--study-name to start a new study, or only `--study-name "
                    f"{shlex.quote(study)}` to go on with what it began with."
                )
    return _with(wanted, stored.sampler.options[INFLUENCE])


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
