"""What a person sees of rungs: spent and left, each trial's rung, and never two rungs compared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

import climb_opt
import studying
from climb_opt import study as studies
from climb_opt.attributes import FACTS, IMPORTED, RUNG, SLOT
from climb_opt.cli import main
from climb_opt.cli.status import describe
from climb_opt.errors import UserError
from climb_opt.history import History
from climb_opt.ladder import Ladder
from climb_opt.ladder.agreement import Agreement, paired, rank_agreement
from climb_opt.plan import Plan
from climb_opt.recipes import StudyRecipe
from climb_opt.statistics import FEWEST_PAIRS, rank_interval, spearman
from climb_opt.study import enqueue, open_study
from climb_opt.text import flops
from climb_opt.view import StudyView, all_trials
from laddered import bought, by_rung, on_rungs, searched
from searching import arrange, the_study, write
from studying import PACE

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe, journal = studying.recipe, studying.journal  # fixtures
EVEN = {"web": 0.5, "code": 0.25, "math": 0.25}


# --- how far rungs agree -------------------------------------------------------------------------


def runs(*rungs: list[float]) -> History:
    """Scores of the same mixtures on each rung; NaN where one was not run."""
    table = np.array(rungs)
    rng = np.random.default_rng(0)
    weights = np.tile(rng.dirichlet(np.ones(4), table.shape[1]), (len(rungs), 1))
    of = np.repeat(np.arange(len(rungs)), table.shape[1])
    ran = np.isfinite(table.ravel())
    return History(weights[ran], table.ravel()[ran], (), rungs=of[ran])


def test_each_rung_is_compared_with_the_next_and_with_the_target() -> None:
    order = [float(i) for i in range(8)]
    history = runs(order, order[::-1], order)
    found = rank_agreement(history)
    assert [(a.lower, a.upper, a.n) for a in found] == [(0, 1, 8), (0, 2, 8), (1, 2, 8)]
    assert [round(a.estimate, 9) for a in found] == [-1.0, 1.0, -1.0]
    assert found[1].low > 0.5 and found[0].high < -0.5
    several = np.column_stack([history.values, np.tile(order[::-1], 3)])
    assert rank_agreement(replace(history, values=several)) == found  # of the first objective


def test_mixtures_on_one_rung_only_say_nothing_and_repeats_count_once() -> None:
    nan = float("nan")
    history = runs([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, nan, nan], [3.0, nan, nan, nan, 1.0])
    scores, rows = paired(history, 0, 2)
    assert scores.tolist() == [[2.0, 3.0], [5.0, 1.0]] or scores.tolist() == [
        [1.0, 3.0],
        [5.0, 1.0],
    ]
    assert len(rows) == 2
    few = rank_agreement(history)
    assert [a.n for a in few] == [3, 2, 1] and not any(a.known for a in few)
    assert str(few[0]) == "too few mixtures on both (3)"
    again = History(
        np.concatenate([history.weights, history.weights[:1]]),
        np.append(history.values, 2.0),
        (),
        rungs=np.append(history.rungs, 0),
    )
    assert len(paired(again, 0, 1)[0]) == 3
    assert paired(again, 0, 1)[0][0].tolist() == [1.5, 1.0]  # the mean of two runs


def test_a_rung_never_reached_and_equal_scores_are_told() -> None:
    order = [float(i) for i in range(8)]
    found = rank_agreement(runs(order), rungs=3)
    assert [(a.lower, a.upper, a.n, a.low, a.high) for a in found] == [
        (0, 1, 0, -1.0, 1.0),
        (0, 2, 0, -1.0, 1.0),
        (1, 2, 0, -1.0, 1.0),
    ]
    for n in (FEWEST_PAIRS, 8):
        assert str(rank_agreement(runs(order[:n], [1.0] * n))[0]) == "all scores equal"
    assert rank_agreement(History(np.empty((0, 2)), np.empty(0), ())) == []


@pytest.mark.parametrize("form", ["normal", "heavy", "skew"])
@pytest.mark.parametrize(("rho", "n"), [(0.0, 8), (0.6, 8), (0.9, 12), (0.95, 20), (0.99, 12)])
def test_the_interval_holds_as_often_as_it_says(rho: float, n: int, form: str) -> None:
    rng = np.random.default_rng(7)

    def draw(count: int) -> np.ndarray:
        """Scores on two rungs: normal, with heavy tails, or agreeing better at one end."""
        x, e = rng.standard_normal((2, count))
        tails = np.sqrt(3 / rng.chisquare(3, count)) if form == "heavy" else 1.0
        spread = np.exp(0.7 * x - 0.49) if form == "skew" else 1.0
        return np.stack([x, rho * x + np.sqrt(1 - rho**2) * e * spread], axis=1) * np.c_[tails]

    true = spearman(*draw(100_000).T)
    found = [Agreement.of(0, 1, draw(n)) for _ in range(250)]
    held = np.mean([one.low <= true <= one.high for one in found])
    assert 0.83 <= held <= 0.99


@given(
    st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=4, max_size=30),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_the_interval_is_no_point_and_within_bounds(
    pairs: list[tuple[int, int]], level: float
) -> None:
    a, b = np.array(pairs, dtype=float).T
    low, high = rank_interval(a, b, level=level)
    assert -1 <= low < high <= 1
    assert rank_interval(a[:3], b[:3]) == (-1.0, 1.0)
    found = spearman(a, b)
    if np.isnan(found):
        assert (low, high) == (-1.0, 1.0)
    else:
        assert low - 1e-12 <= found <= high + 1e-12
        assert rank_interval(np.exp(a), b, level=level) == (low, high)  # of ranks alone
        down, up = rank_interval(-a, b, level=level)
        assert (down, up) == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (40, "40"), (3.1e17, "3.1e17"), (2.1349e19, "2.13e19"), (9.996e5, "1e6")],
)
def test_flops_are_written_as_a_person_does(value: float, text: str) -> None:
    assert flops(value) == f"{text} FLOPs"


# --- status --------------------------------------------------------------------------------------


def test_status_of_rounds_on_rungs_names_each_rounds_rung(
    recipe: StudyRecipe, journal: str
) -> None:
    study = searched(on_rungs(recipe, rungs=(0, 1)), journal)
    now, ladder = studies.status(study), StudyView(study).ladder
    assert ladder is not None
    names = [rung.name for rung in ladder.rungs]
    assert [r.rung for r in now.rounds] == names and now.done and now.size == 7
    assert [(r.name, r.flops, r.finished) for r in now.rungs] == [
        (names[0], ladder.costs[0], 3),
        (names[1], ladder.costs[1], 4),
    ]
    assert [r.spent for r in now.rungs] == [3 * ladder.costs[0], 4 * ladder.costs[1]]
    assert now.best is not None and now.best > -1  # not of the rung below
    assert now.budget is None and now.left is None
    text = describe(now)
    assert f"{names[1]} (target)" in text and text.count(names[0]) >= 2
    assert f"best score {now.best:.6g} at {names[1]}" in text
    assert "too few mixtures on both (0)" in text


def test_status_of_a_budget_tells_what_is_left(recipe: StudyRecipe, journal: str) -> None:
    wanted = bought(recipe, 7.5)
    study = open_study(wanted, storage=journal, study_name="s")
    before = studies.status(study)
    assert not before.done and before.size == 2 and before.left == before.budget
    assert before.seconds_left is None

    def timed(trial: optuna.Trial) -> float:
        trial.set_user_attr(FACTS, {"seconds": 2.0})
        return by_rung(trial)

    asked = iter(range(3))
    studies.work(study, objective=timed, pace=PACE, stop=lambda: next(asked, None) is None)
    during = studies.status(study)
    assert not during.done and during.left is not None and during.seconds_left is not None
    spent = [(r.seconds, r.spent) for r in during.rungs if r.finished]
    assert (
        spent
        and during.seconds_left > 0
        and during.seconds_left
        == pytest.approx(during.left * sum(s for s, _ in spent) / sum(f for _, f in spent))
    )
    assert ", 30 trials a minute, about " in describe(during)
    studies.work(study, objective=timed, pace=PACE)
    now = studies.status(study)
    assert wanted.budget is not None and now.left is not None and now.done
    spent = sum(r.spent for r in now.rungs)
    assert now.budget == wanted.budget.flops and now.left == now.budget - spent
    assert now.size == now.finished == len(all_trials(study)) == sum(r.finished for r in now.rungs)
    assert [a.n for a in now.agreement] == [4] and now.agreement[0].estimate == pytest.approx(1.0)
    text = describe(now)
    # What is left pays for no trial of the target: no time is left.
    assert 0 < now.left < now.rungs[-1].flops and now.seconds_left == 0 and "about" not in text
    assert f"budget: {flops(spent)} of {flops(now.budget)}" in text
    assert f"{now.finished} trials done, best score" in text and "4 mixtures" in text


def test_as_many_workers_start_as_a_budget_has_trials_for() -> None:
    named = ("baseline/prior", "baseline/uniform")
    assert Plan((), named, ladder=Ladder.of([1, 16]), budget=64).widest == 64
    assert Plan((), named, ladder=Ladder.of([16]), budget=48).widest == 3
    assert Plan((8, 4), named).widest == 10


def test_time_left_is_by_each_rungs_own_seconds(recipe: StudyRecipe, journal: str) -> None:
    from datetime import datetime, timedelta

    from optuna.trial import TrialState, create_trial

    study = open_study(
        on_rungs(recipe, rungs=(0, 1), baselines=()), storage=journal, study_name="s"
    )
    clock = datetime(2026, 11, 20, 8)
    for slot, seconds in ((0, 10), (1, 10)):
        trial = create_trial(
            value=1.0,
            params=dict.fromkeys(("w/web", "w/code", "w/math"), 1 / 3),
            distributions=StudyView(study).space.distributions(),
            user_attrs={SLOT: slot, RUNG: 0},
            state=TrialState.COMPLETE,
        )
        trial.datetime_start, trial.datetime_complete = clock, clock + timedelta(seconds=seconds)
        study.add_trial(trial)
    at_once = {IMPORTED: {}, RUNG: 1}  # trained elsewhere, and no matter how long ago
    for trial in study.get_trials(deepcopy=False)[:1]:
        study.add_trial(
            create_trial(
                value=1.0,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs=at_once,
            )
        )
    costs = StudyView(study).plan.ladder.costs  # type: ignore[union-attr]
    left = studies.status(study).seconds_left
    assert left == pytest.approx(10 + 2 * 10 * costs[1] / costs[0])


@pytest.mark.parametrize("misleads", [False, True])
def test_a_rung_that_is_bought_no_more_is_told_with_the_reason(
    recipe: StudyRecipe, journal: str, misleads: bool
) -> None:
    study = open_study(bought(recipe, 24.0), storage=journal, study_name="s")
    turned = lambda t: -by_rung(t) if misleads and t.user_attrs[RUNG] == 0 else by_rung(t)  # noqa: E731
    studies.work(study, objective=turned, pace=PACE)
    now = studies.status(study)
    assert len(now.distrusted) == misleads
    text = climb_opt.report(study, markdown=True).replace("\\", "")
    assert ("is bought no more" in describe(now)) == misleads == ("is bought no more" in text)
    if misleads:
        assert now.rungs[0].name in now.distrusted[0] and now.agreement[0].estimate < -0.9


# --- at the command line -------------------------------------------------------------------------


@pytest.fixture
def home(tiny_corpus: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    return arrange(tiny_corpus, tmp_path, monkeypatch)


def test_a_search_names_the_rung_of_each_trial_and_what_is_spent(
    home: Any, recipe: StudyRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    write(bought(recipe, 6.0))
    assert main(["search", "mine.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    low, high = (rung.name for rung in StudyView(the_study()).ladder.rungs)  # type: ignore[union-attr]
    assert low in lines[2] and high in lines[3] and "slot 0" in lines[2]
    assert "round" not in lines[2]
    now = climb_opt.status(the_study())
    assert f"at {high}, {flops(now.budget - now.left)} of {flops(now.budget)}." in lines[-1]  # type: ignore[operator]
    assert main(["status", "mine", "-f", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["budget"] == now.budget and data["rungs"][0]["name"] == low
    assert data["agreement"][0]["n"] == now.agreement[0].n
    assert main(["status", "mine", "-f", "yaml"]) == 0


def test_mixtures_are_put_in_line_on_any_rung(
    home: Any, recipe: StudyRecipe, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    write(on_rungs(recipe, rungs=(0, 1)))
    study = open_study("mine.yaml", storage="runs/climb.journal")
    name = StudyView(study).ladder.rungs[0].name  # type: ignore[union-attr]
    (tmp_path / "m.yaml").write_text(json.dumps(EVEN))
    for rung in ("0", name, "1"):
        assert main(["enqueue", "mine", "m.yaml", "--rung", rung]) == 0
    assert main(["enqueue", "mine", "m.yaml"]) == 0
    studies.work(study, objective=by_rung, pace=PACE)
    inline = [t for t in all_trials(study) if str(t.user_attrs[SLOT]).startswith("enqueued/")]
    assert [t.user_attrs[RUNG] for t in inline] == [0, 0, 1, 1]
    assert [t.constraints for t in inline] == [{RUNG: 1.0}, {RUNG: 1.0}, {RUNG: 0.0}, {RUNG: 0.0}]
    assert study.best_value > -1
    capsys.readouterr()
    for rung in ("2", "20m", "-1", ""):
        assert main(["enqueue", "mine", "m.yaml", "--rung", rung]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and f"0 ({name}), 1 (" in err and "No rung" in err


def test_a_mixture_in_line_that_failed_is_tried_again_on_its_rung(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(on_rungs(recipe, rungs=(0, 1)), storage=journal, study_name="s")
    enqueue(study, "mine", EVEN, rung=0)
    broken = iter([True])

    def fails_once(trial: optuna.Trial) -> float:
        if str(trial.user_attrs[SLOT]) == "enqueued/mine" and next(broken, False):
            raise RuntimeError("no luck")
        return by_rung(trial)

    studies.work(study, objective=fails_once, pace=PACE)
    tries = [t for t in all_trials(study) if t.user_attrs[SLOT] == "enqueued/mine"]
    assert [t.user_attrs[RUNG] for t in tries] == [0, 0] and tries[1].value is not None
    assert tries[1].value < -1


def test_a_study_of_one_rung_takes_no_other(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="s")
    assert enqueue(study, "mine", EVEN, rung=0) == "enqueued/mine"
    assert RUNG not in all_trials(study)[0].user_attrs
    with pytest.raises(UserError, match="has one rung"):
        enqueue(study, "mine", EVEN, rung=1)
    assert studies.status(study).rungs == () and studies.status(study).agreement == ()


@pytest.mark.parametrize("rung", [0, "0", "rung 0", " 0"])
def test_rungs_are_found_by_number_and_by_name(rung: int | str) -> None:
    assert Ladder.of([1, 2, 3]).number(rung) == 0
