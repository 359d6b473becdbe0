"""The rungs of a recipe's ladder and what a trial of each costs, before any of them is trained."""

from __future__ import annotations

from collections.abc import Sequence

from climb_opt.errors import UserError
from climb_opt.ladder import Ladder, Rung
from climb_opt.proxy.cost import Size, described, shape_size, trial_cost
from climb_opt.recipes import ProxyRecipe
from climb_opt.text import amount


def ladder_of(proxies: Sequence[ProxyRecipe], vocabulary: int) -> Ladder:
    """The rungs of a recipe's ladder; each is named by its parameters and tokens, "20M@400M".

    Raises:
        UserError: a rung whose cost nobody knows, rungs out of order of cost, a checkpoint that
            cannot be read.
    """
    return Ladder(tuple(_rung(n, proxy, vocabulary) for n, proxy in enumerate(proxies)))


def _rung(number: int, proxy: ProxyRecipe, vocabulary: int) -> Rung:
    where = f"study.ladder[{number}] ({described(proxy)})"
    try:
        cost = trial_cost(proxy, _size(proxy, vocabulary))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if cost.flops is None:
        raise UserError(
            f"{where}: what a trial of a command costs is not known; state its FLOPs in the key "
            "flops, e.g. flops: 3e15."
        )
    size = f"rung {number}" if cost.parameters is None else amount(cost.parameters)
    return Rung(f"{size}@{amount(cost.tokens)}", cost.flops, cost.tokens, cost.parameters)


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
