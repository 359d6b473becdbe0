"""The key `branches` of a study recipe.

branches: {trunk: 0.5, tokens: 32_768, general: 0.5, read: [merge]}
rounds: [{trials: 64, rung: merge}, {trials: 16, rung: target}]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from climb_opt.errors import UserError
from climb_opt.proxy_recipe import ProxyRecipe
from climb_opt.study_recipe import MIXMIN, BranchesRecipe

READOUTS = ("ensemble", "merge")  # cheapest first
TARGET = "target"  # the name of the last rung in a recipe's rounds


def read(data: dict[str, Any]) -> None:
    """Write `branches` of a study's plain data out: a trunk that is a checkpoint is the proxy's."""
    branches = data.get("branches")
    if not isinstance(branches, Mapping):
        return
    reads, known = branches.get("read"), (MIXMIN, *READOUTS)
    if isinstance(reads, (list, tuple)) and all(read in known for read in reads):
        data["branches"] = {**branches, "read": [read for read in known if read in reads]}
    trunk, proxy = branches.get("trunk"), data.get("proxy")
    if not isinstance(trunk, str) or _is_number(trunk) or not isinstance(proxy, Mapping):
        return
    model = dict(proxy.get("model") or {})
    if model.get("checkpoint") not in (None, trunk):
        raise UserError(
            f"study.branches.trunk: {trunk!r}, but proxy.model.checkpoint is "
            f"{model['checkpoint']!r}. A trial starts from one of them: name it once."
        )
    data["proxy"] = {**proxy, "model": {**model, "checkpoint": trunk}}


def readouts_of(data: Mapping[str, Any]) -> list[str]:
    """What scores mixtures without training in a study's plain data, once `read` has seen it."""
    branches = data.get("branches")
    if branches is None:
        return []
    given = branches.get("read", BranchesRecipe.read) if isinstance(branches, Mapping) else []
    return [r for r in ([given] if isinstance(given, str) else given) if r != MIXMIN]


def trunk_steps(recipe: BranchesRecipe, steps: int) -> int:
    """Steps of the trunk, of the target's; at least one is left, and one is trained of a share."""
    return max(min(max(round(recipe.share * steps), 1), steps - 1), 0) if recipe.share else 0


def branch_tokens(recipe: BranchesRecipe, proxy: ProxyRecipe) -> int:
    """Tokens of a branch: whole steps.

    Raises:
        UserError: less than one step.
    """
    step = proxy.batch_tokens // proxy.sequence * proxy.sequence
    steps = proxy.tokens // step
    if recipe.tokens is None:  # a proxy of less than a step is said of the proxy
        return max(steps - trunk_steps(recipe, steps), 1) * step
    own = recipe.tokens // step
    if own < 1:
        raise UserError(
            f"study.branches.tokens: {recipe.tokens:,} is less than one step of {step:,} tokens; "
            "train branches on more."
        )
    return own * step


def check(recipe: Any) -> None:
    """Raise unless the branches of a `StudyRecipe` go with the rest of it."""
    branches, proxy = recipe.branches, recipe.proxy
    if branches is None:
        return
    where = "study.branches"
    if proxy.command is not None:
        raise UserError(f"{where}: a command trains its own models; drop branches, or the command.")
    if proxy.reweight is not None:
        raise UserError(
            f"{where}: {proxy.reweight.name} sets weights from a run's beginning; drop reweight."
        )
    if proxy.go_on:
        raise UserError(f"{where}: the target starts from the trunk; drop go_on of its proxy.")
    if recipe.phases and branches.read:
        raise UserError(
            f"{where}: what is read off branches is of one mixture, and trials of "
            f"{len(recipe.phases)} phases have several; set branches: {{read: []}} for the trunk "
            "alone, or drop phases."
        )
    branch_tokens(branches, proxy)
    if branches.share + proxy.average > 1:
        raise UserError(
            f"{where}: the trunk ({branches.share:g} of the tokens) leaves less than the last "
            f"{proxy.average:g} of the steps, whose mean is kept; lower proxy.average."
        )
    if not branches.share and proxy.model.checkpoint is None:
        raise UserError(
            f"{where}.trunk: 0 leaves nothing to branch from; give a share of the tokens, or a "
            "checkpoint."
        )
    seen: dict[str, str] = {}
    for group, domains in branches.groups.items():
        for domain in domains:
            if domain in seen:
                raise UserError(
                    f"{where}.groups: {domain!r} is in {seen[domain]!r} and in {group!r}; a domain "
                    "belongs to one branch."
                )
            seen[domain] = group
        if not domains:
            raise UserError(f"{where}.groups.{group}: name a domain at least.")


def _is_number(text: str) -> bool:
    """YAML 1.1 reads 5e-1 and 50% as text."""
    try:
        return math.isfinite(float(text.strip().rstrip("%")))
    except ValueError:
        return False
