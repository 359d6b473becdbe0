"""Recipes: what a study is and what a proxy is. Strict YAML in, JSON out.

A recipe is read once, when a study is created, and stored in it; workers elsewhere join by name and
use the stored copy. Defaults live here and nowhere else. `include: other` derives one recipe from
another; `--set key.sub=value` is the only override.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from climb_opt import corpus_recipe, lookup
from climb_opt.choices import Choice as Choice
from climb_opt.choices import choice_data as choice_data
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError, within
from climb_opt.ladder import recipe as ladders
from climb_opt.ladder.branches import recipe as branching
from climb_opt.ladder.recipe import proxy_data
from climb_opt.ladder.recipe import read_proxy as read_proxy
from climb_opt.metrics import check_direction
from climb_opt.proxy_recipe import ModelRecipe as ModelRecipe
from climb_opt.proxy_recipe import ProxyRecipe as ProxyRecipe
from climb_opt.recipe_files import find, included, load_yaml, read_data, set_overrides
from climb_opt.schedules import check_shares, step_borders
from climb_opt.strict import as_list, build, check_ranges
from climb_opt.study_recipe import AUTO as AUTO
from climb_opt.study_recipe import FOUND
from climb_opt.study_recipe import MAIN as MAIN
from climb_opt.study_recipe import BudgetRecipe as BudgetRecipe
from climb_opt.study_recipe import ScoreRecipe as ScoreRecipe
from climb_opt.study_recipe import SpaceRecipe as SpaceRecipe
from climb_opt.study_recipe import StudyRecipe as StudyRecipe

log = logging.getLogger(__name__)


def read_study(name: str, overrides: Sequence[str] = ()) -> StudyRecipe:
    """The study recipe of a shipped name or a path, with `key.sub=value` overrides applied."""
    recipe = study_from(set_overrides(read_data("studies", name), overrides))
    if len(recipe.ladder) > 1 and not (recipe.rounds or recipe.budget):  # arms get theirs later
        raise UserError(
            "study.ladder: nothing is searched, and baselines run at the target alone; give a "
            "budget: {flops: 3e19}, or rounds, or drop ladder."
        )
    return recipe


def read_corpus(name: str, overrides: Sequence[str] = (), **more: Any) -> CorpusRecipe:
    """The corpus recipe of a shipped name or a path; of a study's recipe, that of its corpus.

    Args:
        overrides: `key=value`, applied to it.
        more: further keys, put in their place last.
    """
    keys = set(load_yaml(find("corpora", name)))
    if keys & (_keys(StudyRecipe) - _keys(CorpusRecipe)):
        corpus = read_study(name).corpus
        if isinstance(corpus, str):
            raise UserError(f"{name}: its corpus is a folder, {corpus!r}, and not how to build it.")
        data = dataclasses.asdict(corpus)
    else:
        data = read_data("corpora", name)
    return corpus_from({**set_overrides(data, overrides), **more})


def _keys(cls: Any) -> set[str]:
    return {key.name for key in dataclasses.fields(cls)}


def corpus_from(data: Any, where: str = "corpus") -> CorpusRecipe:
    """A corpus recipe from plain data, which may `include` one."""
    data = included("corpora", data)
    if isinstance(data, Mapping) and not data.get("inputs", True):
        raise UserError(f"{where}.inputs: name at least one file, folder, glob or prefixed input.")
    recipe = build(CorpusRecipe, corpus_recipe.plain(data), where)
    return check_ranges(recipe, where) if where == "corpus" else recipe  # a study's with the study


BEFORE = {"seeds": "common"}  # what studies did that store no such key


def study_from(data: Mapping[str, Any], *, stored: bool = False) -> StudyRecipe:
    """A study recipe from plain data: YAML, or the JSON `stored` in a study, whose numbers are what
    they are."""
    data = {**(BEFORE if stored else {}), **data}
    if isinstance(data.get("corpus"), CorpusRecipe):
        data["corpus"] = dataclasses.asdict(data["corpus"])
    if isinstance(data.get("corpus"), Mapping):
        corpus = corpus_from(data["corpus"], "study.corpus")
        if corpus.output is None:
            raise UserError("study.corpus: missing key 'output': the folder it is built in.")
        data["corpus"] = dataclasses.asdict(corpus)
    elif not isinstance(data.get("corpus", ""), str):
        wanted = "expected a folder, or a mapping of keys (inputs, output, ...)"
        raise UserError(f"study.corpus: {wanted}, but got {data['corpus']!r}.")
    if "proxy" in data:
        data["proxy"] = proxy_data(data["proxy"])
    branching.read(data)
    ladders.read(data)
    for key in ("sampler", "pruner"):
        if data.get(key) is not None:
            data[key] = choice_data(data[key], f"study.{key}")
    _move_first_round(data)
    if "baselines" in data:
        data["baselines"] = [_baseline(given) for given in as_list(data["baselines"])]
    if "evaluators" in data:
        given = as_list(data["evaluators"])
        data["evaluators"] = [choice_data(e, "study.evaluators") for e in given]
    recipe = build(StudyRecipe, data, "study")
    if not recipe.evaluators and recipe.proxy.command is None:
        raise UserError("study: evaluators must name at least one evaluator.")
    if not recipe.score:
        raise UserError("study: score must name at least one component, e.g. [arc_easy/bpb].")
    if not stored:
        check_ranges(recipe, "study")
        _check_names(recipe)
        _check_weights(recipe)
    ladders.check(recipe)
    if recipe.verify not in range(slots := max(sum(recipe.rounds), 1)):
        raise UserError(
            f"study.verify must leave a slot to search with, so be from 0 to {slots - 1} for "
            f"these rounds, but is {recipe.verify}."
        )
    if recipe.also:
        _check_also(recipe)
    _check_phases(recipe)
    branching.check(recipe)
    for name in recipe.methods:
        _check_served(recipe, name)
    return recipe


def _move_first_round(data: dict[str, Any]) -> None:
    """Version 0.1.0 had the key `prune_first_round` a second time, among the pruner's options."""
    pruner = data.get("pruner")
    if pruner is not None and "first_round" in pruner.get("options", {}):
        options = dict(pruner["options"])
        first_round = bool(options.pop("first_round"))
        data.update(pruner={**pruner, "options": options}, prune_first_round=first_round)
        _say_moved(str(first_round).lower())


@functools.cache  # a command reads a study's recipe several times
def _say_moved(value: str) -> None:
    log.warning(
        "study.pruner: first_round is the recipe's key prune_first_round now; read as "
        "prune_first_round: %s.",
        value,
    )


def _baseline(given: Any) -> Any:
    """A fixed mixture by its name, or a method: `doremi`, or {reweight: doremi, eta: 2.0}."""
    kinds, where = lookup.KINDS, "study.baselines"
    if isinstance(given, str) and given in kinds["reweighter"].keys() - kinds["baseline"].keys():
        given = {"reweight": given}
    if not isinstance(given, Mapping):
        return given
    if "reweight" not in given:
        raise UserError(
            f"{where}: expected the name of a fixed mixture ({', '.join(kinds['baseline'])}), or a "
            "method that sets weights, {reweight: doremi, ...its options}, but got "
            f"{dict(given)!r}."
        )
    method = choice_data(given["reweight"], f"{where}: reweight")
    beside = {k: v for k, v in given.items() if k not in ("name", "reweight")}
    options = {**method.get("options", {}), **beside}
    return {"name": given.get("name", method["name"]), "reweight": {**method, "options": options}}


def _check_names(recipe: StudyRecipe) -> None:
    """Raise unless each baseline has a name of its own, by which no other mixture is shown."""
    taken = {FOUND, *lookup.KINDS["baseline"], *lookup.KINDS["rule"]}
    for name in recipe.named:
        if recipe.named.count(name) > 1:
            raise UserError(
                f"study.baselines: two are named {name!r}; leave one out, or give a method another "
                "name: {name: ..., reweight: ...}."
            )
    for name in recipe.methods:
        if not name.strip() or "/" in name or name in taken:
            raise UserError(
                f"study.baselines: a method cannot be named {name!r}; give a name that no fixed "
                "mixture or rule has, without a slash."
            )


def _check_weights(recipe: StudyRecipe) -> None:
    """Raise where every mixture would have the same score, or the worst would be the best."""
    for name, objective in recipe.objectives().items():
        given = objective.score
        key = "study.score" if name == MAIN else f"study.also.{name}.score"
        if given != [AUTO]:
            check_direction(key, objective.coefficients(), objective.direction)
        if isinstance(given, dict) and not any(given.values()):
            raise UserError(
                f"{key}: every mixture scores 0, for all weights are 0: {', '.join(given)}; give "
                "one another weight."
            )


def _check_served(recipe: StudyRecipe, name: str) -> None:
    """Raise where nothing here could train a baseline by a method, or compare it."""
    if recipe.proxy.command is not None:
        key, why = "proxy.command", "trains by itself; have it move the weights"
    elif recipe.branches is not None:
        key, why = "branches", "prices mixtures that do not change, and a method's do"
    elif recipe.also:
        key, why = "also", "has several objectives, and a method's score is compared in one"
    else:
        return
    raise UserError(
        f"study.baselines: {name!r} sets weights while it trains, but {key} {why}; "
        "drop one of them."
    )


def _check_also(recipe: StudyRecipe) -> None:
    for name, objective in recipe.also.items():
        if name == MAIN or not objective.coefficients():
            why = "needs a name of its own and a component at least"
            raise UserError(f"study.also: objective {name!r} {why}.")
    if _searches_one(recipe.sampler.name):
        raise UserError(
            f"study.also: sampler {recipe.sampler.name!r} searches one objective; use simplex-gp, "
            "or nsga2 or tpe."
        )
    if recipe.verify:
        raise UserError(
            "study.also: verify measures one recommendation, and several objectives have none; "
            "drop verify."
        )
    if recipe.pruner is not None:
        raise UserError("study.also: Optuna prunes searches with one objective only; drop pruner.")


def _check_phases(recipe: StudyRecipe) -> None:
    count, bounds = len(recipe.phases), len(recipe.space.phases)
    if bounds and bounds != count:
        raise UserError(
            f"study.space.phases: bounds for each of {count or 1} phases (study.phases), but there "
            f"are {bounds}."
        )
    if not count:
        return
    shares = check_shares(recipe.phases, "study.phases")
    if count == 1:
        raise UserError("study.phases: a trial of one phase is the ordinary one; drop phases.")
    for proxy in recipe.proxies:
        if proxy.reweight is not None:
            raise UserError(
                f"study.phases: proxy.reweight ({proxy.reweight.name}) changes the mixture by "
                "itself, beginning with one; drop phases or reweight."
            )
        step = proxy.batch_tokens // proxy.sequence * proxy.sequence
        if proxy.command is not None:
            step = proxy.batch_tokens  # it may know of no sequences
        if proxy.tokens >= step > 0:  # else the proxy's own fault, said where it is built
            with within("study.phases"):
                step_borders(shares, proxy.tokens // step)


def _searches_one(sampler: str) -> bool:
    try:
        return bool(getattr(lookup.find("sampler", sampler), "one_objective", False))
    except UserError:  # not here, where a study may only be looked at: whoever builds it says so
        return False


def to_json(recipe: Any) -> str:
    """A recipe as canonical JSON: what a study stores, what `digest` hashes."""
    return json.dumps(_stated(recipe), sort_keys=True)


def _stated(held: Any) -> Any:
    """As `dataclasses.asdict`, without `SPARE` keys that say nothing."""
    if dataclasses.is_dataclass(held):
        keys = [(key, getattr(held, key.name)) for key in dataclasses.fields(held)]
        return {k.name: _stated(v) for k, v in keys if v or not k.metadata.get("spare")}
    if isinstance(held, Mapping):
        return {key: _stated(value) for key, value in held.items()}
    return [_stated(each) for each in held] if isinstance(held, (list, tuple)) else held


def digest(recipe: Any) -> str:
    """A short name for exactly this recipe."""
    return hashlib.sha256(to_json(recipe).encode()).hexdigest()[:16]
