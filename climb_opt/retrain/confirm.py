"""`climb_opt.confirm`: retrain what a search recommends, and the baselines, with fresh seeds."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple, Unpack

import optuna

from climb_opt import lookup, recipes
from climb_opt.attributes import BASELINE, CONFIRM, CONFIRMED_IN
from climb_opt.errors import UserError, check_number, did_you_mean
from climb_opt.measures import apart
from climb_opt.metrics import unit_of
from climb_opt.paths import path_mean
from climb_opt.phases import one_phase
from climb_opt.recipes import StudyRecipe
from climb_opt.retrain.finals import SUFFIX, Finals, choose, open_confirmation, race_seeds, twin
from climb_opt.retrain.paired import Confirmation, no_claim
from climb_opt.retrain.race import confirmation_of, run
from climb_opt.retrain.sibling import Mixture, Runner, Training, at_target, train_beside
from climb_opt.selection import advised
from climb_opt.selection.rules import within
from climb_opt.storages import command_on
from climb_opt.study import baselines, read_recipe
from climb_opt.study.working import check_own
from climb_opt.study_recipe import FOUND
from climb_opt.view import StudyView, study_named

ALL = "all"


class Terms(NamedTuple):
    """What is asked for: as the arguments of `confirm`."""

    seeds: int | None = None
    rules: str | Iterable[str] = ()
    budget: int | None = None
    proxy: str | None = None
    name: str | None = None


class Begun(NamedTuple):
    """The confirm study, what it retrains, and rules left out: rule -> whose mixture is the same.

    `as_good`: which mixture is as good as the recommended one for all that is known, by what was
    retrained before where that says so.
    """

    study: optuna.Study
    finals: Finals
    same: dict[str, str]
    as_good: str


def confirm(
    study: optuna.Study,
    *,
    seeds: int | None = None,
    rules: str | Iterable[str] = (),
    budget: int | None = None,
    proxy: str | None = None,
    name: str | None = None,
    **training: Unpack[Training],
) -> Confirmation:
    """Retrain the mixture found and the baselines with fresh seeds: is the gain real?

    An ordinary study beside `study`; call it in as many processes and on as many machines as you
    like. Stopped, it is continued by the same call.

    Args:
        seeds: fresh seeds for each mixture (default: the recipe's; in a race, as many as the
            budget pays for once one finalist is left).
        rules: further finalists by their rule, or "all"; text may name several, with commas.
        budget: a race: at most this many training runs.
        proxy: train another proxy: a shipped name or a path.
        name: of the confirm study (default: NAME-confirm).
        training: `objective`, `corpus`, `directory`, `stop`, `on_trial` as of `climb_opt.work`. An
            objective finds the trial's seed in its attribute `climb_opt.attributes.SEED`.

    Raises:
        UserError: nothing to confirm yet, several objectives, no baselines, or other mixtures than
            the confirm study began with.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/confirm.journal")
    >>> space = climb_opt.MixtureSpace(climb_opt.Corpus.load("corpora/tiny").tokens())
    >>> score = lambda trial: -space.suggest(trial)["math"]
    >>> climb_opt.work(study, objective=score)
    >>> found = climb_opt.confirm(study, seeds=2, objective=score)
    >>> found.difference("found", "prior").verdict
    'better'
    """
    check_own(training.get("objective"), read_recipe(study))
    begun = begin(study, Terms(seeds, rules, budget, proxy, name))
    train_beside(begun.study, partial(work_on, study, begun.study), training)
    return confirmation_of(begun.study)


def begin(study: optuna.Study, terms: Terms) -> Begun:
    """Create the confirm study, or join it. Terms and errors are those of `confirm`."""
    recipe = read_recipe(study)
    finals, same, as_good = _finals(study, recipe, terms)
    proxy = recipe.proxy if terms.proxy is None else recipes.read_proxy(terms.proxy)
    recipe = at_target(recipe, proxy=proxy)
    return Begun(*open_confirmation(study, finals, recipe, name=terms.name), same, as_good)


def work_on(study: optuna.Study, confirm: optuna.Study, runner: Runner) -> None:
    """Retrain until nothing is wanted any more; `study` remembers where it was confirmed."""
    earlier = [n for n in study.user_attrs.get(CONFIRMED_IN, []) if n != confirm.study_name]
    study.set_user_attr(CONFIRMED_IN, [*earlier, confirm.study_name])
    run(confirm, runner, max_attempts=read_recipe(confirm).max_attempts)


def confirmation_beside(study: optuna.Study) -> Confirmation | None:
    """What the study's latest confirm study with a verdict holds, else the latest one, if any."""
    view, found = StudyView(study), []
    for name in reversed([f"{view.name}{SUFFIX}", *view.attributes.get(CONFIRMED_IN, [])]):
        confirm = study_named(view.storage, name)
        if confirm is not None and CONFIRM in confirm.user_attrs:
            found.append(confirmation_of(confirm))
            if found[-1].differences():
                return found[-1]
    return found[0] if found else None


# --- private -----------------------------------------------------------------------------------


def _finals(
    study: optuna.Study, recipe: StudyRecipe, terms: Terms
) -> tuple[Finals, dict[str, str], str]:
    """What is retrained; rule -> the finalist that is the same mixture; and what is as good."""
    asked = terms.rules.split(",") if isinstance(terms.rules, str) else terms.rules
    rules = [name.strip() for name in asked]
    view = StudyView(study)
    if len(view.maximize) > 1:
        raise UserError(
            f"Study {view.name!r} has several objectives, but a verdict is about one. "
            f"Choose from its Pareto set in `{command_on(study, 'report')}`, then "
            f"`{command_on(study, 'export', '--trial', 'N', '--format', 'FORMAT')}`."
        )
    advice = advised(study, "to confirm", every=bool(rules))
    recommended = {FOUND: dict(advice.chosen)}
    wanted = _checked(rules, list(advice.recommended))
    recommended.update({r: dict(m) for r, m in advice.recommended.items() if r in wanted})
    references = _references(view, recipe)
    if not references:
        raise UserError(
            "The recipe has no baselines to compare with; add `baselines: [prior]` and search "
            "again under another --study-name."
        )
    mixtures, finalists, baseline_names = choose(recommended, references)
    same = {
        name: min(finalists, key=lambda f: apart(recommended[f], recommended[name]))
        for name in sorted(set(recommended) - set(finalists))
    }
    found = {name: mixtures[name] for name in finalists}
    twins = {n: twin(mixtures[n], found) for n in baseline_names if n not in recipe.methods}
    seeds = recipe.confirm_seeds if terms.seeds is None else terms.seeds
    if terms.seeds is None and terms.budget is not None:
        alone = sum(not twins.get(name) for name in baseline_names)
        seeds = race_seeds(terms.budget, len(finalists), alone)
    check_number("confirm: the last fresh seed", recipe.seed + seeds, 0, lookup.MOST_SEED)
    finals = Finals(
        of=view.name,
        mixtures=mixtures,
        finalists=finalists,
        references=baseline_names,
        seeds=seeds,
        first_seed=recipe.seed + 1,  # the search's own are `study.seeds.APART` from one another
        budget=terms.budget,
        unit=unit_of(recipe.coefficients()),
        methods=tuple(recipe.methods),
        twins={name: finalist for name, finalist in twins.items() if finalist},
    )
    return finals, same, no_claim(advice.chosen, confirmation_beside(study))


def _references(view: StudyView, recipe: StudyRecipe) -> dict[str, Mixture]:
    """Baseline -> its mixture; of a method the mean of its path, or where it has none what it began
    with."""
    space, one = view.space, one_phase(view.space)
    slots = baselines(recipe, space).items()
    found: dict[str, Mixture] = {str(slot).removeprefix(BASELINE): m for slot, m in slots}
    paths = {m.name: path_mean(m.path) for m in view.history().methods}
    for name in recipe.methods:
        found[name] = space.mixture(within(space, paths.get(name, one.mixture(one.prior))))
    return found


def _checked(rules: list[str], known: list[str]) -> set[str]:
    if rules == [ALL]:
        return set(known)
    if unknown := sorted(set(rules) - set(known)):
        name, every = unknown[0], [*known, ALL]
        hint = did_you_mean(name, every)
        raise UserError(f"--rules: unknown rule {name!r}.{hint} Known: {', '.join(every)}.")
    return set(rules)
