"""A ladder in a study recipe: rungs by round, or chosen within a budget of FLOPs.

rounds:                           ladder: [20m, 62m, 350m]
- {trials: 64, proxy: 20m}        budget: {flops: 3e19}
- {trials: 16, proxy: 350m}       sampler: simplex-gp
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from climb_opt import lookup
from climb_opt.choices import choice_data
from climb_opt.errors import UserError
from climb_opt.ladder.branches import recipe as branching
from climb_opt.ladder.branches.recipe import READOUTS, TARGET
from climb_opt.proxy_recipe import ProxyRecipe
from climb_opt.recipe_files import included, merge
from climb_opt.strict import build, check_ranges


def read(data: dict[str, Any]) -> None:
    """Write `rounds` and `ladder` of a study's plain data out in full; the target is its proxy."""
    if data.get("ladder"):
        if not isinstance(data["ladder"], (list, tuple)):
            raise UserError(
                f"study.ladder: expected a list of proxies, but got {data['ladder']!r}."
            )
        data["ladder"] = [_rung(rung, data.get("proxy")) for rung in data["ladder"]]
    _read_rounds(data)
    if data.get("ladder"):
        data["proxy"] = data["ladder"][-1]
    if data.get("budget") is not None:
        data.setdefault("rounds", [])
        if not data.get("ladder") and "proxy" in data:
            data["ladder"] = [data["proxy"]]


def check(recipe: Any) -> None:
    """Raise unless rungs, rounds, budget and sampler of a `StudyRecipe` go together."""
    if recipe.budget is not None and recipe.rounds:
        raise UserError(
            "study: budget takes the place of rounds; set rounds: [] (or drop them), or keep them "
            "by budget: null."
        )
    if recipe.budget is not None and recipe.rungs:
        raise UserError(
            "study.rungs: the rungs of rounds, which a budget has not; the sampler chooses the "
            "rung of each trial. Set rungs: [], or drop them."
        )
    if not (recipe.rounds or recipe.budget or recipe.baselines or recipe.branches):
        raise UserError(
            "study: nothing is to be run; give rounds, for example [64, 32, 16], or a budget: "
            "{flops: 3e19}."
        )
    if recipe.rungs and len(recipe.rungs) != len(recipe.rounds):
        raise UserError(
            f"study.rungs: one for each of {len(recipe.rounds)} rounds, but there are "
            f"{len(recipe.rungs)}."
        )
    count = rung_count(recipe)
    for rung in recipe.rungs:
        if rung >= count:
            raise UserError(
                f"study.rungs: {rung} is no rung of the ladder; there are 0 to {count - 1}."
            )
    if (recipe.ladder or recipe.readouts) and not recipe.rungs:
        _check_chooser(recipe)
    if recipe.budget is not None and recipe.verify:
        raise UserError(
            "study.verify: slots of rounds, which a budget has not; the last trial it pays for "
            "at the target measures what is recommended. Drop verify."
        )


def rung_count(recipe: Any) -> int:
    """How many rungs a `StudyRecipe` has: read-outs of branches, then proxies."""
    return len(recipe.readouts) + len(recipe.proxies)


def read_proxy(name: str | Mapping[str, Any]) -> ProxyRecipe:
    """The proxy recipe of a shipped name, a path, or a mapping (which may `include` one)."""
    return check_ranges(build(ProxyRecipe, proxy_data(name), "proxy"), "proxy")


def proxy_data(value: Any) -> Any:
    """The plain data of a proxy given by name, path or keys."""
    value = included("proxies", {"include": value} if isinstance(value, str) else value)
    if not isinstance(value, Mapping):
        return value
    if value.get("reweight") is None:
        return dict(value)
    return {**value, "reweight": choice_data(value["reweight"], "proxy.reweight")}


# --- private -------------------------------------------------------------------------------------


def _rung(rung: Any, proxy: Any) -> Any:
    """Keys alone change the study's proxy."""
    if isinstance(rung, Mapping) and "include" not in rung and isinstance(proxy, Mapping):
        rung = merge(proxy, rung)
    return proxy_data(rung)


def _read_rounds(data: dict[str, Any]) -> None:
    rounds = data.get("rounds")
    if not isinstance(rounds, (list, tuple)) or not any(isinstance(r, Mapping) for r in rounds):
        return
    ladder, sizes, rungs = list(data.get("ladder") or ()), [], []
    readouts = branching.readouts_of(data)
    for place, entry in enumerate(rounds):
        where = f"study.rounds[{place}]"
        if not isinstance(entry, Mapping) or "trials" not in entry or len(entry) != 2:
            raise UserError(
                f"{where}: where one round names its proxy, each is {{trials: 64, proxy: 20m}} or "
                f"{{trials: 64, rung: 0}}, but this is {entry!r}."
            )
        if "rung" in entry:
            rungs.append(_numbered(entry["rung"], readouts, len(ladder)))
        elif "proxy" in entry:
            proxy = _rung(entry["proxy"], data.get("proxy"))
            if proxy not in ladder:
                ladder.append(proxy)
            rungs.append(len(readouts) + ladder.index(proxy))
        else:
            other = next(key for key in entry if key != "trials")
            raise UserError(f"{where}: unknown key {other!r}. Known keys: trials, proxy, rung.")
        sizes.append(entry["trials"])
    if not ladder and not readouts:  # there is one rung
        if any(entry.get("rung") != TARGET for entry in rounds):
            raise UserError("study.rounds: `rung` needs a ladder; name the rungs in `ladder:`.")
        rungs = []
    if data.get("rungs") and list(data["rungs"]) != rungs:
        raise UserError(
            f"study.rungs: rounds name the rung of each already, as {rungs}, but rungs are "
            f"{data['rungs']!r}; change the rounds, and drop rungs or set rungs: []."
        )
    data.update(rounds=sizes, rungs=rungs, ladder=ladder)


def _numbered(rung: Any, readouts: list[str], proxies: int) -> Any:
    """The number of a rung given so, or by a read-out's name, or as the target."""
    if rung == TARGET:
        return len(readouts) + max(proxies, 1) - 1
    if isinstance(rung, str) and rung in READOUTS:
        if rung not in readouts:
            raise UserError(
                f"study.rounds: nothing is read off branches by {rung!r}; name it in "
                "branches: {read: [...]}."
            )
        return readouts.index(rung)
    return rung


def _check_chooser(recipe: Any) -> None:
    name = recipe.sampler.name
    try:
        sampler = lookup.find("sampler", name)
    except UserError:  # not here, where a study may only be looked at: whoever builds it says so
        return
    several = rung_count(recipe) > 1
    if several and not getattr(sampler, "chooses_rung", False):
        low, high = (recipe.readouts[-1], TARGET) if recipe.readouts else (0, 1)
        key = "branches" if recipe.readouts else "ladder"
        raise UserError(
            f"study.{key}: sampler {name!r} does not choose rungs; use simplex-gp, or say which "
            f"rung each round trains: rounds: [{{trials: 64, rung: {low}}}, {{trials: 16, rung: "
            f"{high}}}]."
        )
    if recipe.budget is not None and "rounds" in inspect.signature(sampler).parameters:
        raise UserError(
            f"study.budget: sampler {name!r} searches in rounds; use simplex-gp, or drop budget "
            "and say which rung each round trains."
        )
    if several and recipe.also:
        raise UserError(
            "study.ladder: rungs are chosen for one objective; drop also, or say which rung each "
            "round trains."
        )
