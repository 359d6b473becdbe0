"""What a search would cost and find, said before it runs."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

import climb_opt
import studying
from climb_opt.attributes import LADDER, RUNG
from climb_opt.cli import main
from climb_opt.emulator import LadderObjective, simulated
from climb_opt.errors import UserError
from climb_opt.ladder import Ladder
from climb_opt.phases import PhasedSpace
from climb_opt.proxy.cost import gpu_hours, shape_size, trial_cost
from climb_opt.recipes import BudgetRecipe, Choice, StudyRecipe
from climb_opt.reports.planned import regret
from climb_opt.reports.planned.advice import advice_of, regret_text
from climb_opt.reports.planned.costs import costs_of
from climb_opt.reports.planned.measured import Evidence, Given, evidence_for
from climb_opt.reports.planned.regret import (
    ONE,
    PLANNED,
    Regret,
    Setting,
    arms_of,
    budgets_for,
    emulated,
    search,
    searched_on,
    searches,
)
from climb_opt.shards import Corpus
from climb_opt.simplex import MixtureSpace
from climb_opt.text import powers
from climb_opt.view import rung_attributes
from laddered import on_rungs

recipe = studying.recipe  # a fixture

SPACE = MixtureSpace({"web": 3, "code": 2, "math": 1})


def flops_of(recipe: StudyRecipe, tokens: int) -> float:
    proxy = dataclasses.replace(recipe.proxy, tokens=tokens, batch_tokens=1024)
    vocabulary = Corpus.load(recipe.corpus_folder).vocab_size
    found = trial_cost(proxy, shape_size(proxy.model, vocabulary)).flops
    assert found is not None
    return found


def test_a_plan_shows_its_text_in_a_notebook(recipe: StudyRecipe) -> None:
    plan = climb_opt.plan_search(recipe, emulate=False)
    shown: list[str] = []
    plan._repr_pretty_(SimpleNamespace(text=shown.append), False)  # what IPython calls
    assert str(plan) == plan.text == "".join(shown)


def test_a_plan_refuses_what_its_search_would(recipe: StudyRecipe) -> None:
    wrong = dataclasses.replace(recipe, sampler=Choice("climb", {"pool_size": "large"}))
    with pytest.raises(UserError, match="pool_size: expected a number, but got 'large'"):
        climb_opt.plan_search(wrong, emulate=False)


def test_a_plan_costs_its_rounds_and_its_baselines_at_the_target(recipe: StudyRecipe) -> None:
    plan = climb_opt.plan_search(on_rungs(recipe, rungs=(0, 1)), emulate=False)
    low, high = flops_of(recipe, 1024), flops_of(recipe, 4096)
    assert [rung.flops for rung in plan.costs.rungs] == [low, high]
    assert [rung.trials for rung in plan.costs.rungs] == [3, 2 + 2]  # of (3, 2), and two baselines
    assert plan.costs.total == 3 * low + 4 * high == plan.costs.budget
    assert plan.costs.hours == gpu_hours(plan.costs.total)
    assert plan.costs.rungs[0].share == low / high == 0.25
    assert [rung.buys for rung in plan.costs.rungs] == [3 + 16, 4]
    assert plan.regrets == () and plan.advice == ""
    assert f"{plan.costs.total:.2e}".replace("e+0", "e") in plan.text
    assert f"| {powers(low)} | 0.250 |" in plan.text and "e+" not in plan.text


def test_a_budget_buys_whole_trials_of_each_rung(recipe: StudyRecipe) -> None:
    high = flops_of(recipe, 4096)
    found = climb_opt.plan_search(on_rungs(recipe, rungs=(0, 1)), flops=10 * high, emulate=False)
    assert [rung.buys for rung in found.costs.rungs] == [40, 10]
    assert found.costs.target_trials == 10 and "is 10.00 trials of the target" in found.text
    bought = on_rungs(
        recipe, rounds=(), budget=BudgetRecipe(7 * high), sampler=Choice("simplex-gp", {})
    )
    found = climb_opt.plan_search(bought, emulate=False)
    assert found.costs.total == 7 * high
    assert [rung.trials for rung in found.costs.rungs] == [None, None]
    assert climb_opt.plan_search(bought, flops=3 * high, emulate=False).costs.total == 3 * high


def test_rounds_that_all_name_one_proxy_are_planned_as_a_recipe_of_one_rung(
    recipe: StudyRecipe,
) -> None:
    short = dataclasses.replace(recipe.proxy, batch_tokens=1024)
    plain = dataclasses.replace(recipe, proxy=short)
    named = dataclasses.replace(plain, ladder=(short,), rungs=(0,) * len(plain.rounds))
    plan = climb_opt.plan_search(named, seeds=1)
    assert [rung.trials for rung in plan.costs.rungs] == [0, 7] and plan.costs.extra
    assert plan.costs.target_trials == 7
    assert plan.text == climb_opt.plan_search(plain, seeds=1).text


@pytest.mark.parametrize("trials", [0.5, 1.0, 2.9])
def test_a_budget_that_a_search_refuses_is_no_plan(recipe: StudyRecipe, trials: float) -> None:
    high = flops_of(recipe, 4096)
    told = r"do not pay for 2 baselines and one trial of the target, .*: 2 \+ 1 at [\d.]+e\d+ are"
    wanted = on_rungs(recipe, rungs=(0, 1))
    with pytest.raises(UserError, match=f"--flops: .* {told}"):
        climb_opt.plan_search(wanted, flops=trials * high, emulate=False)
    bought = on_rungs(
        recipe, rounds=(), budget=BudgetRecipe(trials * high), sampler=Choice("simplex-gp", {})
    )
    with pytest.raises(UserError, match=f"study.budget: .* {told}"):
        climb_opt.plan_search(bought, emulate=False)
    assert climb_opt.plan_search(bought, flops=3 * high, emulate=False).costs.target_trials == 3
    far = climb_opt.plan_search(dataclasses.replace(bought, corpus="far"), emulate=False)
    assert "With what is assumed, study.budget: " in far.text  # of a larger vocabulary


def test_a_recipe_of_one_rung_is_shown_a_cheaper_one(recipe: StudyRecipe) -> None:
    short = dataclasses.replace(recipe.proxy, batch_tokens=1024)
    costs, ladder = costs_of(dataclasses.replace(recipe, proxy=short, baselines=()), 1000, None)
    assert costs.extra and ladder.shares[0] == pytest.approx(0.25)
    assert [rung.trials for rung in costs.rungs] == [0, 5]
    step = dataclasses.replace(recipe.proxy, tokens=1024, batch_tokens=1024)  # has no quarter
    costs, ladder = costs_of(dataclasses.replace(recipe, proxy=step), 1000, None)
    assert not costs.extra and len(ladder) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere", "nowhere"),
        ("mine.yaml --flops 1e3", "do not pay for 2 baselines and one trial of the target"),
        ("mine.yaml --flops nan", "--flops must be a number"),
        ("mine.yaml --seeds 0", "--seeds must be at least 1"),
        ("mine.yaml --noise -1", "--noise must be a number of at least 0"),
        ("mine.yaml --correlation 0.1", "--correlation must lie between 0.2 and 1"),
        ("mine.yaml --correlation 0.9,0.95", "one for each of the 1 below"),
        ("mine.yaml --from none", "No journal"),
        ("mine.yaml --set round=[3]", "round"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    words: str, said: str, recipe: StudyRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", str(tmp_path / "s.journal"))
    Path("mine.yaml").write_text(climb_opt.recipes.to_json(on_rungs(recipe, rungs=(0, 1))))
    assert main(["plan", *words.split(), "--quick"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and said in line


def test_the_command_prints_text_or_data_and_says_what_it_assumes(
    recipe: StudyRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(climb_opt.recipes.to_json(recipe))
    assert main(["plan", "mine.yaml", "--quick", "--set", "corpus=elsewhere"]) == 0
    text = capsys.readouterr().out
    said = "Not on this machine, so that a vocabulary of 32,000 and 21 domains are assumed: No"
    assert f"{said} corpus at 'elsewhere'" in text
    assert main(["plan", "mine.yaml", "--quick", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["costs"]["rungs"][-1]["trials"] == 7
    assert data["evidence"]["noise_from"] == "assumed" and data["evidence"]["noise"] == 0.1


# --- what is known of noise and rungs ------------------------------------------------------------


def ladder_study(scores: list[list[float]]) -> optuna.Study:
    """Mixtures with these scores on two rungs each."""
    study = optuna.create_study(study_name="earlier")
    study.set_user_attr(LADDER, Ladder.of((1.0, 10.0)).to_data())
    climb_opt.view.store_space(study, SPACE)
    rng = np.random.default_rng(0)
    for pair in scores:
        params = SPACE.params(SPACE.sample(rng, 1)[0])
        for rung, score in enumerate(pair):
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=SPACE.distributions(), value=score,
                    user_attrs=rung_attributes(rung, 1),
                )
            )  # fmt: skip
    return study


def test_what_a_study_measured_is_used_and_named() -> None:
    study = ladder_study([[1, 1], [2, 2], [3, 4], [4, 3], [5, 5], [6, 6], [7, 7], [8, 8], [9, 9]])
    found = evidence_for(Given(), study, 1)
    assert found.correlation == (pytest.approx(1 - 6 * 2 / (9 * 80)),)
    assert found.correlation_from.startswith("measured by earlier")
    assert found.noise_from == "estimated from earlier" and found.noise >= 0
    assert evidence_for(Given(correlation=0.4, noise=0.3), study, 1).correlation == (0.4,)


def test_a_quick_plan_says_what_a_study_measured(recipe: StudyRecipe) -> None:
    wanted = on_rungs(recipe, rungs=(0, 1))
    text = climb_opt.plan_search(wanted, source=ladder_study([[1, 1]]), emulate=False).text
    assert "Not emulated: noise 0.10 of a spread (assumed: earlier has 1 results" in text
    assert "Not emulated" not in climb_opt.plan_search(wanted, emulate=False).text


def test_a_budget_without_bounds_is_printed_in_few_digits(recipe: StudyRecipe) -> None:
    found = climb_opt.plan_search(recipe, flops=1e300, emulate=False)
    assert max(map(len, found.text.split())) < 20


@pytest.mark.parametrize(("rungs", "why"), [(1, "too few mixtures on"), (2, "not of 3")])
def test_a_study_without_pairs_is_said_to_be_of_no_use(rungs: int, why: str) -> None:
    found = evidence_for(Given(), ladder_study([[1, 1], [2, 2]]), rungs)
    assert found.correlation[0] == pytest.approx(0.8) and why in found.correlation_from
    assert "assumed: earlier has 2 results" in found.noise_from
    assert list(found.correlation) == sorted(found.correlation)


# --- emulation -----------------------------------------------------------------------------------


def setting(correlation: float = 0.9, noise: float = 0.0) -> Setting:
    return Setting(SPACE, Ladder.of((1.0, 4.0)), Evidence(noise, "", (correlation,), ""), 1)


def test_each_arm_is_searched_at_each_budget(recipe: StudyRecipe) -> None:
    wanted, steps = on_rungs(recipe, rungs=(0, 1)), []
    found = emulated(wanted, setting(), 4.0, lambda: steps.append(1))
    assert [regret.arm for regret in found] == [PLANNED, ONE]
    assert all(regret.budgets == (1.0, 2.0, 4.0) for regret in found)
    assert all(0 <= x < 10 for regret in found for runs in regret.runs for x in runs)
    assert len(steps) == searches(wanted, setting(), 4.0) == 6


def test_a_sampler_that_chooses_is_emulated_within_its_budget(recipe: StudyRecipe) -> None:
    found = climb_opt.plan_search(
        on_rungs(recipe, rounds=(), budget=BudgetRecipe(1e30), sampler=Choice("simplex-gp", {})),
        flops=4 * flops_of(recipe, 4096), seeds=1, correlation=0.9,
    )  # fmt: skip
    assert found.advice and found.advice in found.text
    assert "rank correlation 0.90 (given)" in found.text


def test_emulated_searches_log_nothing(
    recipe: StudyRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "climb_opt"):
        found = climb_opt.plan_search(on_rungs(recipe, rounds=(8, 4), rungs=(0, 1)), seeds=1)
        assert logging.getLogger("climb_opt").level == logging.INFO
    assert found.regrets and not caplog.records


def test_rounds_with_more_trials_than_are_emulated_still_end_at_the_target(
    recipe: StudyRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    class Counted(LadderObjective):
        def __call__(self, trial: optuna.Trial) -> float:
            ran.append(trial.user_attrs.get(RUNG, 1))
            return super().__call__(trial)

    monkeypatch.setattr(regret, "LadderObjective", Counted)
    monkeypatch.setattr(regret, "MOST_TRIALS", 10)
    three = on_rungs(recipe, rounds=(12, 4, 2), rungs=(0, 0, 1))
    assert search(three, PLANNED, 6.0, searched_on(setting(), 0), 0)[1]  # is marked as cut
    assert ran.count(0) == 6 + 2 and ran.count(1) == 2
    ran.clear()
    assert not search(three, ONE, 6.0, searched_on(setting(), 0), 0)[1] and ran == [1] * 6


def test_budgets_end_where_emulation_does() -> None:
    assert budgets_for(8) == (1.0, 2.0, 4.0, 8.0)
    assert budgets_for(1e6)[-1] == 32 and budgets_for(1) == (1.0,) == budgets_for(-3)


KEPT = (False,) * 4  # no search was cut


def regrets(whole: list[float], one: list[float], **more: float) -> list[Regret]:
    budgets = (4.0, 8.0, 16.0, 32.0)
    arms = {PLANNED: whole, ONE: one}
    found = [Regret(arm, budgets, tuple((x, x) for x in xs), KEPT) for arm, xs in arms.items()]
    top = [
        Regret(
            f"without {arm.replace('_', ' ')}", budgets, ((math.nan,) * 2,) * 3 + ((x, x),), KEPT
        )
        for arm, x in more.items()
    ]
    return found + top


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (regrets([1, 0.5, 0.2, 0.1], [2, 1, 0.8, 0.5]), "reaches at 8.0 target trials what one"),
        (regrets([1, 0.9, 0.8, 0.7], [1, 0.8, 0.6, 0.5]), "gains nothing: drop it"),
        (regrets([1, 0.9, 0.8, 0.49], [1, 0.8, 0.6, 0.5]), "regret is 0.49, that of one rung 0.50"),
        (
            regrets([1, 0.5, 0.2, 0.1], [2, 1, 0.8, 0.5], rung_0=0.3, rung_1=0.1),
            "Trials at rung 1 add nothing: spend them at rung 0.",
        ),
    ],
)
def test_advice_is_what_the_regrets_say(found: list[Regret], said: str) -> None:
    assert said in advice_of(found, Ladder.of((1.0, 4.0, 16.0)))


def test_searches_that_were_cut_are_marked() -> None:
    budgets, runs = (1.0, 2.0), ((0.5, 0.4), (0.3, 0.2))
    here = Setting(SPACE, Ladder.of((1.0, 4.0)), Evidence(0.0, "", (0.8,), ""), 2)
    told = regret_text([Regret(ONE, budgets, runs, (False, True))], here)
    assert [" *" in line for line in told[2:4]] == [False, True] and "with 80 trials" in told[-1]
    assert (
        "of 112 that were asked" in regret_text([Regret(ONE, budgets, runs, KEPT)], here, 112)[-1]
    )
    assert not any("*" in line for line in regret_text([Regret(ONE, budgets, runs, KEPT)], here))


def test_the_domains_of_a_schedule_are_counted_once() -> None:
    one = Regret(ONE, (1.0,), ((0.5,),), (False,))
    for space, words in (
        (SPACE, "searches, 3 domains;"),
        (PhasedSpace({"web": 3, "code": 1}, (0.8, 0.2)), "searches, 2 domains in 2 phases;"),
    ):
        here = Setting(space, Ladder.of((1.0, 4.0)), Evidence(0.0, "", (0.8,), ""), 2)
        assert words in "\n".join(regret_text([one], here))


def test_a_gain_within_chance_is_called_so() -> None:
    runs = {PLANNED: ((0.1, 0.9),), ONE: ((0.9, 0.2),)}
    found = [Regret(arm, (4.0,), of, (False,)) for arm, of in runs.items()]
    assert "within chance" in advice_of(found, Ladder.of((1.0, 4.0)))


def test_advice_claims_no_more_than_was_emulated() -> None:
    ladder = Ladder.of((1.0, 4.0))
    of = {PLANNED: ((0.5,), True), ONE: ((0.4,), False)}
    alone = [Regret(arm, (4.0,), (runs,), (cut,)) for arm, (runs, cut) in of.items()]
    assert "one seed cannot tell" in advice_of(alone, ladder)
    several = [dataclasses.replace(one, runs=(one.runs[0] * 3,)) for one in alone]
    assert "not emulated" in advice_of(several, ladder)  # the ladder's searches were cut
    whole = [dataclasses.replace(one, cut=(False,)) for one in several]
    assert advice_of(whole, ladder).endswith("drop it.")


def test_a_plan_of_three_rungs_is_tried_without_each_below(recipe: StudyRecipe) -> None:
    wanted = on_rungs(recipe, rungs=(0, 1))
    assert arms_of(wanted, Ladder.of((1.0, 4.0))) == [(PLANNED, False), (ONE, False)]
    middle = dataclasses.replace(wanted.proxy, tokens=2048)
    three = dataclasses.replace(
        wanted, ladder=(wanted.ladder[0], middle, wanted.proxy), rounds=(4, 2, 2), rungs=(0, 1, 2)
    )
    ladder = Ladder.of((1.0, 2.0, 4.0))
    assert arms_of(three, ladder)[2:] == [("without rung 0", True), ("without rung 1", True)]
    here = Setting(SPACE, ladder, Evidence(0.0, "", (0.8, 0.9), ""), 1)
    found = {regret.arm: regret for regret in emulated(three, here, 2.0)}
    assert math.isnan(found["without rung 1"].runs[0][0])
    assert np.isfinite(found["without rung 1"].runs[-1][0])


def test_a_rank_correlation_that_no_deviation_leaves_is_refused() -> None:
    with pytest.raises(UserError, match=r"No deviation of this kind .* 0\.5; the least .* 0\.90"):
        simulated._smallest(lambda size: 0.9, 0.5)
