"""SimplexGPSampler on a ladder: what it buys, what it stores, what it leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest

import climb_opt
from climb_opt import SimplexGPSampler, best_mixture
from climb_opt.attributes import FORECAST, LADDER, RUNG
from climb_opt.gp.knowledge import told_or_better
from climb_opt.gp.ladder import Results
from climb_opt.gp.ladder_fit import ALONE
from climb_opt.gp.proposal import Problem
from climb_opt.gp.rungs import Choice, fresh
from climb_opt.history import History
from climb_opt.ladder import BudgetSpent, Ladder
from climb_opt.samplers import rungs as buying
from climb_opt.samplers.rungs import Purse, distrusted
from climb_opt.view import all_trials
from test_gp_ladder import CENTRE, COSTS, SPACE, problem_of, results, truth

optuna.logging.set_verbosity(optuna.logging.ERROR)

LADDER_OF = Ladder.of(COSTS.tolist())
SHARES = LADDER_OF.shares


def objective(trial: optuna.Trial) -> float:
    weights = SPACE.weights(SPACE.suggest(trial))
    rung = 2 if trial.constraints.get(RUNG, 0) == 0 else 0
    return float(truth(weights[None])[0] * (1 + (rung < 2)) + 3 * (rung < 2))


def search(trials: int, ladder: Ladder | None = LADDER_OF, seed: int = 0) -> optuna.Study:
    sampler = SimplexGPSampler(SPACE, ladder=ladder, seed=seed, n_startup=8)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=trials)
    return study


def test_a_plain_study_with_a_ladder_buys_cheap_and_recommends_at_the_target() -> None:
    study = search(30)
    rungs = [t.user_attrs[RUNG] for t in all_trials(study)]
    assert rungs[:8] == [0] * 8 and sum(rung < 2 for rung in rungs) > 11
    assert study.user_attrs[LADDER] == LADDER_OF.to_data()
    for trial in all_trials(study)[9:]:
        assert set(trial.system_attrs[FORECAST]) == {"mean", "std", "measured"}
        assert trial.constraints == {RUNG: 2.0 - trial.user_attrs[RUNG]}
    # Forecasts are of the rung the trial ran on: its scores are 3 and more below the target.
    late = [t for t in all_trials(study)[10:] if t.user_attrs[RUNG] < 2]
    assert len(late) > 2
    gaps = [abs(t.system_attrs[FORECAST]["mean"] - t.value) for t in late]
    assert float(np.median(gaps)) < 0.2
    best = best_mixture(study)
    assert truth(SPACE.weights(best.mixture)[None])[0] < 0.005


def test_the_same_seed_buys_the_same() -> None:
    first, second = (
        [(t.params, t.user_attrs[RUNG]) for t in all_trials(search(14))] for _ in range(2)
    )
    assert first == second


def test_one_rung_proposes_what_no_ladder_does() -> None:
    plain, one = search(12, None), search(12, Ladder.of([5.0]))
    assert [t.params for t in all_trials(plain)] == [t.params for t in all_trials(one)]


def test_a_second_rung_that_costs_little_runs_a_few_of_the_first_mixtures() -> None:
    study = search(14, Ladder.of([1, 2, 100]))
    trials = all_trials(study)
    pairs = [t.params for t in trials if t.user_attrs[RUNG] == 1][:5]
    assert [t.user_attrs[RUNG] for t in trials[8:13]] == [1] * 5
    assert pairs == [t.params for t in trials[:5]]


def test_a_pair_is_run_only_where_a_trial_of_the_target_is_paid_for_after_it() -> None:
    made, ladder = results([8, 0, 0]), Ladder.of([1, 2, 100])
    problem: Any = problem_of(made)
    history = History(made.roots**2, made.values, (), rungs=made.rungs, target=2)
    assert Purse(ladder, left=101.0).pair(problem, history, 0) is None
    found = Purse(ladder, left=102.0).pair(problem, history, 0)
    assert found is not None and np.array_equal(found, history.weights[0])
    assert Purse(ladder).pair(problem, history, buying.PAIRS) is None


def test_a_rung_that_does_not_rank_is_not_bought_any_more() -> None:
    made = results([20, 0, 20], cheap=0.0)
    roots = np.concatenate([made.roots[:20], made.roots[:20]])  # the same mixtures on both
    values = np.concatenate([made.values[:20], truth(roots[20:] ** 2)])
    paired = made._replace(roots=roots, values=values)
    problem: Any = problem_of(paired)
    history = History(roots**2, values, (), rungs=made.rungs, target=2)
    assert set(distrusted(problem, history, SHARES)) == {0, 1}  # nor a dear one just above it
    few = results([20, 0, 3], cheap=0.0)
    unpaired = History(few.roots**2, few.values, (), rungs=few.rungs, target=2)
    assert distrusted(problem_of(few), unpaired, SHARES) == {}  # type: ignore[arg-type]
    with pytest.raises(BudgetSpent):
        Purse(LADDER_OF, left=3.9).buy(problem, history, np.random.default_rng(0), 0.0)


def test_the_target_is_asked_what_a_rung_says_at_once_and_again_as_more_is_spent() -> None:
    made, asked, places = results([44, 0, 0]), list[np.ndarray](), list[float]()
    for spent in range(8, 45):
        rows, runs = made.rows(slice(spent)), len(asked)
        roots = np.concatenate([rows.roots, *(np.sqrt(weights)[None] for weights in asked)])
        rungs = np.append(rows.rungs, np.full(runs, 2))
        values = np.append(rows.values, truth(roots[spent:] ** 2))
        problem: Any = problem_of(Results(roots, values, rungs, 3))
        history = History(roots**2, values, (), rungs=rungs, target=2)
        found = Purse(Ladder.of([1, 4, 16]))._witness(problem, history, [0, 1, 2])
        if found is not None:
            places.append(float(np.mean(truth(rows.roots**2) < truth(found[None]))))
            asked.append(found)
        if runs < 5:  # with five the rung is known to rank, and is free
            assert (found is not None) == (spent / 16 >= 0.4 * (1 + runs))
    assert len(asked) == 5
    # Its best first, then one of its worse ones: the best alone would not show how it ranks.
    assert places == pytest.approx(buying.PLACES, abs=0.1)


def test_the_target_runs_the_best_of_the_cheap_rungs_when_their_credit_is_used_up() -> None:
    study = search(24)
    rungs = [t.user_attrs[RUNG] for t in all_trials(study)]
    first = rungs.index(2)
    assert sum(COSTS[r] for r in rungs[:first]) <= COSTS[2] + COSTS[1]
    trials = all_trials(study)
    asked = [i for i, rung in enumerate(rungs) if rung == 2][:5]
    for i in asked:
        below = [t.params for t in trials[:i] if t.constraints[RUNG] > 0]
        assert trials[i].params in below
    assert sum(trials[i].params in [t.params for t in trials[:first]] for i in asked) >= 3


def paired_with(ranks: list[int], spent: int = 20) -> tuple[Any, History]:
    """Trials on the cheapest rung, of which the target ran a few, with scores in these ranks."""
    made = results([spent, 0, len(ranks)])
    roots = np.concatenate([made.roots[:spent], made.roots[: len(ranks)]])
    order = np.sort(truth(made.roots[: len(ranks)] ** 2))
    cheap = np.argsort(np.argsort(truth(made.roots[: len(ranks)] ** 2)))
    values = np.concatenate([made.values[:spent], order[np.array(ranks)[cheap]]])
    history = History(roots**2, values, (), rungs=made.rungs, target=2)
    return problem_of(made._replace(roots=roots, values=values)), history


@pytest.mark.parametrize("ranks", [[4, 3, 2, 1, 0], [2, 4, 0, 3, 1]])
def test_what_is_said_of_a_rung_that_is_given_up_is_so(ranks: list[int]) -> None:
    problem, history = paired_with(ranks)
    said = distrusted(problem, history, SHARES)[0]
    figure = float(said.split(" nats")[0].split(" of what a score")[0].split()[-1])
    if "nats" in said:
        assert "the 5 scores of the target are foretold worse" in said and figure > 0.5
    else:
        assert figure < 0.5 and "below 0.5" in said
    assert distrusted(*paired_with([0, 1, 2, 3, 4]), SHARES) == {}


def test_a_dear_rung_is_not_tried_where_those_below_mislead() -> None:
    problem, history = paired_with([1, 3, 0, 2, 4])
    dear, cheap = np.array([1, 4, 16]) / 16, np.array([1, 8, 1600]) / 1600
    assert distrusted(replace(problem, told=-0.4), history, dear) == {}
    misled = replace(problem, told=-0.6)
    assert set(distrusted(misled, history, dear)) == {0, 1}
    # To find out costs five trials of it: .025 of the target's, of which it has run five.
    assert set(distrusted(misled, history, cheap)) == {0}
    # Four pairs say nothing yet, whatever is foretold by them.
    few, early = paired_with([3, 2, 1, 0])
    assert few.told < -0.5 and distrusted(few, early, dear) == {}


@pytest.mark.parametrize("noise", [0.0, 0.15, 0.4])
def test_where_no_rung_is_left_below_the_target_a_search_goes_on_as_one_of_one_rung(
    noise: float,
) -> None:
    problem, history = paired_with([2, 4, 0, 3, 1])
    assert {0, 1} == set(distrusted(problem, history, np.array([1, 4, 16]) / 16))
    purse = Purse(Ladder.of([1, 4, 16]), left=16.0 * 9)
    found, rung = purse.buy(problem, history, np.random.default_rng(5), noise)
    alone = told_or_better(problem, np.random.default_rng(5), noise)
    assert rung == 2 and np.array_equal(found, alone)
    # The last trial sees what is recommended.
    purse = Purse(Ladder.of([1, 4, 16]), left=16.0)
    last, rung = purse.buy(problem, history, np.random.default_rng(5), noise)
    assert rung == 2 and not np.array_equal(last, alone)


def test_a_search_whose_cheap_rung_says_nothing_ends_with_the_targets_own_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def objective(trial: optuna.Trial) -> float:
        weights = SPACE.weights(SPACE.suggest(trial))
        above = trial.constraints.get(RUNG, 0) == 0
        rng = np.random.default_rng(int(1e6 * weights[0]))
        return float(truth(weights[None])[0]) if above else float(rng.normal())

    believed: list[int] = []  # results that each trial of the target was proposed from

    def told(problem: Problem, rng: np.random.Generator, noise: float) -> np.ndarray:
        believed.append(len(problem.objectives[0].results.values))  # type: ignore[attr-defined]
        return told_or_better(problem, rng, noise)

    monkeypatch.setattr("climb_opt.samplers.rungs.told_or_better", told)
    study = optuna.create_study(sampler=SimplexGPSampler(SPACE, ladder=LADDER_OF, seed=0))
    study.optimize(objective, n_trials=60)
    target = [t for t in all_trials(study) if t.user_attrs[RUNG] == 2]
    # Of 60 trials those below are more than the target's: it is these alone that are believed.
    late = [n for n in believed if n < len(target)]
    assert 30 > len(target) > ALONE + 4 and late[-4:] == believed[-4:] and min(late) == ALONE
    for trial in target[-4:]:  # what was expected of them, too
        assert trial.value == pytest.approx(trial.system_attrs[FORECAST]["mean"], abs=0.2)
    best = best_mixture(study)
    assert best.predicted is not None and best.trials == len(target)
    assert best.predicted.low <= truth(SPACE.weights(best.mixture)[None])[0] <= best.predicted.high


def test_only_runs_at_the_target_show_what_a_rung_says_of_it() -> None:
    made = results([17, 5, 1])  # five on both cheap rungs, one of them at the target
    roots = np.concatenate([made.roots[:17], made.roots[:5], made.roots[:1]])
    values = np.concatenate([made.values[:17], made.values[:5], truth(made.roots[:1] ** 2)])
    problem: Any = problem_of(made._replace(roots=roots, values=values))
    history = History(roots**2, values, (), rungs=made.rungs, target=2)
    scores, ladder = truth(history.weights[:17]), Ladder.of([1, 2, 16])
    buy = partial(Purse.buy, problem=problem, history=history, explore=0.0)
    asked, rung = buy(Purse(ladder), rng=np.random.default_rng(0))
    assert rung == 2 and np.abs(history.weights[:17] - asked).sum(axis=1).min() < 1e-9
    assert truth(asked[None])[0] > np.median(scores)  # not of its best alone
    last, rung = buy(Purse(ladder, 20.0), rng=np.random.default_rng(0))
    assert rung < 2 or truth(last[None])[0] < np.quantile(scores, 0.2)  # that is no question


def test_the_last_trial_of_the_target_sees_what_is_recommended() -> None:
    given = results([20, 4, 3])
    problem: Any = problem_of(given)
    history = History(given.roots**2, given.values, (), rungs=given.rungs, target=2)
    weights, rung = Purse(LADDER_OF, left=20.0).buy(problem, history, np.random.default_rng(0), 0.0)
    assert rung == 2 and truth(weights[None])[0] < 0.1
    for seed in range(8):  # nor does it explore
        weights, _ = Purse(LADDER_OF, 16.0).buy(problem, history, np.random.default_rng(seed), 1.0)
        assert truth(weights[None])[0] < 0.1
    fixed = Purse(LADDER_OF, fixed=1)
    assert fixed.buy(problem, history, np.random.default_rng(0), 0.0)[1] == 1
    assert fixed.first == 1 and fixed.paired == 0 and Purse(None).first is None


@pytest.mark.parametrize(("ran", "doubts"), [(4, False), (6, True), (7, False), (8, True)])
def test_every_other_trial_of_the_target_doubts_what_the_rungs_below_say(
    monkeypatch: pytest.MonkeyPatch, ran: int, doubts: bool
) -> None:
    made = results([20, 0, ran], cheap=0.9)
    roots = np.concatenate([made.roots[:20], made.roots[:ran]])  # the target runs some of them
    values = np.append(made.values[:20], truth(roots[20:] ** 2))
    problem: Any = problem_of(made._replace(roots=roots, values=values))
    history = History(roots**2, values, (), rungs=made.rungs, target=2)
    running = np.sqrt([SPACE.prior])
    due = replace(problem, pending=running**2, pending_rungs=np.array([0]))
    asked: list[Problem] = []

    def propose(problem: Problem, rng: np.random.Generator) -> np.ndarray:
        asked.append(problem)
        return CENTRE

    chosen = Choice(roots[9] ** 2, 2, 1.0)
    monkeypatch.setattr(buying, "choose", lambda *_: chosen)
    monkeypatch.setattr(buying, "propose", propose)
    monkeypatch.setattr(Purse, "_witness", lambda *_: None)  # it is known what the rungs say
    for purse, most in ((Purse(LADDER_OF, fixed=2), 0), (Purse(LADDER_OF), int(doubts))):
        weights, rung = purse.buy(due, history, np.random.default_rng(0), 0.0)
        assert rung == 2 and np.array_equal(weights, CENTRE if most else chosen.weights)
        assert len(asked) == most
    for doubtful in asked:
        process: Any = doubtful.objectives[0]
        assert process.correlation(0) < 0.9 * problem.objectives[0].correlation(0)
        # What runs on the cheap rung is known to be due there, and not taken for one of the target.
        assert len(doubtful.known) == 21 + ran and not len(doubtful.pending)
        doubting = problem.objectives[0].doubting(buying.DOUBT)
        told, as_target = (doubting.imagine(running, rungs) for rungs in (np.array([0]), None))
        elsewhere = np.sqrt(SPACE.sample_mixed(np.random.default_rng(1), 50))
        found, expected, other = (p.moments(elsewhere)[1] for p in (process, told, as_target))
        np.testing.assert_allclose(found, expected)
        assert not np.allclose(found, other)


def test_a_trial_that_costs_nearly_nothing_counts_for_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, told = results([20, 0, 6]), list[np.ndarray]()
    problem: Any = problem_of(made)
    history = History(made.roots**2, made.values, (), rungs=made.rungs, target=2)

    def choose(_: Problem, costs: np.ndarray, *others: Any) -> Choice:
        told.extend([costs, others[-1]])
        return Choice(CENTRE, 0, 1.0)

    monkeypatch.setattr(buying, "choose", choose)
    Purse(Ladder.of([1e-6, 4, 16]), fixed=0).buy(problem, history, np.random.default_rng(0), 0.0)
    costs, going_on = told
    assert costs == pytest.approx([16 * buying.LEAST, 4, 16])
    assert going_on.min() >= 16 * buying.LEAST


def test_trials_that_run_are_counted_on_their_rung() -> None:
    sampler = SimplexGPSampler(SPACE, ladder=LADDER_OF, seed=0, n_startup=6)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=10)
    asked = [study.ask() for _ in range(4)]
    for trial in asked:
        SPACE.suggest(trial)
    running = [t for t in all_trials(study) if not t.state.is_finished()]
    weights, rungs = sampler._pending(running, None, 2)
    assert rungs.tolist() == [t.user_attrs[RUNG] for t in asked] and len(weights) == 4
    # What runs is known to be due: nobody asks for it again on its rung.
    problem = sampler._beliefs.problem(
        climb_opt.read_history(study, SPACE, rungs=True), weights, rungs
    )
    assert problem is not None
    for mixture, rung in zip(weights, rungs, strict=True):
        assert len(fresh(mixture[None], problem, int(rung))) == 0
        if rung < 2:
            assert len(fresh(mixture[None], problem, int(rung) + 1)) == 1


def test_one_model_for_each_component_is_refused_on_a_ladder() -> None:
    sampler = SimplexGPSampler(SPACE, ladder=LADDER_OF, components=True, seed=0, n_startup=4)
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(climb_opt.UserError, match="leave components out"):
        study.optimize(objective, n_trials=8)
