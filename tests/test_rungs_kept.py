"""Promises around a search that hold on rungs, too: warm starts, retraining, retries, pauses."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import optuna
import pytest

import climb_opt
import studying
from climb_opt import study as studies
from climb_opt.attributes import IMPORTED, LADDER, RUNG, SLOT
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.recipes import StudyRecipe
from climb_opt.retrain import noise, repeats
from climb_opt.retrain.sibling import run_by
from climb_opt.study import open_study, read_recipe
from climb_opt.view import StudyView, all_trials
from climb_opt.warmstart import begin
from laddered import BELOW, bought, by_rung, on_rungs, searched
from studying import PACE

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe, journal = studying.recipe, studying.journal  # fixtures


def imported(study: optuna.Study) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for trial in all_trials(study):
        if IMPORTED in trial.user_attrs:
            found.setdefault(trial.user_attrs.get(RUNG, 1), []).append(trial.values[0])
    return found


# --- warm starts ---------------------------------------------------------------------------------


def test_trials_keep_their_rung_in_a_study_that_has_it(recipe: StudyRecipe, journal: str) -> None:
    wanted = on_rungs(recipe, rungs=(0, 1))
    searched(wanted, journal, "old")
    study = open_study(dataclasses.replace(wanted, seed=1), storage=journal, study_name="new")
    lines = begin(study, "old")
    low, high = (rung.name for rung in StudyView(study).ladder.rungs)  # type: ignore[union-attr]
    assert f"By rung: 4 at {high}, 3 at {low}." in lines or f"3 at {low}" in lines[1]
    found = imported(study)
    assert {rung: len(values) for rung, values in found.items()} == {0: 3, 1: 4}
    assert max(found[0]) < -BELOW + 2 and min(found[1]) > -1
    assert study.best_value == min(found[1])
    assert len(StudyView(study).history()) == 4
    assert studies.status(study).rungs[0].spent == 0  # imported: paid for elsewhere
    assert not any(line.startswith("Rung") for line in lines)
    studies.work(study, objective=by_rung, pace=PACE)
    assert studies.status(study).done


def test_trials_of_one_proxy_find_their_rung_and_a_word_on_repetition(
    recipe: StudyRecipe, journal: str
) -> None:
    wanted = on_rungs(recipe, rungs=(0, 1))
    for name, proxy in (("small", wanted.ladder[0]), ("large", wanted.ladder[1])):
        searched(dataclasses.replace(recipe, proxy=proxy), journal, name)
    study = open_study(wanted, storage=journal, study_name="new")
    lines = begin(study, "small")
    assert {r: len(v) for r, v in imported(study).items()} == {0: 7}
    assert any("read 1 of each domain in the older study and reads 0.25 here" in x for x in lines)
    lines = begin(study, "large")
    assert {r: len(v) for r, v in imported(study).items()} == {0: 7, 1: 7}
    assert not any("of each domain" in x for x in lines)
    whole = dataclasses.replace(wanted, repetition="whole")
    other = open_study(whole, storage=journal, study_name="whole")
    assert not any("of each domain" in x for x in begin(other, "small"))


def test_rungs_that_the_new_study_lacks_are_left_out_and_named(
    recipe: StudyRecipe, journal: str
) -> None:
    wanted = on_rungs(recipe, rungs=(0, 1))
    old = searched(wanted, journal, "old")
    low = StudyView(old).ladder.rungs[0].name  # type: ignore[union-attr]
    plain = dataclasses.replace(recipe, proxy=wanted.ladder[1])
    study = open_study(plain, storage=journal, study_name="new")
    lines = begin(study, "old")
    assert f"Left out 3: no rung here trains what {low} does." in lines
    assert len(imported(study)[1]) == 4 and min(imported(study)[1]) > -1
    assert not any(t.constraints or RUNG in t.user_attrs for t in all_trials(study))


def test_studies_without_a_common_rung_are_refused(recipe: StudyRecipe, journal: str) -> None:
    searched(on_rungs(recipe, rungs=(0, 1)), journal, "old")
    other = dataclasses.replace(recipe, proxy=dataclasses.replace(recipe.proxy, lr=0.5))
    study = open_study(other, storage=journal, study_name="new")
    with pytest.raises(UserError, match=r"cannot be compared.*proxy\.lr"):
        begin(study, "old")


# --- retraining ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rounds", "budget"])
def test_what_is_retrained_is_trained_at_the_target(
    recipe: StudyRecipe, journal: str, how: str
) -> None:
    wanted = on_rungs(recipe, rounds=(4, 6), rungs=(0, 1)) if how == "rounds" else bought(recipe, 9)
    study = searched(wanted, journal)
    seeds: list[Any] = []

    def again(trial: optuna.Trial) -> float:
        assert RUNG not in trial.user_attrs
        seeds.append(trial.user_attrs[SLOT])
        return by_rung(trial)

    found = climb_opt.confirm(study, seeds=2, objective=again)
    assert all(len(scores) == 2 for scores in found.scores.values())
    assert climb_opt.transfer(study, "62m", mixtures=4, top=2, objective=again).missing == 0
    told = climb_opt.noise(study, repeats=2, corner=1, spread=3, objective=again)
    assert told.runs["prior"] == 2
    for name in ("s-confirm", "s-transfer-62m", "s-noise"):
        sibling = open_study(study_name=name, storage=journal, create=False)
        stored = read_recipe(sibling)
        assert (stored.ladder, stored.rungs, stored.budget) == ((), (), None)
        assert stored.proxy == wanted.proxy or name == "s-transfer-62m"
        assert LADDER not in sibling.user_attrs and StudyView(sibling).ladder is None
        now = studies.status(sibling)
        assert now.done and now.rungs == () and now.budget is None
    assert "judged at" in climb_opt.report(study, markdown=True)


def test_what_mixtures_differ_by_is_taken_from_the_target_alone(
    recipe: StudyRecipe, journal: str
) -> None:
    study = searched(on_rungs(recipe, rounds=(10, 2), rungs=(0, 1)), journal)
    scores = [one["score"] for one in repeats.tried(study)]
    assert len(scores) == 4 and min(scores) > -1
    sibling = repeats.begin(repeats.subject(study), repeats.Terms(2, 0, 8))
    noise.work_on(sibling, run_by(by_rung))
    assert noise.noise_of(sibling).before.signal < 5 or noise.noise_of(sibling).before.noise == 0


def test_noise_of_a_recipe_on_rungs_that_has_not_begun(recipe: StudyRecipe, journal: str) -> None:
    for name, wanted in (("r", on_rungs(recipe, rungs=(0, 1))), ("b", bought(recipe, 9))):
        of = repeats.subject(wanted, journal, name)
        sibling = repeats.begin(of, repeats.Terms(2, 1, 3))
        noise.work_on(sibling, run_by(by_rung))
        assert studies.status(sibling).done and StudyView(sibling).ladder is None
        assert all(RUNG not in t.user_attrs for t in all_trials(sibling))


# --- steering ------------------------------------------------------------------------------------


def test_a_slot_given_up_on_a_rung_is_retried_there(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(on_rungs(recipe, rungs=(0, 1)), storage=journal, study_name="s")

    def broken(trial: optuna.Trial) -> float:
        if trial.user_attrs[SLOT] == 1:
            raise RuntimeError("no luck")
        return by_rung(trial)

    studies.work(study, objective=broken, pace=PACE)
    assert studies.status(study).given_up == (1,)
    assert climb_opt.retry(study) == (1,)
    studies.work(study, objective=by_rung, pace=PACE)
    tried = [t for t in all_trials(study) if t.user_attrs[SLOT] == 1]
    assert tried[-1].values[0] < -BELOW / 2 and tried[-1].user_attrs[RUNG] == 0
    assert studies.status(study).done


def test_a_slot_that_a_budget_gave_up_is_retried_on_the_rung_it_had(
    recipe: StudyRecipe, journal: str
) -> None:
    wanted = dataclasses.replace(bought(recipe, 9), max_attempts=1)
    study = open_study(wanted, storage=journal, study_name="s")

    def broken(trial: optuna.Trial) -> float:
        if trial.user_attrs[SLOT] == 2:
            raise RuntimeError("no luck")
        return by_rung(trial)

    ended: list[int] = []

    def count(trial: Any) -> None:
        ended.append(trial.number)

    stop = lambda: len(ended) > 5  # noqa: E731
    studies.work(study, objective=broken, pace=PACE, stop=stop, on_trial=count)
    assert climb_opt.retry(study) == (2,)
    studies.work(study, objective=by_rung, pace=PACE)
    tried = [t for t in all_trials(study) if t.user_attrs[SLOT] == 2]
    rungs = [t.user_attrs[RUNG] for t in tried if RUNG in t.user_attrs]
    assert set(rungs) == {0}
    assert studies.status(study).done


@pytest.mark.parametrize(
    ("budget", "prior", "rungs"),
    [
        (3.53, True, [1, 1, 0, 0, 1]),  # two draws; a third would leave no trial of the target
        (2.6, False, [0] * 6 + [1]),
        (3.1, True, [1, 1, 1]),
        (2.1, False, [0] * 4 + [1]),
    ],
)
def test_draws_leave_a_trial_of_the_target_in_the_budget(
    recipe: StudyRecipe, journal: str, budget: float, prior: bool, rungs: list[int]
) -> None:
    wanted = bought(recipe, budget, "simplex-gp")
    if not prior:
        wanted = dataclasses.replace(wanted, baselines=())
    trials = all_trials(searched(wanted, journal))
    assert [t.user_attrs[RUNG] for t in trials] == rungs


def test_a_budget_pauses_and_goes_on(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(bought(recipe, 6), storage=journal, study_name="s")
    climb_opt.pause(study)
    asked = iter(range(3))
    studies.work(study, objective=by_rung, pace=PACE, stop=lambda: next(asked, None) is None)
    assert not all_trials(study) and studies.status(study).paused
    climb_opt.resume(study)
    studies.work(study, objective=by_rung, pace=PACE)
    assert studies.status(study).done and not studies.status(study).paused


# --- bad input at the command line ---------------------------------------------------------------

BASE = """
corpus: {corpus}
proxy:
  {{model: {{hidden: 16, layers: 1, heads: 2}}, tokens: 4096, sequence: 16, batch_tokens: 1024}}
evaluators: [{{name: heldout, target: sums}}]
score: [sums/bpb]
baselines: []
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "ladder: [{tokens: 8192}, {}]\nbudget: {flops: 1e15}\nsampler: simplex-gp",
            "cheapest first",
        ),
        ("rounds: [{trials: 2, proxy: {tokens: 8192}}, {trials: 2, proxy: {}}]", "cheapest first"),
        ("ladder: [{tokens: 1024}, {}]\nbudget: {flops: 9}\nsampler: simplex-gp", "do not pay for"),
        (
            "ladder: [{tokens: 1024}, {}]\nbudget: {flops: -1}\nsampler: simplex-gp",
            "must be positive",
        ),
        ("ladder: [{tokens: 1024}, {}]\nbudget: {flops: many}\nsampler: simplex-gp", "flops"),
        ("ladder: [{tokens: 1024}, {}]\nbudget: 3e19\nsampler: simplex-gp", "study.budget"),
        (
            "ladder: [{tokens: 1024}, {}]\nsampler: tpe\nbudget: {flops: 1e15}",
            "does not choose rungs",
        ),
        ("ladder: [{tokens: 10}, {}]\nbudget: {flops: 1e15}\nsampler: simplex-gp", "ladder"),
        ("rounds: [{trials: 2, rung: 1}]\nladder: [{}]", "no rung of the ladder"),
        ("ladder: [{tokens: 1024}, {}]\nrounds: []\nsampler: simplex-gp", "nothing is to be run"),
        (
            "ladder: [{tokens: 1024}, {go_on: true}]\nbudget: {flops: 1e15}\nsampler: simplex-gp",
            "study.ladder[1] (1 x 16 on 4,096 tokens): go_on: under repetition: matched",
        ),
        (
            "ladder: [{tokens: 1024, go_on: true}, {}]\nbudget: {flops: 1e15}\nsampler: simplex-gp",
            "study.ladder[0] (1 x 16 on 1,024 tokens): go_on: there is no rung below",
        ),
    ],
)
def test_bad_ladders_are_one_line_and_status_2(
    tiny_corpus: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str], more: str, said: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(BASE.format(corpus=tiny_corpus.path) + more)
    assert main(["search", str(file), "--storage", str(tmp_path / "x.journal")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err and "Traceback" not in err


def test_another_ladder_for_a_running_study_is_one_line_with_the_difference(
    tiny_corpus: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file, storage = tmp_path / "mine.yaml", str(tmp_path / "x.journal")
    rounds = "rounds: [{{trials: 2, proxy: {{tokens: {}}}}}, {{trials: 2, proxy: {{}}}}]"
    base = BASE.format(corpus=tiny_corpus.path)
    file.write_text(base + rounds.format(1024))
    open_study(str(file), storage=storage)
    for other, said in (
        (rounds.format(2048), "ladder[0].tokens: 1024 -> 2048"),
        ("rounds: [2, 2]", "rungs: [0, 1] -> []"),
    ):
        file.write_text(base + other)
        assert main(["search", str(file), "--storage", storage]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and said in err and "another recipe" in err


def test_a_table_of_runs_is_of_the_target(recipe: StudyRecipe, journal: str, tmp_path: Any) -> None:
    study = open_study(on_rungs(recipe, rungs=(0, 1)), storage=journal, study_name="s")
    (tmp_path / "runs.csv").write_text("web,code,math,value\n0.2,0.3,0.5,1.0\n0.5,0.3,0.2,2.0\n")
    begin(study, csv=tmp_path / "runs.csv")
    assert StudyView(study).history().values.tolist() == [1.0, 2.0] and study.best_value == 1.0
    assert Counter(RUNG in t.user_attrs for t in all_trials(study)) == {False: 2}
