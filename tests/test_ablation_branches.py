"""Arms with a trunk and branches: one budget of FLOPs, which nobody else has paid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from climb_opt.ablation.recipe.plan import plan_text
from climb_opt.ablation.recipe.reading import ablation_from, read_ablation
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import arms
from climb_opt.ablation.run.results import Archive
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.attributes import FACTS, SLOT
from climb_opt.errors import UserError
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import open_study
from climb_opt.view import all_trials
from test_ablation_live import BASE

TRUNK = {"trunk": 0.5, "tokens": 256, "general": 0, "check": 4}
ARMS: dict[str, Any] = {
    "random": {"sampler": "random"},
    "branches": {"sampler": "simplex-gp", "branches": {"read": ["ensemble"]}},
    "mixmin": None,
}


def small(corpus: Corpus, **changes: Any) -> AblationRecipe:
    base = {**BASE, "corpus": str(corpus.path), "branches": {**TRUNK, "read": []}}
    given = {"objective": "live", "base": base, "arms": ARMS, "seeds": 1, "budget": {"trials": 7}}
    return ablation_from({**given, "reference": "random", **changes})


def test_arms_with_branches_spend_the_flops_of_the_others(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    asked = small(tiny_corpus)
    by_name = {arm.name: arm.study for arm in arms(asked)}
    assert by_name["random"].rounds == (2 * 7 - 1,) or sum(by_name["random"].rounds) == 2 * 7 - 1
    bought = by_name["branches"].budget
    assert bought is not None and bought.flops == 7
    plan = plan_text("x", asked)
    assert "FLOPs of 7 target trials" in plan

    found = {r.arm: r for r in run_ablation(asked, Archive(tmp_path), prefix="x")}
    assert all(r.final is not None and not r.error for r in found.values())
    trial = found["random"].flops / 7  # a whole one: the trunk and 13 halves are seven
    assert 6 * trial < found["branches"].flops <= 7 * trial * (1 + 1e-9)
    assert found["mixmin"].trials == 1
    assert found["mixmin"].flops == pytest.approx(trial * (0.5 + 3 / 8 + 0.5))
    storage = open_storage(str(tmp_path / "studies.journal"))
    for name in ("branches", "mixmin"):  # nobody took what another had trained
        study = open_study(f"x/{name}/seed0", storage=storage)
        parts = [t for t in all_trials(study) if str(t.user_attrs[SLOT]).startswith("branch/")]
        assert len(parts) == 4 and all(t.user_attrs[FACTS]["flops"] > 0 for t in parts)


def test_rounds_read_off_branches_stay_as_they_are_written(tiny_corpus: Corpus) -> None:
    rounds = [{"trials": 9, "rung": "merge"}, {"trials": 2, "rung": "target"}]
    arm = {"like": "climb", "rounds": rounds, "branches": {"read": ["merge"]}}
    asked = small(tiny_corpus, arms={"random": ARMS["random"], "climb-branches": arm})
    study = arms(asked)[1].study
    assert (study.rounds, study.rungs, study.budget) == ((9, 2), (0, 1), None)
    assert "climb-branches, rung 0 | 9" in plan_text("x", asked)


def test_the_shipped_comparison_sets_branches_at_half_the_flops_beside_the_ladder() -> None:
    by_name = {arm.name: arm.study for arm in arms(read_ablation("branches"))}
    budgets = {name: study.budget and study.budget.flops for name, study in by_name.items()}
    assert budgets["ladder"] == budgets["branches"] == budgets["branches-ladder"] == 16
    halves = {name: flops for name, flops in budgets.items() if name.endswith("-half")}
    assert halves == dict.fromkeys(("ladder-half", "branches-half", "branches-ladder-half"), 8)
    assert not by_name["branches-half"].readouts and by_name["branches-half"].branches is not None
    assert by_name["branches"].readouts and len(by_name["branches"].proxies) == 1
    assert len(by_name["ladder"].coefficients()) == 4 and not by_name["ladder"].readouts


def test_an_emulator_has_no_branches() -> None:
    law = {"name": "mixing-law", "domains": 4}
    with pytest.raises(UserError, match="a trunk and branches are trained"):
        ablation_from({"objective": law, "arms": {"mixmin": None}})
    with pytest.raises(UserError, match="a trunk and branches are trained"):
        base = {"branches": {"trunk": 0.5}}
        ablation_from({"objective": law, "base": base, "arms": {"random": None}})
