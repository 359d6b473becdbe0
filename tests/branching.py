"""A small study with a trunk and branches, for tests of what is read off them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from climb_opt.proxy.branches.tree import Tree
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.shards import Corpus
from climb_opt.study_recipe import BranchesRecipe
from training import SMALL

BRANCHES = BranchesRecipe(trunk=0.5, tokens=2048, read=("ensemble", "merge"), check=4)


def branched(corpus: Corpus, branches: BranchesRecipe = BRANCHES, **changes: Any) -> StudyRecipe:
    """Three domains, 16 steps of the target, 4 of a branch."""
    recipe = StudyRecipe(
        corpus=str(corpus.path),
        proxy=SMALL,
        evaluators=(Choice("heldout", {"target": "sums"}),),
        score=["sums/bpb"],
        rounds=(4, 2),
        rungs=(1, 2),
        sampler=Choice("climb", {"predictor": "loglinear", "pool_size": 200}),
        max_attempts=2,
        branches=branches,
    )
    return replace(recipe, **changes)


def tree_of(corpus: Corpus, folder: Path, recipe: StudyRecipe | None = None) -> Tree:
    """The trunk and branches of such a study in a folder, not trained yet."""
    recipe = recipe or branched(corpus)
    group = ProxyGroup("fp32")
    target = Trainer(corpus, recipe.proxy, group, directory=folder / "runs" / "s")
    return Tree(target, recipe)
