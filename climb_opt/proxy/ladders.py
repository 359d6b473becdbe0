"""The rungs of a recipe's ladder and what a trial of each costs, before any of them is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from climb_opt.attributes import BASELINE
from climb_opt.errors import UserError, within
from climb_opt.ladder import Ladder, Rung
from climb_opt.ladder.branches.before import Before
from climb_opt.ladder.branches.groups import branches_of, check_new
from climb_opt.ladder.branches.recipe import branch_tokens
from climb_opt.ladder.branches.slots import part_of
from climb_opt.proxy.cost import (
    DOMAINS,
    Size,
    by_method,
    overhead,
    place_of,
    shape_size,
    trial_cost,
)
from climb_opt.proxy.going_on import check_going_on, part_left
from climb_opt.recipes import ProxyRecipe, StudyRecipe
from climb_opt.study_recipe import MIXMIN
from climb_opt.text import amount

EVALUATED = 2**17  # tokens that a read-out is taken to score


def ladder_of(proxies: Sequence[ProxyRecipe], vocabulary: int) -> Ladder:
    """The rungs of a recipe's ladder; each is named by its parameters and tokens, "20M@400M".

    Raises:
        UserError: a rung whose cost nobody knows, rungs out of order of cost, a checkpoint that
            cannot be read.
    """
    return Ladder(tuple(_rung(number, proxies, vocabulary) for number in range(len(proxies))))


def study_ladder(
    recipe: StudyRecipe, tokens: Mapping[str, float], vocabulary: int
) -> Ladder | None:
    """The rungs of a study, as of `priced_ladder`; None where there is one and no budget."""
    several = recipe.ladder or recipe.readouts
    return priced_ladder(recipe, tokens, vocabulary) if several else None


def priced_ladder(recipe: StudyRecipe, tokens: Mapping[str, float], vocabulary: int) -> Ladder:
    """What scores mixtures: read-outs of branches, the rungs of the ladder, the target.

    A trial that goes on from a trunk costs what comes after it. A read-out costs its arithmetic,
    and a forward pass over `EVALUATED` tokens or as many as a tenth of the target's.

    Args:
        tokens: of each domain of the corpus.

    Raises:
        UserError: as of `ladder_of` and `branches_of`; a rung that cannot go on as it is to, a
            branch of less than a step, or one alone.
    """
    check_going_on(recipe)
    ladder, branching = ladder_of(recipe.proxies, vocabulary), recipe.branches
    if branching is None:
        return with_methods(ladder, recipe, len(tokens) or DOMAINS)
    *lower, target = ladder.rungs
    target = replace(target, flops=(1 - branching.share) * target.flops)
    if not recipe.readouts:
        return Ladder((*lower, target))
    branches = branches_of(branching, tokens, branch_tokens(branching, recipe.proxy))
    check_new(branches, branching)
    count = len(branches.branches)
    read = min(EVALUATED, max((target.tokens or 0) // 10, 1))
    size = target.parameters or 1
    price = {"ensemble": 2.0 * count * read, "merge": 2.0 * size * (count + read)}
    readouts = [Rung(name, price[name], parameters=size) for name in recipe.readouts]
    return Ladder((*readouts, *lower, target))


def with_methods(ladder: Ladder, recipe: StudyRecipe, domains: int = DOMAINS) -> Ladder:
    """The ladder with what the baselines cost of which methods set the weights."""
    if not recipe.methods:
        return ladder
    proxy, (*lower, target) = recipe.proxy, ladder.rungs
    plain = target.flops / overhead(proxy, domains)
    costs = {
        BASELINE + name: plain * overhead(by_method(proxy, method), domains)
        for name, method in recipe.methods.items()
    }
    return Ladder((*lower, replace(target, methods=costs)))


def branching_flops(recipe: StudyRecipe, ladder: Ladder, tokens: Mapping[str, float]) -> float:
    """FLOPs of a study's trunk and branches, and of the mixtures that check them."""
    branching = recipe.branches
    if branching is None:
        return 0.0
    before, target = Before.of(recipe, tokens, ()), ladder.rungs[-1]
    whole = target.flops / (1 - branching.share)
    own = branch_tokens(branching, recipe.proxy) / (target.tokens or 1)
    slots = [slot for stage in before.stages for slot in stage if slot != MIXMIN]
    parts = sum(part_of(slot) is not None for slot in slots)
    trained = len(before.checks) * target.flops
    return branching.share * whole + (parts - 1) * own * whole + trained


def _rung(number: int, proxies: Sequence[ProxyRecipe], vocabulary: int) -> Rung:
    proxy = proxies[number]
    where = place_of(number, proxies)
    with within(where):
        cost = trial_cost(proxy, _size(proxy, vocabulary))
    if cost.flops is None:
        raise UserError(
            f"{where}: what a trial of a command costs is not known; state its FLOPs in the key "
            "flops, e.g. flops: 3e15."
        )
    size = f"rung {number}" if cost.parameters is None else amount(cost.parameters)
    left = part_left(proxies, number)
    rest = None if left is None else left * cost.flops
    return Rung(f"{size}@{amount(cost.tokens)}", cost.flops, cost.tokens, cost.parameters, rest)


def _size(proxy: ProxyRecipe, vocabulary: int) -> Size | None:
    if proxy.command is not None:
        return None
    if proxy.model.checkpoint is None:
        return shape_size(proxy.model, vocabulary)
    try:
        from climb_opt.proxy import model
    except ImportError as error:
        if proxy.flops is not None:
            return None
        raise UserError(
            f"counting the FLOPs of a checkpoint needs an extra ({error}); run pip install "
            "'climb-opt[proxy]', or state them in the key flops."
        ) from None
    return model.size_of(model.read_config(proxy.model.checkpoint))
