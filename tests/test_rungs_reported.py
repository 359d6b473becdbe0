"""Reports, recommendations and exports of studies on rungs: one rung judges, and it is named."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

import climb_opt
import studying
from climb_opt import study as studies
from climb_opt.attributes import RUNG, SLOT
from climb_opt.cli import main
from climb_opt.cli.status import describe
from climb_opt.commands import command
from climb_opt.errors import UserError
from climb_opt.exports.from_study import export
from climb_opt.ladder import Ladder
from climb_opt.recipes import StudyRecipe
from climb_opt.reports.contents import gather
from climb_opt.reports.dashboard import notes
from climb_opt.reports.dashboard.cards import cards
from climb_opt.reports.dashboard.notebook import rounds_ended
from climb_opt.reports.draw import markdown, page
from climb_opt.reports.report import contents_of
from climb_opt.reports.snapshot import take
from climb_opt.selection import advise, best_mixture, compare_rules
from climb_opt.study import enqueue, open_study, status
from climb_opt.text import flops
from climb_opt.view import StudyView, all_trials, rung_attributes
from climb_opt.workers.status import RoundStatus
from laddered import BELOW, bought, by_rung, on_rungs, searched
from studying import PACE

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe, journal = studying.recipe, studying.journal  # fixtures


@pytest.fixture
def study(recipe: StudyRecipe, journal: str) -> optuna.Study:
    """20 mixtures on both rungs, within a budget."""
    return searched(bought(recipe, 12.0), journal)


@pytest.fixture
def below(recipe: StudyRecipe, journal: str) -> optuna.Study:
    """A search whose target nobody reached: without baselines, its first round done."""
    wanted = on_rungs(recipe, rounds=(8, 2), rungs=(0, 1), baselines=())
    study = open_study(wanted, storage=journal, study_name="s")

    def first_round(trial: optuna.Trial) -> float:
        if trial.user_attrs[SLOT] >= 8:
            raise RuntimeError("no machine is large enough")
        return by_rung(trial)

    studies.work(study, objective=first_round, pace=PACE)
    return study


def names_of(study: optuna.Study) -> list[str]:
    ladder = StudyView(study).ladder
    assert ladder is not None
    return [rung.name for rung in ladder.rungs]


def targets(study: optuna.Study) -> list[float]:
    return [t.values[0] for t in all_trials(study) if t.user_attrs[RUNG] == 1 and t.values]


# --- the report ----------------------------------------------------------------------------------


def test_a_report_has_a_section_on_rungs_and_compares_none(study: optuna.Study) -> None:
    contents = contents_of(study)
    html, text = page.render(contents), markdown.render(contents)
    low, high = names_of(study)
    plan = StudyView(study).plan
    assert plan.ladder is not None and plan.budget is not None
    spent = plan.ladder.spent(all_trials(study))
    assert '<section id="rungs"' in html and f"Scores of {contents.agreement[0].n} mixtures" in html
    for said in (f"{flops(spent)} of {flops(plan.budget)}", f"best single run at {high}"):
        assert said in html
    rows = [line for line in text.splitlines() if line.startswith(f"| {low} ")]
    assert len(rows) == 1 and str(contents.agreement[0]).split()[0] in rows[0].replace("\\", "")
    assert f"Mixtures are judged at {high}." in text.replace("\\", "")
    assert min(targets(study)) > -1
    drawn = html.partition('<section id="search"')[2].partition("</section>")[0]
    assert "searched" in drawn and "FLOPs spent, in trials of the target" in drawn
    shown = " ".join(re.findall(r">([^<]*)<", drawn))
    assert min(float(figure) for figure in re.findall(r"-?\d+\.\d+", shown)) > -BELOW / 2


def test_what_waits_in_line_is_not_spent_and_what_it_ran_counts_everywhere(
    recipe: StudyRecipe, journal: str
) -> None:
    study = searched(bought(recipe, 4.0), journal)
    ladder, before = StudyView(study).ladder, status(study)
    assert ladder is not None and before.left is not None and before.budget is not None
    climb_opt.enqueue(study, "mine", {"web": 0.2, "code": 0.3, "math": 0.5}, rung=0)
    climb_opt.enqueue(study, "ours", {"web": 0.2, "code": 0.3, "math": 0.5})
    waiting = ladder.costs.sum()
    for begun, trials in ((waiting, before.count), (0.0, before.count + 2)):
        now, contents = status(study), contents_of(study, every_rule=False)
        spent = sum(rung.spent for rung in now.rungs)
        assert spent == contents.cost.flops == sum(rung.spent for rung in contents.rungs)
        assert (now.begun, now.left) == (begun, before.left - waiting)
        assert now.budget == pytest.approx(spent + now.begun + now.left)
        assert now.count == sum(rung.finished for rung in now.rungs) == trials
        said, text = describe(now), markdown.render(contents).replace("\\", "")
        assert f"budget: {flops(spent)} of {flops(now.budget)}" in said
        assert (f", {flops(begun)} in trials that run or wait, 0 FLOPs left (" in said) == (
            begun > 0
        )
        assert f"{trials} trials done" in said
        assert text.count(f"{flops(spent)} of {flops(now.budget)}") == 2  # at its head and its foot
        assert f"{flops(spent)} were spent of a budget of" in text
        assert re.search(rf"trials finished.*\b{trials}\b", text)
        assert re.search(rf"trials ended.*\b{trials}\b", text)
        studies.work(study, objective=by_rung, pace=PACE)


def test_each_rounds_scores_are_of_its_own_rung(recipe: StudyRecipe, journal: str) -> None:
    study = searched(on_rungs(recipe, rounds=(4, 3), rungs=(0, 1)), journal)
    snapshot = take(study)
    contents = gather(snapshot, advise(study, every=False), predictor="linear")
    first, second = contents.rounds
    assert [r.rung for r in contents.rounds] == names_of(study)
    assert (first.done, second.done) == (4, 3)
    now = status(study)  # which counts as the report does: baselines are in no round
    assert [(r.size, r.finished) for r in now.rounds] == [(4, 4), (3, 3)]
    assert now.named == RoundStatus(2, 2, 0, 0, 0, (), names_of(study)[-1])
    assert re.search("\n +1 +4 +4 .*\n +2 +3 +3 ", describe(now))
    assert first.best < -BELOW + 2 and second.best > -1
    assert first.quarter <= first.median <= first.three_quarters
    assert set(contents.columns()) == {"prior", "round 1", "round 2", "found"}
    assert snapshot.best_row() is not None and snapshot.measured.min() > -1
    assert len(snapshot.judged) == 5 and len(snapshot.tried) == 9
    text = markdown.render(contents)
    assert "rounds on different rungs do not compare" in text and "| round | rung |" in text


def test_a_round_in_which_rungs_were_chosen_shows_the_targets_scores(
    recipe: StudyRecipe, journal: str
) -> None:
    wanted = dataclasses.replace(bought(recipe, 9), budget=None, rounds=(4, 6))
    study = searched(wanted, journal)
    contents = contents_of(study, every_rule=False)
    assert [(r.done, r.rung) for r in contents.rounds] == [(4, ""), (6, "")]
    assert all(-1 < figure < 5 for r in contents.rounds for figure in (r.best, r.median))
    assert markdown.render(contents) and studies.status(study).size == 12


def test_a_plain_study_with_a_ladder_is_reported() -> None:
    space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    ladder = Ladder.of([1, 10])
    sampler = climb_opt.SimplexGPSampler(space, ladder=ladder, seed=0, n_startup=4)
    study = optuna.create_study(sampler=sampler, study_name="plain")

    def objective(trial: optuna.Trial) -> float:
        value = (space.suggest(trial)["code"] - 0.5) ** 2
        return value - BELOW * (trial.user_attrs.get(RUNG) == 0)

    study.optimize(objective, n_trials=12)
    assert {t.user_attrs[RUNG] for t in all_trials(study)} == {0, 1}
    contents = contents_of(study, every_rule=False)
    assert "## Rungs" in markdown.render(contents) and page.render(contents)
    assert contents.snapshot.measured.min() > -1 and cards(contents)
    assert contents.chosen is not None and contents.chosen.rung == "rung 1"


def test_effects_and_recommendations_are_of_the_target_alone(study: optuna.Study) -> None:
    best = best_mixture(study)
    assert best.rung == names_of(study)[1]
    assert best.predicted is not None and -1 < best.predicted.mean < 2
    assert f" at {best.rung}; " in str(best)
    contents = contents_of(study, every_rule=False)
    for effect in contents.effects:
        assert np.abs(effect.mean).max() < BELOW / 10


def test_a_place_in_the_figure_is_what_was_spent_until_then(study: optuna.Study) -> None:
    snapshot = take(study)
    assert snapshot.ladder is not None
    rows = snapshot.searched()
    shares = np.cumsum([snapshot.ladder.shares[t.user_attrs[RUNG]] for t in snapshot.taken])
    numbers = [snapshot.judged.trials[row].number for row in rows]
    assert np.allclose(snapshot.places(rows), shares[numbers])


def test_cards_and_notes_name_rungs(study: optuna.Study) -> None:
    contents, (low, high) = contents_of(study, every_rule=False), names_of(study)
    made = cards(contents)
    assert set(made) >= {"rungs", "best-so-far", "predicted-measured"}
    assert [len(trace.x) for trace in made["rungs"].data] == [contents.agreement[0].n]
    assert f"at {high}" in made["best-so-far"].layout.title.text
    assert max(abs(v) for trace in made["best-so-far"].data for v in trace.y) < BELOW / 2
    note = notes.trial_note({"a": 1.0}, {}, {"flops": 3.1e17, "rung": low}, rerun="x")
    assert f"Rung {low}" in note.replace("\\", "") and "3.1e17 FLOPs" in note
    assert notes.rerun_command("s", 3, low).endswith(f"enqueue s - --rung {low}")
    assert rounds_ended(contents.snapshot) >= 10


def test_cards_are_refreshed_while_a_budget_is_spent(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(bought(recipe, 12.0), storage=journal, study_name="s")
    seen = []
    studies.work(
        study,
        objective=by_rung,
        pace=PACE,
        on_trial=lambda trial: seen.append(rounds_ended(take(study))),
    )
    assert seen == sorted(seen) and len(set(seen)) > 5


# --- a target that was never reached -------------------------------------------------------------


def test_what_rests_on_a_lower_rung_says_so_and_promises_nothing(
    below: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    low, high = names_of(below)
    best = best_mixture(below)
    assert best.rung == low and best.trials == 8
    assert best.predicted is None and best.gain is None and best.lead is None
    assert not any("intervals" in w for w in best.warnings)  # of which none is stated
    plain = f"no trial of the target {high} has finished: this rests on 8 trials at {low}"
    assert plain in best.as_good and any(plain in w for w in best.warnings)
    assert plain in str(best)
    assert all(one.rung == low for one in compare_rules(below, rules=["observed", "top"]).values())
    contents = contents_of(below)
    html, text = page.render(contents), markdown.render(contents).replace("\\", "")
    assert "No trial of it has finished" in html and plain in text
    assert f"best single run at {low}" in html
    assert cards(contents)
    exported = export(below, "yaml")
    assert plain in exported and f"judged at {low}" in exported
    assert json.loads(export(below, "json"))["rung"] == low


def test_with_one_trial_below_the_target_nothing_breaks(recipe: StudyRecipe, journal: str) -> None:
    wanted = on_rungs(recipe, rungs=(0, 1), baselines=())
    study = open_study(wanted, storage=journal, study_name="s")
    with pytest.raises(UserError, match="no finished trial"):
        best_mixture(study)
    assert markdown.render(contents_of(study))
    begun: list[int] = []
    one = lambda trial: begun.append(trial.number) or by_rung(trial)  # noqa: E731
    studies.work(study, objective=one, pace=PACE, stop=lambda: bool(begun))
    assert len([t for t in all_trials(study) if t.values]) == 1
    best = best_mixture(study)
    assert "rests on 1 trial at" in best.as_good and best.rung == names_of(study)[0]
    assert page.render(contents_of(study))


def test_the_commands_show_a_study_whose_target_was_never_reached(
    below: optuna.Study, journal: str, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    low = names_of(below)[0]
    for argv in (
        ["best", "s"],
        ["best", "s", "-f", "json"],
        ["best", "s", "-f", "yaml"],
        ["status", "s"],
        ["report", "s", "--markdown"],
        ["export", "s", "--format", "yaml"],
        ["export", "s", "--format", "yaml", "--trial", "0"],
    ):
        assert main([*argv, "--storage", journal]) == 0, argv
        assert low in capsys.readouterr().out.replace("\\", ""), argv
    assert main(["status", "s", "--storage", journal]) == 0
    best = command("best", "s", "--storage", journal)
    assert f"(none has finished: `{best}` rests on {low})" in capsys.readouterr().out
    assert main(["report", "s", "--storage", journal, "--output", str(tmp_path / "r.html")]) == 0


def test_several_objectives_on_rungs_are_of_the_target(recipe: StudyRecipe, journal: str) -> None:
    wanted = on_rungs(
        recipe,
        rungs=(0, 1),
        also={"other": climb_opt.recipes.ScoreRecipe(["sums/bpb"])},
        sampler=climb_opt.recipes.Choice("random"),
    )
    study = open_study(wanted, storage=journal, study_name="s")
    studies.work(study, objective=lambda t: (by_rung(t), -by_rung(t)), pace=PACE)
    contents = contents_of(study)
    assert contents.chosen is not None and contents.chosen.rung == names_of(study)[1]
    assert np.abs(contents.snapshot.measured).max() < 5
    assert "Trade-offs" in markdown.render(contents)


# --- studies of one rung, and imported trials ----------------------------------------------------


def test_a_study_without_a_ladder_is_shown_as_ever(recipe: StudyRecipe, journal: str) -> None:
    study = searched(recipe, journal)
    contents = contents_of(study)
    text = page.render(contents)
    assert 'id="rungs"' not in text and "trials finished" in text and "FLOPs" not in text
    assert contents.rungs == () and contents.agreement == ()
    assert best_mixture(study).rung == "" and "judged at" not in export(study, "yaml")
    assert "rungs" not in cards(contents)


def test_a_budget_of_one_rung_is_shown(recipe: StudyRecipe, journal: str) -> None:
    wanted = bought(recipe, 6.0, sampler="random")
    study = searched(dataclasses.replace(wanted, ladder=wanted.ladder[-1:]), journal)
    now = studies.status(study)
    assert now.done and [r.finished for r in now.rungs] == [6] and now.agreement == ()
    text = markdown.render(contents_of(study))
    assert "## Rungs" in text and "Rank correlation (Spearman" not in text
    assert best_mixture(study).rung == ""


def test_trials_of_other_programs_without_facts_are_shown(study: optuna.Study) -> None:
    space, low = StudyView(study).space, rung_attributes(0, 1)
    study.add_trial(
        create_trial(
            value=-BELOW,
            params=space.params(space.prior),
            distributions=space.distributions(),
            user_attrs={RUNG: low[RUNG]},
            state=TrialState.COMPLETE,
        )
    )
    enqueue(study, "mine", space.mixture(space.prior), rung=0)
    assert studies.status(study).best == pytest.approx(min(targets(study)))
    assert page.render(contents_of(study, every_rule=False))
