"""Rungs: their costs, recipes that name them, plans that buy them, trials that carry them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

import studying
from climb_opt import study as studies
from climb_opt.attributes import IMPORTED, LADDER, RUNG, SLOT
from climb_opt.errors import UserError
from climb_opt.ladder import BudgetSpent, Ladder, rung_of
from climb_opt.plan import Plan, plan_of
from climb_opt.proxy.cost import shape_size, trial_cost
from climb_opt.proxy.ladders import ladder_of
from climb_opt.recipes import BudgetRecipe, StudyRecipe, read_study, study_from, to_json
from climb_opt.samplers.climb_sampler import ClimbSampler
from climb_opt.study import open_study, status
from climb_opt.view import StudyView, all_trials, read_history
from laddered import bought, on_rungs
from studying import PACE, finished, score

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe, journal = studying.recipe, studying.journal  # fixtures

RUNGS = """
corpus: corpora/mine
proxy: tiny
evaluators: [{name: heldout, target: sums}]
score: [sums/bpb]
sampler: simplex-gp
"""


def read(tmp_path: Path, more: str, *overrides: str) -> StudyRecipe:
    file = tmp_path / "mine.yaml"
    file.write_text(RUNGS + more, encoding="utf-8")
    return read_study(str(file), overrides)


@given(st.lists(st.floats(1.0, 1e25), min_size=1, max_size=6, unique=True))
def test_a_ladder_is_in_order_of_cost_and_says_so(costs: list[float]) -> None:
    ladder = Ladder.of(sorted(costs))
    assert ladder.target == len(costs) - 1 and ladder.shares[-1] == 1.0
    assert Ladder.from_data(json.loads(json.dumps(ladder.to_data()))) == ladder
    if len(costs) > 1:
        with pytest.raises(UserError, match="cheapest first"):
            Ladder.of(sorted(costs, reverse=True))
    with pytest.raises(UserError, match="drop one of two that cost the same"):
        Ladder.of([*sorted(costs), max(costs)])


@pytest.mark.parametrize("cost", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rung_costs_a_positive_number(cost: float) -> None:
    with pytest.raises(UserError, match="positive number"):
        Ladder.of([cost])
    with pytest.raises(UserError, match="at least one rung"):
        Ladder(())


# --- recipes -------------------------------------------------------------------------------------


def test_rounds_that_name_proxies_are_read_as_rungs(tmp_path: Path) -> None:
    more = """
rounds:
- {trials: 8, proxy: {tokens: 4096}}
- {trials: 4, proxy: {tokens: 8192, lr: 1e-3}}
- {trials: 2, proxy: {tokens: 4096}}
- {trials: 2, proxy: tiny}
"""
    found = read(tmp_path, more)
    assert (found.rounds, found.rungs) == ((8, 4, 2, 2), (0, 1, 0, 2))
    assert [r.tokens for r in found.ladder[:2]] == [4096, 8192] and found.ladder[1].lr == 1e-3
    assert found.ladder[0].model == found.proxy.model and found.proxy == found.ladder[2]
    assert study_from(json.loads(to_json(found)), stored=True) == found
    plan = plan_of(found, Ladder.of([1, 2, 3]))
    assert [plan.rung_of(slot) for slot in (0, 7, 8, 12, 14, "baseline/prior")] == [
        0,
        0,
        1,
        0,
        2,
        2,
    ]


def test_a_ladder_with_a_budget_takes_the_place_of_rounds(tmp_path: Path) -> None:
    found = read(tmp_path, "ladder: [{tokens: 4096}, {}]\nbudget: {flops: 3e19}\n")
    assert found.rounds == () and found.rungs == () and found.budget is not None
    assert found.budget.flops == 3e19 and found.ladder[-1] == found.proxy
    assert study_from(json.loads(to_json(found)), stored=True) == found
    alone = read(tmp_path, "budget: {flops: 3e19}\n")
    assert alone.ladder == (alone.proxy,)
    plain = read(tmp_path, "")
    assert plain.ladder == () and plain.budget is None and plain.rounds == (64, 32, 16)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("rounds: [{trials: 8, proxy: tiny}, 4]", "each is {trials: 64, proxy: 20m}"),
        ("rounds: [{trials: 8}]", "each is {trials: 64, proxy: 20m}"),
        ("rounds: [{trials: 8, proxies: tiny}]", "unknown key 'proxies'"),
        ("rounds: [{trials: 8, rung: 0}]", "needs a ladder"),
        ("ladder: [tiny]\nrounds: [{trials: 8, rung: 3}]", "3 is no rung of the ladder"),
        (
            "ladder: [tiny, {}]\nrounds: [{trials: 8, rung: 0}]\nrungs: [1]",
            r"study.rungs: rounds name the rung of each already, as \[0\], but rungs are \[1\]",
        ),
        ("ladder: tiny", "expected a list of proxies"),
        ("ladder: [{tokens: -1}, {}]", r"study.ladder\[0\].tokens must be at least 1"),
        ("ladder: [{token: 1}, {}]", r"study.ladder\[0\]: unknown key 'token'. Did you mean"),
        ("budget: {flops: 0}", "must be positive"),
        ("budget: {flops: 1e9}\nrounds: [4]", "budget takes the place of rounds"),
        (
            "budget: {flops: 1e9}\nverify: 2",
            "study.verify: slots of rounds, which a budget has not",
        ),
        ("budget: {flops: 1e9}\nverify: -2", "study.verify: slots of rounds, which a budget has"),
        ("budget: {flops: 1e9}\nrungs: [0, 1]", "study.rungs: the rungs of rounds, which a budget"),
        ("ladder: [{tokens: 4096}, {}]\nalso: {b: {score: [c/bpb]}}", "one objective; drop also"),
        (
            "ladder: [{tokens: 4096}, {}]\nbudget: null\nrounds: []",
            "study.ladder: nothing is searched, .* or drop ladder",
        ),
        (
            "also: {b: {score: {c/bpb: 0, d/bpb: 0.0}}}",
            "study.also.b.score: every mixture .*: c/bpb, d/bpb;",
        ),
        ("repetition: natural", "must be one of matched, whole"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(tmp_path, more)


def test_samplers_that_cannot_are_not_asked_to_choose(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'tpe' does not choose rungs"):
        read(tmp_path, "ladder: [{tokens: 4096}, {}]", "sampler=tpe")
    with pytest.raises(UserError, match="'climb' searches in rounds"):
        read(tmp_path, "budget: {flops: 1e15}", "sampler=climb")
    assert read(tmp_path, "budget: {flops: 1e15}", "sampler=tpe").rounds == ()


def test_rungs_are_named_and_priced_by_the_formula(recipe: StudyRecipe) -> None:
    proxies = on_rungs(recipe).ladder
    ladder = ladder_of(proxies, 1000)
    assert ladder.costs.tolist() == [
        trial_cost(p, shape_size(p.model, 1000)).flops for p in proxies
    ]
    assert ladder.rungs[1].tokens == 4096 and ladder.rungs[0].name.endswith("@1.02k")
    with pytest.raises(UserError, match="cheapest first"):
        ladder_of(proxies[::-1], 1000)
    assert ladder.going_on.tolist() == ladder.costs.tolist() and "going_on" not in str(
        ladder.to_data()
    )


def test_rungs_of_as_many_parameters_and_tokens_are_told_apart_by_name(recipe: StudyRecipe) -> None:
    target = dataclasses.replace(recipe.proxy, tokens=4096, batch_tokens=1024, sequence=64)
    alike = dataclasses.replace(target, sequence=32)
    ladder = ladder_of((dataclasses.replace(target, tokens=2048), alike, target), 1000)
    low, *same = [rung.name for rung in ladder.rungs]
    size = same[0].removesuffix("-a")
    assert same == [f"{size}-a", f"{size}-b"] and low.endswith("@2.05k")
    assert [ladder.number(name) for name in (low, *same)] == [0, 1, 2]
    with pytest.raises(UserError, match=f"0 \\({low}\\), 1 \\({size}-a\\), 2 \\({size}-b\\)"):
        ladder.number(size)
    stored = [{**rung, "name": size} for rung in ladder.to_data()[1:]]  # by an older version
    assert [rung.name for rung in Ladder.from_data(stored).rungs] == same
    assert Ladder.from_data(ladder.to_data()) == ladder


def test_a_rung_that_goes_on_has_the_price_of_what_is_left(recipe: StudyRecipe) -> None:
    proxy = dataclasses.replace(on_rungs(recipe).ladder[-1], schedule="wsd", decay=0.25)
    steps = proxy.tokens // proxy.batch_tokens
    below = dataclasses.replace(proxy, tokens=proxy.tokens // 2)
    ladder = ladder_of((below, dataclasses.replace(proxy, go_on=True)), 1000)
    kept = steps // 2 - max(round(0.25 * (steps // 2)), 1)  # before the decay of the rung below
    assert ladder.going_on.tolist() == [ladder.costs[0], (1 - kept / steps) * ladder.costs[1]]
    assert Ladder.from_data(ladder.to_data()) == ladder


# --- plans ---------------------------------------------------------------------------------------


def trial(slot: Any, rung: int | None = None, state: TrialState = TrialState.COMPLETE) -> Any:
    attrs = {SLOT: slot} if rung is None else {SLOT: slot, RUNG: rung}
    values = [1.0] if state == TrialState.COMPLETE else None
    return create_trial(state=state, values=values, user_attrs=attrs)


BOUGHT = Plan((), ("baseline/prior",), 2, ladder=Ladder.of([1, 4, 16]), budget=40)


def numbered(*trials: Any) -> list[Any]:
    for number, one in enumerate(trials):
        one.number = number
    return list(trials)


def test_a_budget_hands_out_slots_while_it_pays_for_the_target() -> None:
    done = [trial("baseline/prior")]
    assert BOUGHT.next(numbered()).slot == "baseline/prior"
    assert BOUGHT.next(numbered(*done)).slot == 0 and BOUGHT.left(done) == 24
    done += [trial(0, 1), trial(1, 1), trial(2, 0, TrialState.RUNNING)]
    assert BOUGHT.left(done) == 15 and BOUGHT.next(numbered(*done)).kind == "wait"
    done[3] = trial(2, 0)
    assert BOUGHT.next(numbered(*done)).kind == "done"
    assert BOUGHT.next(numbered(*done[:3])).slot == 2


def test_what_a_failed_slot_costs_is_kept_for_its_retry() -> None:
    failed = trial(0, 0, TrialState.FAIL)
    rich = [trial("baseline/prior"), failed]
    assert BOUGHT.left(rich) == 23 and BOUGHT.next(numbered(*rich)).slot == 1  # a broken machine
    spent = [*rich, trial(1, 1), trial(2, 1)]
    assert BOUGHT.left(spent) == 15 and BOUGHT.next(numbered(*spent)).slot == 0
    spent.append(trial(0, 0))
    assert BOUGHT.next(numbered(*spent)).kind == "done"


def test_what_a_baseline_costs_is_kept_for_its_retry() -> None:
    failed = trial("baseline/prior", 2, TrialState.FAIL)
    assert BOUGHT.left([failed]) == 24 and BOUGHT.next(numbered(failed)).slot == 0
    spent = [failed, *(trial(s, 1) for s in range(6))]
    assert BOUGHT.left(spent) == 0 and BOUGHT.next(numbered(*spent)).slot == "baseline/prior"
    spent.append(trial("baseline/prior", 2))
    assert BOUGHT.left(spent) == 0 and BOUGHT.next(numbered(*spent)).kind == "done"


def test_imported_trials_cost_nothing_and_unknown_rungs_are_the_targets() -> None:
    imported = create_trial(value=1.0, user_attrs={IMPORTED: {}})
    assert Ladder.of([1, 16]).spent([imported, trial("x")]) == 16
    assert [rung_of(trial(0, r), 2) for r in (None, 0, 1, 2, 7)] == [2, 0, 1, 2, 2]


# --- trials --------------------------------------------------------------------------------------


def rungs_of(study: optuna.Study) -> dict[Any, Any]:
    return {t.user_attrs[SLOT]: t.user_attrs.get(RUNG) for t in all_trials(study)}


def test_trials_of_rounds_carry_their_rung_and_only_the_targets_can_be_best(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(on_rungs(recipe, rungs=(0, 1)), storage=journal, study_name="s")

    def better_below(trial: optuna.Trial) -> float:
        return score(trial) - 10 * (trial.user_attrs[RUNG] == 0)

    studies.work(study, objective=better_below, pace=PACE)
    rungs = {"baseline/prior": 1, "baseline/uniform": 1, 0: 0, 1: 0, 2: 0, 3: 1, 4: 1}
    assert rungs_of(study) == rungs and len(study.user_attrs[LADDER]) == 2
    assert study.best_trial.user_attrs[RUNG] == 1 and study.best_value > -1
    view = StudyView(study)
    assert len(view.history()) == 4 and view.history().rungs is None
    everything = view.history(rungs=True)
    assert everything.rungs is not None and sorted(everything.rungs) == [0, 0, 0, 1, 1, 1, 1]
    low = everything.rows(everything.rungs == 0)
    assert (low.values < -1).all() and len(low.trials) == len(low.weights) == 3


def test_a_retry_stays_on_its_rung(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(on_rungs(recipe, rungs=(0, 1)), storage=journal, study_name="s")
    broken = iter([True])

    def fails_once(trial: optuna.Trial) -> float:
        if trial.user_attrs[SLOT] == 1 and next(broken, False):
            raise RuntimeError("no luck")
        return score(trial)

    studies.work(study, objective=fails_once, pace=PACE)
    tries = [t for t in all_trials(study) if t.user_attrs[SLOT] == 1]
    assert [t.user_attrs[RUNG] for t in tries] == [0, 0] and len(tries) == 2
    assert tries[0].params == tries[1].params
    assert tries[1].constraints == {RUNG: 1.0}


class Chooser(ClimbSampler):
    """Takes the rungs in turn; finds nothing worth its cost after six."""

    chooses_rung = True

    def __init__(self, space: Any, *, seed: int = 0) -> None:
        super().__init__(space, rounds=(64,), seed=seed)

    def plan_ahead(self, study: optuna.Study, slot: Any) -> tuple[dict[str, float], dict[str, Any]]:
        if slot == 6:
            raise BudgetSpent
        params, stored = super().plan_ahead(study, slot)
        return params, {**stored, RUNG: slot % 2}


def test_a_sampler_that_chooses_spends_the_budget_and_may_stop_early(
    recipe: StudyRecipe, journal: str
) -> None:
    choice = dataclasses.replace(recipe.sampler, name=f"{__name__}:Chooser", options={})
    wanted = on_rungs(recipe, sampler=choice, rounds=(), budget=None)
    cost = ladder_of(wanted.ladder, 1000).costs
    for flops, slots in ((1e18, 6), (2 * cost[1] + 2.5 * (cost[0] + cost[1]), None)):
        budget = BudgetRecipe(flops)
        name = f"s{flops:g}"
        study = open_study(
            dataclasses.replace(wanted, budget=budget), storage=journal, study_name=name
        )
        studies.work(study, objective=score, pace=PACE)
        own = [s for s in finished(study) if isinstance(s, int)]
        assert all(rungs_of(study)[s] == s % 2 for s in own)
        assert len(own) == 6 if slots else 4 <= len(own) <= 6
        plan = StudyView(study).plan
        assert plan.left(all_trials(study)) > -cost[1]


def test_a_budget_too_small_for_a_start_ends_with_a_trial_of_the_target(
    recipe: StudyRecipe, journal: str
) -> None:
    wanted = bought(recipe, 2 + 1.9, "simplex-gp")  # beside two baselines
    study = open_study(wanted, storage=journal, study_name="s")
    studies.work(study, objective=score, pace=PACE)
    assert [rungs_of(study)[s] for s in finished(study) if isinstance(s, int)] == [0, 0, 0, 1]


def test_a_budget_below_the_baselines_and_one_target_trial_is_refused(
    recipe: StudyRecipe, journal: str
) -> None:
    with pytest.raises(UserError, match="do not pay for 2 baselines and one trial"):
        open_study(bought(recipe, 2.99), storage=journal, study_name="s")
    assert not Path(journal).exists() or "s" not in optuna.get_all_study_names(
        optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    )
    assert status(open_study(bought(recipe, 3), storage=journal, study_name="s")).finished == 0


def test_changing_the_ladder_of_a_running_study_is_refused_with_the_difference(
    recipe: StudyRecipe, journal: str
) -> None:
    open_study(on_rungs(recipe, rungs=(0, 1)), storage=journal, study_name="s")
    other = on_rungs(recipe, rungs=(1, 1))
    with pytest.raises(UserError, match=r"made from another recipe: rungs: \[0, 1\] -> \[1, 1\]"):
        open_study(other, storage=journal, study_name="s")


def test_a_study_without_a_ladder_is_one_rung(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    studies.work(study, objective=score, pace=PACE)
    view = StudyView(study)
    assert view.ladder is None and view.plan.target == 0
    assert not any(RUNG in t.user_attrs or t.constraints for t in all_trials(study))
    history = read_history(study, view.space, rungs=True)
    assert history.rungs is None and np.array_equal(history.values, view.history().values)
