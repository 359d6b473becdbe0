"""MixMin: the optimum of the branches' ensemble, trained before a search's other mixtures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

pytest.importorskip("torch")

import studying
from branching import BRANCHES, branched
from climb_opt.attributes import BRANCH, FACTS, SLOT
from climb_opt.errors import UserError
from climb_opt.ladder.branches.groups import branches_of
from climb_opt.objective import ProxyObjective
from climb_opt.plan import plan_of
from climb_opt.recipes import StudyRecipe, study_from
from climb_opt.reports.planned.plan_search import plan_search
from climb_opt.reports.report import report
from climb_opt.shards import Corpus
from climb_opt.study import open_study, read_recipe, work
from climb_opt.study.working import loaded_objective
from climb_opt.view import StudyView
from studying import PACE

journal = studying.journal  # a fixture

FIRST = "check/mixmin"


def recipe_of(corpus: Corpus, *reads: Any, **changes: Any) -> StudyRecipe:
    """A search whose branches are read for these; `changes` of its recipe."""
    return branched(corpus, replace(BRANCHES, read=("mixmin", *reads)), **changes)


def slots_of(study: optuna.Study) -> Mapping[Any, optuna.trial.FrozenTrial]:
    return {trial.user_attrs[SLOT]: trial for trial in StudyView(study).trials()}


def test_the_optimum_is_trained_before_all_mixtures_but_the_baselines(
    tiny_corpus: Corpus, tmp_path: Path, journal: str
) -> None:
    recipe = recipe_of(tiny_corpus, "ensemble", rounds=(2, 1), rungs=(0, 1))
    study = open_study(recipe, storage=journal, study_name="s")
    work(study, directory=tmp_path / "runs", pace=PACE)
    by_slot = slots_of(study)
    order = list(by_slot)
    assert order.index("mixmin") == 1 + 3 and order.index(FIRST) == order.index("mixmin") + 1 + 2
    view, found = StudyView(study), by_slot["mixmin"]
    assert found.state.name == "PRUNED" and found.params == {} and found.values is None
    mixture = found.user_attrs[FACTS]["mixture"]
    assert by_slot[FIRST].params == view.space.params(view.space.weights(mixture))
    assert by_slot[f"read/ensemble/{FIRST}"].params == by_slot[FIRST].params
    # No mixture that was read off the ensemble scores better by it, and it has cost no training.
    others = [t.value for s, t in by_slot.items() if "read/ensemble" in str(s) or s in (0, 1)]
    best = by_slot[f"read/ensemble/{FIRST}"].value
    assert best is not None and best <= min(v for v in others if v is not None) + 1e-6
    assert view.ladder is not None and view.ladder.spent([found]) == 0
    page = tmp_path / "r.html"
    report(study, page)
    assert "MixMin" in page.read_text()


def test_the_optimum_alone_is_a_search_of_one_mixture(
    tiny_corpus: Corpus, tmp_path: Path, journal: str
) -> None:
    recipe = recipe_of(tiny_corpus, rounds=(), rungs=(), baselines=())
    study = open_study(recipe, storage=journal, study_name="s")
    work(study, directory=tmp_path / "runs", pace=PACE)
    by_slot = slots_of(study)
    branches = [f"{BRANCH}{name}" for name in ("trunk", "web", "code", "math")]
    assert list(by_slot) == [*branches, "mixmin", FIRST]
    assert len(StudyView(study).history()) == 1
    objective = loaded_objective(study, read_recipe(study), tiny_corpus.path, tmp_path / "runs")
    tree = objective.rungs.tree
    scores = tree.ensemble.scores(
        tree.branches.shares(by_slot["mixmin"].user_attrs[FACTS]["mixture"])
    )
    for weights in StudyView(study).space.sample(np.random.default_rng(0), 50):
        other = tree.ensemble.scores(tree.branches.shares(StudyView(study).space.mixture(weights)))
        assert scores["sums/bpb"] <= other["sums/bpb"] + 1e-6


def test_a_plan_counts_the_optimums_trial_and_no_branch_for_it(tiny_corpus: Corpus) -> None:
    with_it, without = (
        plan_search(branched(tiny_corpus, replace(BRANCHES, read=reads))).costs
        for reads in (("mixmin", "ensemble", "merge"), ("ensemble", "merge"))
    )
    assert with_it.before - without.before == pytest.approx(with_it.rungs[-1].flops)


def test_an_optimum_that_cannot_be_found_is_not_waited_for(tiny_corpus: Corpus) -> None:
    recipe = recipe_of(tiny_corpus, "ensemble", "merge")
    plan = plan_of(recipe, None, tiny_corpus.tokens())

    def given_up(*lost: str) -> list[str]:
        due = plan.before.due(lambda slot: "given up" if slot in lost else "finished")
        return [str(slot) for stage in due for slot in stage]

    assert FIRST in given_up()
    assert not [slot for slot in given_up("mixmin") if FIRST in slot]
    assert "check/0" in given_up("mixmin")
    assert "mixmin" not in given_up("branch/web") and FIRST not in given_up("branch/web")


def test_a_score_that_is_not_convex_is_refused_before_training(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    wrong = recipe_of(tiny_corpus, direction="maximize")
    with pytest.raises(UserError, match="the problem is not convex"):
        ProxyObjective(tiny_corpus, wrong, directory=tmp_path / "runs" / "s")
    turned = recipe_of(tiny_corpus, direction="maximize", score={"sums/bpb": -1.0})
    ProxyObjective(tiny_corpus, turned, directory=tmp_path / "runs" / "t")


@pytest.mark.parametrize("name", ["trunk", "mixmin"])
def test_a_domain_with_the_name_of_another_part_is_refused_until_it_is_grouped(name: str) -> None:
    tokens = {name: 1e6, "web": 1e6}
    with pytest.raises(UserError, match=f"the domain '{name}' cannot give its branch that name"):
        branches_of(BRANCHES, tokens, 1000)
    grouped = replace(BRANCHES, groups={"mine": [name]})
    assert set(branches_of(grouped, tokens, 1000).names) == {"mine", "web"}


def test_a_round_is_not_scored_by_the_optimum(tiny_corpus: Corpus) -> None:
    data = {
        "corpus": str(tiny_corpus.path),
        "proxy": {"tokens": 4096, "sequence": 64, "batch_tokens": 256},
        "evaluators": ["heldout"],
        "score": ["sums/bpb"],
        "branches": {"read": ["merge", "mixmin"]},
    }
    with pytest.raises(UserError, match="rung"):
        study_from({**data, "rounds": [{"trials": 4, "rung": "mixmin"}]})
    with pytest.raises(UserError, match="mixmim"):  # said, not dropped from the list
        study_from({**data, "branches": {"read": ["merge", "mixmim"]}})
    recipe = study_from({**data, "rounds": [{"trials": 4, "rung": "target"}]})
    assert recipe.readouts == ("merge",) and recipe.rungs == (1,)
