"""What status and report say of a trunk and its branches, and what a search does without trust."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import studying
from branching import BRANCHES, branched
from climb_opt import status
from climb_opt.attributes import FACTS, RUNG, SLOT
from climb_opt.cli.following import following
from climb_opt.cli.search import _conclusion
from climb_opt.cli.status import describe
from climb_opt.errors import UserError
from climb_opt.proxy.ladders import study_ladder
from climb_opt.recipes import BudgetRecipe, Choice
from climb_opt.reports.planned.plan_search import plan_search
from climb_opt.reports.report import report
from climb_opt.samplers.climb_sampler import ClimbSampler
from climb_opt.shards import Corpus
from climb_opt.study import open_study, work
from climb_opt.study_recipe import BranchesRecipe
from climb_opt.view import StudyView
from studying import PACE, score
from training import SMALL

journal = studying.journal  # a fixture


def searched(
    corpus: Corpus, journal: str, *, sign: float, name: str = "s", **changes: Any
) -> optuna.Study:
    """A search by a formula; read-outs rank as it does (1) or the other way round (-1)."""

    def by_rung(trial: optuna.Trial) -> float:
        below = trial.user_attrs.get(RUNG, 2) < 2
        return (sign if below else 1.0) * score(trial)

    study = open_study(branched(corpus, **changes), storage=journal, study_name=name)
    with following(study, StudyView(study).plan) as follow:
        work(study, objective=by_rung, pace=PACE, on_trial=follow.show)
    return study


def test_a_trusted_read_out_scores_its_rounds(tiny_corpus: Corpus, journal: str) -> None:
    study = searched(tiny_corpus, journal, sign=1.0)
    now = status(study)
    assert now.done and now.before is not None
    assert now.before.size == now.before.finished == 1 + 3 + 6 + 2 * 6
    assert now.size == now.finished == 22 + 6 and now.extra == 0
    text = describe(now)
    assert "merging holds: rank correlation with 6 trained mixtures 1.00" in text
    assert "caution" not in text


def test_a_read_out_that_does_not_hold_is_said_and_not_used(
    tiny_corpus: Corpus,
    journal: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("climb_opt.progress.FIRST", 0.0)
    study = searched(tiny_corpus, journal, sign=-1.0)
    assert capsys.readouterr().err.splitlines()[-1].startswith("s: 24 of 24 trials")
    now = status(study)
    assert now.done and [r.size for r in now.rounds] == [0, 2]
    assert "caution: merging does not hold here" in describe(now)
    first, *left_out = _conclusion(now).splitlines()
    assert "24 of 24 slots done" in first
    assert [said.partition(" here")[0] for said in left_out] == [
        "caution: the ensemble does not hold",
        "caution: merging does not hold",
    ]
    numbered = [t for t in study.get_trials() if isinstance(t.user_attrs[SLOT], int)]
    assert [t.user_attrs[SLOT] for t in numbered] == [4, 5]
    # The first round that is trained is drawn as a search without branches begins.
    view = StudyView(study)
    alone = ClimbSampler(view.space, rounds=(2,), predictor="loglinear", pool_size=200, seed=0)
    params = [alone.plan_ahead(optuna.create_study(sampler=alone), slot)[0] for slot in (0, 1)]
    assert [t.params for t in numbered] == params


def test_a_sampler_that_chooses_rungs_buys_none_that_does_not_hold(
    tiny_corpus: Corpus, journal: str
) -> None:
    plain = branched(tiny_corpus)
    ladder = study_ladder(plain, tiny_corpus.tokens(), tiny_corpus.vocab_size)
    assert ladder is not None
    changes: dict[str, Any] = {"rounds": (), "rungs": (), "ladder": (SMALL,)}
    changes["sampler"] = Choice("simplex-gp")
    changes["budget"] = BudgetRecipe(float(14 * ladder.costs[-1]))
    study = searched(tiny_corpus, journal, sign=-1.0, **changes)
    chosen = [t.user_attrs[RUNG] for t in study.get_trials() if isinstance(t.user_attrs[SLOT], int)]
    assert chosen and set(chosen) == {2}


def test_a_budget_that_does_not_pay_for_trunk_and_branches_is_refused(
    tiny_corpus: Corpus, journal: str
) -> None:
    ladder = study_ladder(branched(tiny_corpus), tiny_corpus.tokens(), tiny_corpus.vocab_size)
    assert ladder is not None
    changes: dict[str, Any] = {"rounds": (), "rungs": (), "ladder": (SMALL,)}
    changes["sampler"] = Choice("simplex-gp")
    paid = BudgetRecipe(float(5 * ladder.costs[-1]))  # two baselines and three trials
    recipe = branched(tiny_corpus, budget=paid, **changes)
    with pytest.raises(UserError, match=r"after .* of trunk, branches and their checks"):
        open_study(recipe, storage=journal, study_name="s")


def test_a_report_has_a_section_on_trunk_and_branches(
    tiny_corpus: Corpus, journal: str, tmp_path: Path
) -> None:
    study = searched(tiny_corpus, journal, sign=1.0)
    page = tmp_path / "r.html"
    report(study, page)
    text = page.read_text()
    assert "Trunk and branches" in text and "Merging holds" in text
    assert "4 mixtures of the search were read off branches and not trained" in text
    assert "Training them from the trunk instead would have taken" in text


def test_domains_that_share_a_branch_are_said_before_and_after_a_search(
    tiny_corpus: Corpus, journal: str, tmp_path: Path
) -> None:
    pair = replace(BRANCHES, groups={"text": ["code", "math"]})
    said = "code, math have one branch: what is read off the branches does not tell them apart"
    assert said in plan_search(branched(tiny_corpus, pair)).text
    study = open_study(branched(tiny_corpus, pair), storage=journal, study_name="s")
    assert f"caution: {said}" in describe(status(study))
    work(study, objective=score, pace=PACE)
    report(study, tmp_path / "r.html")
    assert said in (tmp_path / "r.html").read_text()


def test_a_trunk_alone_shows_no_verdict(tiny_corpus: Corpus, journal: str) -> None:
    trunk = BranchesRecipe(read=())
    study = open_study(branched(tiny_corpus, trunk, rungs=()), storage=journal, study_name="s")
    work(study, objective=score, pace=PACE)
    now = status(study)
    assert now.done and now.verdicts == () and now.before is not None and now.before.size == 1
    assert np.isfinite(study.best_value) and FACTS in study.trials[0].user_attrs


def test_a_plan_states_what_trunk_and_branches_cost(tiny_corpus: Corpus) -> None:
    plan = plan_search(branched(tiny_corpus))
    costs = {rung.name.partition("@")[0]: rung for rung in plan.costs.rungs}
    assert costs["merge"].trials == 4 and plan.costs.rungs[-1].trials == 2 + 2
    target = plan.costs.rungs[-1].flops
    # The trunk as much as a trial, three branches of half as much, four mixtures that check.
    assert plan.costs.before == pytest.approx((1 + 3 / 2 + 4) * target)
    assert plan.regrets == () and "are not emulated" in plan.text
    alone = plan_search(branched(tiny_corpus, BranchesRecipe(read=()), rungs=()))
    assert alone.costs.total == pytest.approx((1 + 6 + 2) * target)
