"""The learning rate of every step: a pure function, so that resuming needs no scheduler state."""

from __future__ import annotations

import math

from climb_opt.recipes import ProxyRecipe


def learning_rate(recipe: ProxyRecipe, step: int, steps: int) -> float:
    """The rate of step 0 <= `step` < `steps`.

    Linear warm-up over `warmup` of the steps; then `wsd` stays at `lr` until the last `decay` of
    the steps, where it falls linearly to `min_lr` (Hu et al. 2024, MiniCPM), and `cosine` falls to
    `min_lr` along half a cosine.
    """
    warm = warm_steps(recipe, steps)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    if recipe.schedule == "cosine":
        done = (step - warm) / max(steps - warm - 1, 1)
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * done)) / 2
    falling = steps - stable_steps(recipe, steps)
    left = (steps - 1 - step) / falling
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * min(left, 1.0)


def warm_steps(recipe: ProxyRecipe, steps: int) -> int:
    """Steps in which the rate rises."""
    return round(recipe.warmup * steps)


def stable_steps(recipe: ProxyRecipe, steps: int) -> int:
    """Steps before the rate of `wsd` falls."""
    return steps - max(round(recipe.decay * steps), 1)
