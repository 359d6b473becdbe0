"""The corpus of a study on this machine: found, or built as its recipe says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.recipes import StudyRecipe
from climb_opt.shards import MANIFEST, Corpus


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
        return Corpus.load(where)
    from climb_opt.corpus.ensure import ensure  # building loads what no other command needs

    return ensure(where, known)


def is_to_be_built(recipe: StudyRecipe) -> bool:
    """Whether the recipe says how to build its corpus, and it is not there yet."""
    folder = Path(recipe.corpus_folder)
    return isinstance(recipe.corpus, CorpusRecipe) and not (folder / MANIFEST).is_file()


def is_override(override: str) -> bool:
    """Whether a `key=value` says where the corpus is, or how it is built."""
    return override.partition("=")[0].split(".")[0] == "corpus"
