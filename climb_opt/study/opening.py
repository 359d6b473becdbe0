"""Creating and joining a study. Whoever comes with another recipe or corpus is refused."""

from __future__ import annotations

import dataclasses
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from climb_opt import recipe_files, recipes
from climb_opt.attributes import AGGREGATE, CORPUS, LADDER, RECIPE, REPEATED, WEIGHTS
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError, did_you_mean, listed
from climb_opt.evaluators.built import check_foretold
from climb_opt.plan import space_for
from climb_opt.proxy.ladders import branching_flops, study_ladder
from climb_opt.recipes import StudyRecipe
from climb_opt.shards import MANIFEST, Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import (
    describe,
    explained,
    is_outage,
    let_go,
    open_storage,
    persist,
    study_lock,
)
from climb_opt.study.asked import (
    check_budget,
    check_choices,
    check_measurable,
    check_recipe,
    read_asked,
    repeated,
    say_weights,
    weighed,
)
from climb_opt.study.carried import carried
from climb_opt.study.corpora import corpus_for, is_override, load_at, to_be_built
from climb_opt.study.own_folder import leave_folder
from climb_opt.view import StudyView, load_study, store_space

log = logging.getLogger(__name__)


def open_study(
    recipe: StudyRecipe | str | None = None,
    *,
    storage: str | Path | BaseStorage | None = None,
    study_name: str | None = None,
    overrides: Sequence[str] = (),
    create: bool = True,
    on_create: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> optuna.Study:
    """The study of a recipe: created, or joined if it exists.

    Args:
        recipe: a recipe; the path or shipped name of one; the name of an existing study, whose
            stored recipe is then used; or None with `study_name`, for the same.
        storage: see `storages.open_storage`.
        study_name: the recipe's own name by default.
        overrides: `key.sub=value`, applied to the recipe.
        create: False for commands that only look at or steer a study.
        on_create: called with the news of it when this call made the study; None: it is logged.
        stop: wait for a storage that is away as long as it takes, as a worker does, until this says
            so; None: a minute. The same holds for all that is done with the study.

    Raises:
        UserError: no such recipe or study, another recipe or corpus than the study's, a study of
            another program, a storage that cannot be used.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/open.journal")  # a recipe of yours
    >>> study.study_name, climb_opt.status(study).size
    ('tiny', 6)
    """
    name, wanted = read_asked(recipe, study_name, overrides)
    new = wanted if create else None

    def look(opened: BaseStorage, corpus: Corpus | None) -> optuna.Study | None:
        existing = optuna.get_all_study_names(opened)
        if name not in existing and new is None:
            raise UserError(_no_study(name, existing, opened, recipe))
        study = load_study(opened, name) if name in existing else None
        if study is None or RECIPE not in study.user_attrs:
            if new is not None and corpus is None:
                check_choices(new)  # what is wrong is said before a corpus is built
                asked, _ = weighed(new, opened, name)
                if (built := to_be_built(asked)) is not None:
                    check_foretold(asked, built)
                return None
            study = _complete(opened, name, new, corpus, on_create or log.info)
        return study

    def attempt(corpus: Corpus | None) -> optuna.Study | None:
        opened, study = open_storage(storage, write=create, stop=stop), None
        try:
            study = look(opened, corpus)
        finally:
            if study is None and opened is not storage:
                let_go(opened)
        return study

    def patiently(corpus: Corpus | None = None) -> optuna.Study | None:
        with explained(storage):
            return persist(partial(attempt, corpus), stop)

    study = patiently()
    if study is None:  # with no session open: a corpus may take hours to build
        assert new is not None
        study = patiently(corpus_for(new))
    assert study is not None
    with explained(storage):
        if wanted is None and overrides:
            wanted = overridden(read_recipe(study), overrides)
        if wanted is not None:
            check_recipe(study, wanted)
    return study


def read_recipe(study: optuna.Study) -> StudyRecipe:
    """The recipe that a study was created from."""
    recipe = StudyView(study).recipe
    if recipe is None:
        raise UserError(
            f"Study {study.study_name!r} in {describe(StudyView(study).storage)} was not made by "
            "climb_opt: it holds no recipe. Name another study."
        )
    return recipe


def discard_untried(study: optuna.Study, directory: str | Path | None = None) -> bool:
    """Delete a study without trials: what cannot train must not keep its name from what can.

    Returns whether it was one.

    Args:
        directory: of runs; the study's folder there goes too, if nothing of a run lies in it.
    """
    view = StudyView(study)
    if view.trials():
        return False
    if directory is not None:
        leave_folder(study, directory)
    optuna.delete_study(study_name=view.name, storage=view.storage)
    return True


def corpus_of(study: optuna.Study, path: str | Path | None, *, needed: bool) -> Corpus | None:
    """The study's corpus; None where it is not at hand and neither `needed` nor named by `path`.

    Raises:
        UserError: it is missing though needed, or it is another one.
    """
    view, optional = StudyView(study), not needed and not path
    if optional and view.recipe is None:
        return None
    folder = Path(path or read_recipe(study).corpus_folder)
    if optional and not (folder / MANIFEST).is_file():
        return None
    corpus = load_at(folder)
    if optional and (view.corpus is None or not corpus.is_known_as(view.corpus.digest)):
        return None  # another corpus lies where the study's did
    check_corpus(study, corpus)
    return corpus


def check_corpus(study: optuna.Study, corpus: Corpus) -> None:
    """Raise unless this is the very corpus that the study was created with."""
    stored = StudyView(study).corpus
    if stored is not None:
        corpus.check_known_as(stored.name, stored.digest, f"Study {study.study_name!r}")


def corpus_here(study: optuna.Study, overrides: Sequence[str]) -> str | CorpusRecipe | None:
    """Where the study's corpus lies on this machine by the overrides; None: they do not say."""
    ours = [o for o in overrides if is_override(o)]
    return overridden(read_recipe(study), ours).corpus if ours else None


def load_corpus(study: optuna.Study, here: str | Path | CorpusRecipe | None = None) -> Corpus:
    """The study's corpus, found or built on this machine.

    Args:
        here: where it lies, or how it is built, if not as the recipe says.

    Raises:
        UserError: it is missing, or another one.
    """
    stored = StudyView(study).corpus

    def known(corpus: Corpus) -> bool:
        return stored is not None and corpus.is_known_as(stored.digest)

    corpus = corpus_for(read_recipe(study), here, None if stored is None else known)
    check_corpus(study, corpus)
    return corpus


def awaits_corpus(recipe: str | None, overrides: Sequence[str]) -> bool:
    """Whether the study of a recipe's file cannot be there yet, for its corpus is to be built."""
    wanted = read_asked(recipe, "", overrides)[1]
    return wanted is not None and to_be_built(wanted) is not None


# --- private -----------------------------------------------------------------------------------


def _no_study(name: str, existing: list[str], storage: BaseStorage, recipe: object) -> str:
    what, known, shipped = "study", existing, ""
    if recipe == name:
        names = recipe_files.names("studies")
        what, known = "recipe or study", [*existing, *names]
        shipped = f" Shipped recipes: {', '.join(names)}."
    where = f"{describe(storage)}.{did_you_mean(name, known)}"
    return f"No {what} {name!r} in {where} Studies: {listed(existing)}.{shipped}"


def _complete(
    storage: BaseStorage,
    name: str,
    recipe: StudyRecipe | None,
    corpus: Corpus | None,
    on_create: Callable[[str], None],
) -> optuna.Study:
    """A study that does not exist yet, or is without its recipe: its creator died or is at it."""
    if recipe is None or corpus is None:
        study = load_study(storage, name)
        with study_lock(study):
            read_recipe(study)
        return study
    space = space_for(corpus.tokens(), recipe)  # bounds that no mixture meets are found here
    ladder = study_ladder(recipe, corpus.tokens(), corpus.vocab_size)
    if ladder is not None and recipe.budget is not None:
        before = branching_flops(recipe, ladder, corpus.tokens())
        check_budget(recipe.budget.flops, recipe, ladder, before)
    check_measurable(weighed(recipe, storage, name)[0], corpus, space)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        directions=_directions(recipe),
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    with study_lock(study):
        if RECIPE in study.user_attrs:
            return study
        asked, found = weighed(carried(recipe), storage, name)
        if study.get_trials(deepcopy=False) or study.directions != _directions(recipe):
            read_recipe(study)  # raises: it is another program's
        try:
            noise, rungs = repeated(recipe, storage, name), ladder and ladder.to_data()
            for fact, value in ((WEIGHTS, found), (REPEATED, noise), (LADDER, rungs)):
                if value:
                    study.set_user_attr(fact, value)
            _describe(study, corpus, space, asked)
        except Exception as error:
            if not is_outage(error):  # what cannot be stored must not keep its name
                discard_untried(study)
            raise
    on_create(f"Created study {name} in {describe(storage)}.")
    if found:
        say_weights(name, found)
    return study


def _describe(
    study: optuna.Study, corpus: Corpus, space: MixtureSpace, recipe: StudyRecipe
) -> None:
    """Write what a study is about, the recipe last."""
    facts = {"name": corpus.name, "digest": corpus.digest, "tokens": corpus.tokens()}
    study.set_user_attr(CORPUS, facts)
    store_space(study, space)
    study.set_user_attr(AGGREGATE, recipe.coefficients())
    with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
        study.set_metric_names(list(recipe.objectives()))
    study.set_user_attr(RECIPE, recipes.to_json(recipe))


def overridden(stored: StudyRecipe, overrides: Sequence[str]) -> StudyRecipe:
    """A study's recipe with `key.sub=value` applied."""
    data = recipe_files.set_overrides(dataclasses.asdict(stored), overrides)
    return recipes.study_from(json.loads(json.dumps(data)))


def _directions(recipe: StudyRecipe) -> list[StudyDirection]:
    return [StudyDirection[o.direction.upper()] for o in recipe.objectives().values()]
