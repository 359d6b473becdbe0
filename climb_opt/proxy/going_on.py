"""Whether a rung can go on from the one below, and what of its price is left: before any training.

What is kept for it, and where, is `trunks.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from climb_opt.errors import UserError, within
from climb_opt.proxy.cost import place_of, plan, share_of
from climb_opt.proxy.schedule import stable_steps, warm_steps
from climb_opt.recipes import ProxyRecipe, StudyRecipe
from climb_opt.schedules import step_borders

# Keys that change nothing of a run: how it is saved, looked at, cut up and priced.
ASIDE = {
    *("checkpoint_every", "report_every", "keep", "compile", "micro_batch_tokens"),
    *("flops", "go_on"),
}
# Keys in which two rungs of one trunk may differ: these, and what comes after it.
FREE = ASIDE | {
    *("reweight", "tokens", "warmup", "decay", "min_lr", "average", "max_epochs", "timeout")
}


def check_going_on(recipe: StudyRecipe) -> None:
    """Raise unless every rung that is to go on from the one below it can, and say which cannot."""
    for number in range(len(recipe.proxies)):
        with within(place_of(number, recipe.proxies)):
            _check(recipe, number)


def part_left(proxies: Sequence[ProxyRecipe], number: int) -> float | None:
    """The part of a trial's steps that one pays which goes on; None where the rung does not."""
    if number == 0 or not proxies[number].go_on:
        return None
    own, below = plan(proxies[number])[1], plan(proxies[number - 1])[1]
    return 1 - stable_steps(proxies[number - 1], below) / own


def check_trunk_phase(recipe: ProxyRecipe, steps: int, border: int) -> None:
    """Raise unless a rung that others go on from begins to decay in its first phase.

    Later phases of the two differ: they begin at other steps.

    Args:
        border: the step at which its second phase begins.
    """
    stable = stable_steps(recipe, steps)
    if stable > border:
        raise UserError(
            f"go_on: a rung goes on from step {stable} of the one below, where the decay of that "
            f"begins, but its second phase begins at step {border}, and phases of the two are not "
            f"the same steps. Give it decay: {(steps - border) / steps:.6g} or more, or drop go_on."
        )


# --- private -------------------------------------------------------------------------------------


def _check(recipe: StudyRecipe, number: int) -> None:
    proxies = recipe.proxies
    proxy, above = proxies[number], proxies[number + 1 : number + 2]
    if recipe.phases and above and above[0].go_on:
        steps = plan(proxy)[1]
        check_trunk_phase(proxy, steps, step_borders(recipe.phases, steps)[1])
    if not proxy.go_on:
        return
    matched = number and recipe.repetition == "matched"
    if matched and share_of(proxies, number - 1) != share_of(proxies, number):
        raise UserError(
            "go_on: under repetition: matched the rung below reads smaller pools than this one, "
            "so the two are not one run. Set repetition: whole, or drop go_on."
        )
    _check_pair(proxies, number)


def _check_pair(proxies: Sequence[ProxyRecipe], number: int) -> None:
    """Raise unless rung `number` can go on from the one below, and say what to change."""
    if number == 0:
        raise UserError("go_on: there is no rung below it to go on from; drop the key.")
    upper, lower = proxies[number], proxies[number - 1]
    if upper.command is not None or lower.command is not None:
        raise UserError("go_on: a command keeps its own checkpoints; drop the key.")
    if upper.reweight is not None or lower.reweight is not None:
        raise UserError("go_on: with reweight every run has a path of its own; drop the key.")
    if upper.schedule != "wsd":
        raise UserError(f"go_on needs schedule: wsd, but it is {upper.schedule}.")
    for key in (field.name for field in dataclasses.fields(ProxyRecipe)):
        ours, theirs = getattr(upper, key), getattr(lower, key)
        if key not in FREE and ours != theirs:
            raise UserError(
                f"go_on: until the decay it must train as the rung below, but its {key} is {ours} "
                f"and that one's {theirs}. Give both the same, or drop go_on."
            )
    own, below = plan(upper)[1], plan(lower)[1]
    warm, theirs = warm_steps(upper, own), warm_steps(lower, below)
    if warm != theirs:
        raise UserError(
            f"go_on: both must warm up for as many steps, but it does for {warm} and the rung "
            f"below for {theirs}. Give that one warmup: {warm / below:.6g}."
        )
    if not warm <= stable_steps(lower, below) <= stable_steps(upper, own):
        raise UserError(
            f"go_on: the rung below begins to decay after {stable_steps(lower, below)} steps, "
            f"which must lie between this one's warm-up ({warm}) and decay "
            f"({stable_steps(upper, own)})."
        )
