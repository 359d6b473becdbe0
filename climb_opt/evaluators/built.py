"""The evaluators of a study's recipe, and what it may ask of them."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from climb_opt import lookup
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import Interrupted, TrialFailed, UserError, did_you_mean, listed
from climb_opt.evaluators.base import ByToken, Evaluator, Reporting
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.study_recipe import MIXMIN


def build_evaluator(corpus: Corpus, choice: Choice) -> Evaluator:
    """The evaluator a recipe names, with its options.

    Raises:
        UserError: no such evaluator or option; one of somebody's own cannot be made, or lacks what
            a search asks of it.
    """
    options = lookup.check_options("evaluator", choice.name, choice.options, {"corpus"})
    make = lookup.find("evaluator", choice.name)
    try:
        inspect.signature(make).bind(corpus, **options)
    except TypeError as error:
        raise UserError(
            f"study.evaluators: {choice.name!r} is called with the corpus, then its options by "
            f"name: {error}."
        ) from None
    if ":" not in choice.name:
        return make(corpus, **options)  # type: ignore[no-any-return]
    try:
        evaluator: Evaluator = make(corpus, **options)
        _check_own(choice.name, evaluator)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code: anything
        raise UserError(
            f"Evaluator {choice.name!r} raised {error!r} before any training."
        ) from error
    return evaluator


def _check_own(name: str, evaluator: Any) -> None:
    for method in ("components", "evaluate"):
        if not callable(getattr(evaluator, method, None)):
            raise UserError(
                f"Evaluator {name!r} must have the methods components() and "
                f"evaluate(model, accelerator), but has no {method}."
            )
    names = evaluator.components()
    given: list[Any] = (
        [None] if isinstance(names, str) or not isinstance(names, Iterable) else [*names]
    )
    if not all(isinstance(n, str) for n in given):
        raise UserError(
            f"Evaluator {name!r}: components() must return a list of names, such as "
            f"['arc_easy/acc'], but returned {names!r:.200}."
        )
    if twice := sorted({n for n in given if given.count(n) > 1}):
        raise UserError(f"Evaluator {name!r}: components() names {twice[0]!r} twice.")


def evaluated(choice: Choice, evaluator: Evaluator, *asked: Any) -> dict[str, float]:
    """What the evaluator of `choice` gives when it is asked to `evaluate(*asked)`.

    Raises:
        RuntimeError: one of somebody's own raised an error, or called `sys.exit`, which would end
            the search and all that come after it.
        TypeError: it returned something else than a mapping from names.
    """
    try:
        given = evaluator.evaluate(*asked)
    except SystemExit as error:
        raise RuntimeError(
            f"evaluator {choice.name!r} called sys.exit({error.code!r}); have it raise an error"
        ) from error
    except (TrialFailed, Interrupted, UserError):
        raise
    except Exception as error:  # the user's own code: anything
        if ":" not in choice.name:
            raise
        raise RuntimeError(f"evaluator {choice.name!r} raised {error!r}") from error
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(
            f"evaluator {choice.name!r} must return a mapping from components to numbers, but "
            f"returned {given!r:.200}"
        )
    return {**given}


def check_components(recipe: StudyRecipe, evaluators: list[Evaluator]) -> None:
    """Raise if the score or a constraint names what no evaluator gives, or a test set's score."""
    known = [name for evaluator in evaluators for name in evaluator.components()]
    reported = [n for e in evaluators if isinstance(e, Reporting) for n in e.reported()]
    _check_named(recipe, known, reported)


def check_foretold(recipe: StudyRecipe, corpus: CorpusRecipe) -> None:
    """Raise for what the evaluators or the score name that a corpus will lack, before it is built.

    Evaluators that are not here, or say nothing of it (`Foretelling`), are asked when it is there.
    """
    told = []
    for choice in recipe.evaluators:
        foretold = None
        with contextlib.suppress(lookup.NotHere):
            foretold = getattr(lookup.find("evaluator", choice.name), "foretold", None)
        told.append(None if foretold is None else foretold(corpus, **choice.options))
    known = [names for names in told if names is not None]
    if len(known) == len(told):
        _check_named(recipe, [*chain(*known)], [])


def _check_named(recipe: StudyRecipe, known: list[str], reported: list[str]) -> None:
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise UserError(f"study.evaluators: two evaluators give {twice[0]!r}; drop one of them.")
    named: list[tuple[str, Mapping[str, float]]] = [
        ("score", recipe.coefficients()),
        *((f"also.{name}", objective.coefficients()) for name, objective in recipe.also.items()),
        ("constraints", recipe.constraints),
    ]
    bring = all(proxy.command is not None for proxy in recipe.proxies)
    for where, names in named:
        for name in names:
            if name in reported:
                raise UserError(
                    f"study.{where}: {name!r} is measured on a test set; a search would fit it. "
                    "Search on a validation split, or set allow_test: true in the evaluator."
                )
            if name not in known and not bring:
                raise UserError(
                    f"study.{where}: no evaluator gives {name!r}."
                    f"{did_you_mean(name, known)} Known components: {listed(known)}."
                )


def by_token(
    recipe: StudyRecipe, evaluators: list[Evaluator], corpus: Corpus
) -> dict[str, ByToken]:
    """The evaluators that can score an ensemble, by what tells their tokens from others'.

    Raises:
        UserError: an ensemble is to be read, but something that the study names is no sum over
            tokens.
    """
    found: dict[str, ByToken] = {
        json.dumps([choice.name, choice.options, corpus.digest], sort_keys=True): evaluator
        for choice, evaluator in zip(recipe.evaluators, evaluators, strict=True)
        if isinstance(evaluator, ByToken)
    }
    reads = () if recipe.branches is None else recipe.branches.read
    if {"ensemble", MIXMIN} & {*reads}:
        known = [name for evaluator in found.values() for name in evaluator.token_shares()]
        for name in needed_components(recipe):
            if name not in known:
                raise UserError(
                    f"study.branches.read: an ensemble cannot score {name!r}, which is no sum over "
                    f"tokens; it scores {listed(known)}. Read by merge, which any evaluator scores."
                )
    return found


def needed_components(recipe: StudyRecipe) -> list[str]:
    """What a recipe's objectives and constraints name."""
    objectives = [objective.coefficients() for objective in recipe.objectives().values()]
    return list(dict.fromkeys(n for names in (*objectives, recipe.constraints) for n in names))


def add_up(components: Mapping[str, float], coefficients: Mapping[str, float]) -> float:
    """Sum of coefficient x component."""
    return sum(c * components[name] for name, c in coefficients.items())
