"""The corpus of a study on this machine: found, or built as its recipe says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError
from climb_opt.recipes import StudyRecipe
from climb_opt.shards import ELSEWHERE, MANIFEST, Corpus


def corpus_for(
    recipe: StudyRecipe,
    here: str | Path | CorpusRecipe | None = None,
    known: Callable[[Corpus], bool] | None = None,
) -> Corpus:
    """The corpus of a study's recipe.

    Args:
        here: where it lies on this machine, or how it is built, if not as the recipe says.
        known: whether a corpus is the study's; None: the study is about to be created.

    Raises:
        UserError: it is not there and the recipe does not say how to build it; anything wrong with
            its building.
    """
    where = here or recipe.corpus
    if not isinstance(where, CorpusRecipe):
        return load_at(where)
    from climb_opt.corpus.ensure import ensure  # building loads what no other command needs

    return ensure(where, known)


def load_at(where: str | Path) -> Corpus:
    """The corpus in the folder where a study, or a person for it, says that it lies.

    Raises:
        UserError: it is not there, with how another place is said; or it is not whole.
    """
    if not (Path(where) / MANIFEST).is_file():
        raise UserError(
            f"No corpus at {str(where)!r}: {MANIFEST} is missing. Where it lies elsewhere, name "
            f"that folder ({ELSEWHERE}); else build it with `climb-opt corpus build INPUT... "
            "--output FOLDER`."
        )
    return Corpus.load(where)


def to_be_built(recipe: StudyRecipe) -> CorpusRecipe | None:
    """How the recipe's corpus is built; None: the recipe does not say, or it is there."""
    there = (Path(recipe.corpus_folder) / MANIFEST).is_file()
    return None if there or not isinstance(recipe.corpus, CorpusRecipe) else recipe.corpus


def is_override(override: str) -> bool:
    """Whether a `key=value` says where the corpus is, or how it is built."""
    return override.partition("=")[0].split(".")[0] == "corpus"
