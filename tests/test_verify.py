"""The last slots of a plan measure the recommendation and its nearest rivals."""

from __future__ import annotations

import threading
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

import climb_opt
from climb_opt import UserError, best_mixture
from climb_opt.ablation.recipe.reading import ablation_from
from climb_opt.ablation.recipe.resolve import runs
from climb_opt.ablation.run.emulate import emulate
from climb_opt.attributes import FORECAST, SLOT, VERIFY
from climb_opt.cli.status import describe
from climb_opt.emulator import MixingLaw
from climb_opt.measures import apart
from climb_opt.plan import Plan, plan_of
from climb_opt.recipes import read_study
from climb_opt.selection.verifying import SAME, shortlist
from climb_opt.storages import open_storage
from climb_opt.view import StudyView, mixture_of
from climb_opt.workers import Pace
from synthetic_study import Shape, build_study

ROUNDS, VERIFIED = (8, 6), 3
SLOTS = range(sum(ROUNDS) - VERIFIED, sum(ROUNDS))
PACE = Pace(beat=0.5, grace=5.0, poll=0.02)


def begun(
    sampler: str = "random",
    storage: Any = None,
    *overrides: str,
    done: int = 0,
    name: str = "verified",
) -> optuna.Study:
    options = (f"verify={VERIFIED}", f"sampler={sampler}", *overrides)
    shape = Shape(
        domains=4, rounds=ROUNDS, failures=0, done=done, baselines=(), overrides=options, name=name
    )
    return build_study(shape, storage)


def score(trial: optuna.Trial) -> float:
    space = StudyView(trial.study).space
    weights = space.weights(space.suggest(trial))
    return float(((weights - [0.1, 0.2, 0.3, 0.4]) ** 2).sum())


def measured(study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials of the slots that verify, in the plan's order."""
    done = [t for t in study.trials if t.state == TrialState.COMPLETE]
    return sorted(
        (t for t in done if t.user_attrs.get(SLOT) in SLOTS), key=lambda t: t.user_attrs[SLOT]
    )


# --- the plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounds", "verify", "planned"),
    [
        ((64, 32, 16), 4, (64, 32, 12, 4)),
        ((6, 1), 4, (3, 4)),
        ((5,), 4, (1, 4)),
        ((4, 2), 2, (4, 2)),
    ],
)
def test_the_last_slots_of_all_are_a_round_of_their_own(
    rounds: tuple[int, ...], verify: int, planned: tuple[int, ...]
) -> None:
    plan = plan_of(read_study("demo", [f"rounds={list(rounds)}", f"verify={verify}"]))
    assert plan.rounds == planned and plan.size == sum(rounds)
    assert [s for s in range(plan.size) if plan.verifies(s)] == list(range(plan.size))[-verify:]
    assert not any(plan.may_prune(s, first_round=True) for s in range(plan.size)[-verify:])
    assert plan_of(read_study("demo", [f"rounds={list(rounds)}"])).rounds == rounds


def test_they_wait_for_the_search_even_where_rounds_do_not() -> None:
    plan = Plan((2, 1, 2), barrier=False, verify=2)

    def trial(slot: int, state: TrialState) -> FrozenTrial:
        one = create_trial(
            state=state, value=1.0 if state.is_finished() else None, user_attrs={SLOT: slot}
        )
        one.number = slot
        return one

    done, busy = TrialState.COMPLETE, TrialState.RUNNING
    assert plan.next([trial(0, busy), trial(1, done)]).slot == 2
    assert plan.next([trial(0, busy), trial(1, done), trial(2, done)]).kind == "wait"
    assert plan.next([trial(s, done) for s in range(3)]).slot == 3


def test_the_status_says_which_round_they_are(tmp_path: Path) -> None:
    now = climb_opt.status(begun(storage=open_storage(tmp_path / "v.journal"), done=1))
    assert [one.verifies for one in now.rounds] == [*[False] * (len(now.rounds) - 1), True]
    said = f"round {len(now.rounds)}: measures the recommendation and its nearest rivals (verify)"
    assert said in describe(now).splitlines()
    plain = begun("random", open_storage(tmp_path / "p.journal"), "verify=0")
    assert "(verify)" not in describe(climb_opt.status(plain))


@pytest.mark.parametrize("verify", ["14", "20", "-1"])
def test_a_plan_that_only_verifies_is_refused(verify: str) -> None:
    with pytest.raises(UserError, match=f"from 0 to 13 for these rounds, but is {verify}"):
        read_study("demo", ["rounds=[8, 6]", f"verify={verify}"])


def test_several_objectives_have_no_recommendation_to_verify() -> None:
    also = 'also={"other": {"score": ["x"]}}'
    with pytest.raises(UserError, match="drop verify"):
        read_study("demo", ["verify=2", also, "sampler=nsga2"])


# --- what is measured ----------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "tpe", "simplex-gp", "climb"])
def test_any_sampler_ends_with_the_recommendation_and_its_rivals(sampler: str) -> None:
    name = (
        sampler
        if sampler != "climb"
        else '{"name": "climb", "predictor": "linear", "pool_size": 500}'
    )
    study = begun(name)
    climb_opt.work(study, objective=score, pace=PACE)
    found, view = measured(study), StudyView(study)
    assert [t.user_attrs[SLOT] for t in found] == list(SLOTS)
    before = optuna.create_study()
    before.add_trials([t for t in study.trials if t.user_attrs[SLOT] not in SLOTS])
    listed = shortlist(before, VERIFIED, space=view.space)
    for trial, weights in zip(found, listed, strict=True):
        assert apart(mixture_of(trial), view.space.mixture(weights)) < 1e-6
        assert FORECAST in trial.system_attrs
    first = best_mixture(before, space=view.space)
    assert apart(mixture_of(found[0]), first) < 1e-6
    for a, b in combinations(found, 2):
        assert apart(mixture_of(a), mixture_of(b)) > SAME / 2


def test_the_decision_keeps_to_what_was_verified_unless_more_is_shown() -> None:
    noise = np.random.default_rng(0)
    study = begun("random")
    climb_opt.work(study, objective=lambda t: score(t) + 0.05 * noise.standard_normal(), pace=PACE)
    best = best_mixture(study)
    assert best.rule == "guarded" and best.lead is None
    known = [mixture_of(t) for t in study.trials]
    assert min(apart(best, one) for one in known) < 1e-9
    plain = begun("random", None, "verify=0")
    climb_opt.work(plain, objective=score, pace=PACE)
    assert best_mixture(plain).rule in ("predicted", "optimum")


def test_a_search_that_was_stopped_goes_on_with_the_same_list(tmp_path: Path) -> None:
    study = begun("random", open_storage(str(tmp_path / "s.journal")))
    calls = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal calls
        calls += 1
        if calls == sum(ROUNDS) - 1:
            raise ValueError("lost")  # the second slot that verifies
        return score(trial)

    climb_opt.work(study, objective=objective, stop=lambda: calls >= sum(ROUNDS) - 1, pace=PACE)
    stored = study.user_attrs[VERIFY]
    climb_opt.enqueue(study, "mine", StudyView(study).space.mixture(StudyView(study).space.prior))
    again = climb_opt.open_study(study_name="verified", storage=str(tmp_path / "s.journal"))
    climb_opt.work(again, objective=score, pace=PACE)
    assert again.user_attrs[VERIFY] == stored
    assert [mixture_of(t) for t in measured(again)] == [pytest.approx(m, abs=1e-9) for m in stored]
    assert sum(t.state == TrialState.FAIL for t in again.trials) == 1
    assert climb_opt.status(again).done


def test_workers_share_one_list(tmp_path: Path) -> None:
    path = str(tmp_path / "s.journal")
    begun("random", open_storage(path), "barrier=false")

    def worker() -> None:
        study = climb_opt.open_study(study_name="verified", storage=path)
        climb_opt.work(study, objective=score, pace=PACE)

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = climb_opt.open_study(study_name="verified", storage=path)
    assert [t.user_attrs[SLOT] for t in measured(study)] == list(SLOTS)
    stored = study.user_attrs[VERIFY]
    assert [mixture_of(t) for t in measured(study)] == [pytest.approx(m, abs=1e-9) for m in stored]


@pytest.mark.parametrize("teaches", ["equal scores", "nothing"])
def test_a_search_that_teaches_nothing_still_fills_its_slots(teaches: str) -> None:
    study = begun("random", None, "max_attempts=1")
    first = sum(ROUNDS) - VERIFIED

    def objective(trial: optuna.Trial) -> float:
        slot = trial.user_attrs[SLOT]
        if teaches == "nothing" and slot < first:
            raise ValueError("broken")
        return 1.0

    for _ in range(4):  # a worker that fails five times in a row gives up
        try:
            climb_opt.work(study, objective=objective, pace=PACE)
        except UserError:
            continue
    found = measured(study)
    assert len(found) == VERIFIED
    for a, b in combinations(found, 2):
        assert apart(mixture_of(a), mixture_of(b)) > SAME


@pytest.mark.parametrize("count", [1, 4, 40])
def test_a_shortlist_holds_different_mixtures_however_long(count: int) -> None:
    law = MixingLaw(3, seed=0)
    study = optuna.create_study(
        sampler=climb_opt.SimplexSampler(law.space, optuna.samplers.RandomSampler(seed=0))
    )
    study.optimize(lambda t: float(law.score(law.space.weights(law.space.suggest(t))[None])[0]), 12)
    found = shortlist(study, count, space=law.space)
    assert found.shape == (count, 3) and bool(np.all(law.space.contains(found)))
    for a, b in combinations(found, 2):
        assert float(np.abs(a - b).sum()) / 2 > SAME


def test_a_space_of_one_mixture_is_verified_as_often_as_asked() -> None:
    space = climb_opt.MixtureSpace({"web": 3, "code": 1}, lower={"web": 0.75}, upper={"web": 0.75})
    study = optuna.create_study()
    study.add_trial(
        create_trial(
            params=space.params(space.prior), distributions=space.distributions(), value=1.0
        )
    )
    assert shortlist(study, 3, space=space) == pytest.approx(np.array([[0.75, 0.25]] * 3))


# --- searches against searches -------------------------------------------------------------------


def test_an_arm_of_an_ablation_may_verify() -> None:
    data = {
        "objective": {"name": "mixing-law", "domains": 4, "noise": 0.1},
        "budget": {"trials": 14},
        "arms": {"plain": {"sampler": "random"}, "verified": {"sampler": "random", "verify": 4}},
        "seeds": 1,
    }
    plain, verified = (emulate(run) for run in runs(ablation_from(data)))
    assert plain.trials == verified.trials == 14
    assert plain.curve[:10] == verified.curve[:10] and plain.curve[10:] != verified.curve[10:]
    with pytest.raises(UserError, match="verify 12 more"):
        ablation_from(
            {**data, "arms": {"a": {"sampler": "random", "verify": 12, "rounds": [9, 3, 1]}}}
        )
