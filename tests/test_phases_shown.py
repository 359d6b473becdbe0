"""What a person sees of a study of schedules, and puts in line for it."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import climb_opt
from climb_opt import PhasedSpace, UserError
from climb_opt.attributes import SLOT
from climb_opt.mixtures import read_mixtures
from climb_opt.phases import point_of, side_by_side
from climb_opt.recipes import StudyRecipe
from climb_opt.reports.contents import gather
from climb_opt.reports.dashboard import notes
from climb_opt.reports.draw.markdown import render
from climb_opt.reports.draw.terminal import confirmed, recommended
from climb_opt.reports.effects import domain_effects
from climb_opt.reports.snapshot import take
from climb_opt.retrain.paired import Confirmation
from climb_opt.schedules import Phase
from climb_opt.selection import advise
from climb_opt.study import enqueue, open_study, status
from climb_opt.view import StudyView, all_trials, read_history, store_space
from climb_opt.warmstart.lineage import Lineage
from climb_opt.warmstart.studies import warm_start
from climb_opt.warmstart.tables import import_csv
from studying import journal as journal
from studying import recipe as recipe

SPACE = PhasedSpace({"web": 500, "code": 300, "math": 200}, (0.8, 0.2))


def of_two_phases(recipe: StudyRecipe, **keys: Any) -> StudyRecipe:
    proxy = dataclasses.replace(recipe.proxy, batch_tokens=512)
    return dataclasses.replace(recipe, proxy=proxy, phases=(0.8, 0.2), **keys)


@pytest.fixture
def searched(recipe: StudyRecipe, journal: str) -> optuna.Study:
    """Ten trials of two phases; math in the last one is what helps."""
    phased = of_two_phases(recipe, rounds=(6, 4), baselines=("prior", "uniform"))
    study = open_study(phased, study_name="two", storage=journal)
    space = StudyView(study).space

    def score(trial: optuna.Trial) -> float:
        mixture = space.suggest(trial)
        return (mixture["2/math"] - 0.6) ** 2 + 0.3 * (mixture["1/web"] - 0.5) ** 2

    climb_opt.work(study, objective=score)
    return study


def test_baselines_run_as_they_are_throughout(searched: optuna.Study) -> None:
    space = StudyView(searched).space
    assert isinstance(space, PhasedSpace)
    found = {t.user_attrs[SLOT]: space.weights_of(t) for t in all_trials(searched)}
    np.testing.assert_allclose(found["baseline/prior"], space.project(space.prior), atol=1e-12)
    uniform = space.constant(np.full(3, 1 / 3))
    np.testing.assert_allclose(found["baseline/uniform"], uniform, atol=1e-12)


def test_a_retry_keeps_its_schedule(recipe: StudyRecipe, journal: str) -> None:
    phased = of_two_phases(recipe, rounds=(2,), baselines=())
    seen: list[dict[str, float]] = []
    study = open_study(phased, study_name="two", storage=journal)
    space = StudyView(study).space

    def once_failing(trial: optuna.Trial) -> float:
        seen.append(space.suggest(trial))
        if len(seen) == 1:
            raise RuntimeError("out of luck")
        return float(len(seen))

    climb_opt.work(study, objective=once_failing)
    assert seen[0] in seen[1:] and len(seen) == 3


def test_a_report_has_a_column_for_each_phase_and_one_for_the_run(searched: optuna.Study) -> None:
    snapshot = take(searched)
    advice = advise(searched)
    assert advice is not None and advice.chosen.phases == (0.8, 0.2)
    head = recommended(snapshot, advice, None).splitlines()
    top = next(line for line in head if line.startswith("domain"))
    assert [w.strip() for w in top.split("  ") if w] == [
        "domain, %", "whole run", "phase 1 (0.8)", "phase 2 (0.2)", "prior", "uniform",
    ]  # fmt: skip
    contents = gather(snapshot, advice)
    page = render(contents)
    assert "phase 2 (0.2), %" in page and "in phases of 0.8 + 0.2 of a run" in page
    assert "of 3 in phases" in page  # domains, not weights
    for column in contents.columns().values():
        assert column.shape == (3,) and column.sum() == pytest.approx(1.0)
    assert {s.effective <= 3 for s in contents.rounds} == {True}


def test_a_recommendation_prints_its_phases_in_order(searched: optuna.Study) -> None:
    best = climb_opt.best_mixture(searched)
    lines = str(best).splitlines()
    first, second = (lines.index(f"phase {p} of the run") for p in ("1, 0.8", "2, 0.2"))
    assert all(line.startswith("1/") for line in lines[first + 1 : second])
    assert "effective domains of 3" in str(best) and best.effective_domains <= 3


def test_effects_change_a_weight_within_its_phase(searched: optuna.Study) -> None:
    space = StudyView(searched).space
    history = read_history(searched, space)
    effects = {e.domain: e for e in domain_effects(history, space.domains, space.prior)}
    assert set(effects) == set(space.domains)
    assert effects["2/math"].at[-1] <= 1.0 and effects["2/math"].at[-1] > 0.4  # not of the run
    assert effects["2/math"].size == max(e.size for e in effects.values())


def test_a_confirmation_shows_phases_where_they_differ() -> None:
    found = SPACE.mixture(SPACE.weights([{"web": 1.0}, {"math": 1.0}]))
    prior = SPACE.mixture(SPACE.prior)
    scores = {"found": {1: 0.5, 2: 0.51}, "prior": {1: 0.6, 2: 0.61}}
    both = Confirmation(
        "x", "y", {"found": found, "prior": prior}, ("found",), ("prior",), scores, 1.0, "score"
    )
    head, _rule, *rows = confirmed(both, SPACE).splitlines()
    assert [w.strip() for w in head.split("  ") if w] == [
        "domain, %", "found", "found, phase 1 (0.8)", "found, phase 2 (0.2)", "prior",
    ]  # fmt: skip
    assert rows[0].split() == ["web", "80.0", "100.0", "0", "50.0"]
    assert any(line.startswith("score (± sd") and "0.605" in line for line in rows)


def test_a_note_and_its_table_say_each_phase() -> None:
    schedule = SPACE.schedule(SPACE.weights([{"web": 1.0}, {"math": 1.0}]))
    mean = {"web": 0.8, "code": 0.0, "math": 0.2}
    note = notes.trial_note(mean, {}, {"schedule": schedule}, prior={"web": 0.5, "math": 0.5})
    assert "phase 1 (0.8), %" in note and "phase 2 (0.2), %" in note
    path = {
        "domains": list(mean), "steps": [2, 4], "weights": [[1, 0, 0], [0.6, 0, 0.4]],
        "mean": [0.8, 0.0, 0.2], "end": [0.25, 0.25, 0.5],
    }  # fmt: skip
    head, _rule, first = notes.trial_note(mean, {}, {"path": path}).splitlines()[2:5]
    assert [w.strip() for w in head.split("|")][4:-1] == [
        "to 50%, %", "to 100%, %", "mean, %", "at the end, %",
    ]  # fmt: skip
    assert [w.strip() for w in first.split("|")][4:-1] == ["100.0", "60.0", "80.0", "25.0"]
    rows = list(csv.DictReader(io.StringIO(notes.mixture_csv(mean, None, schedule))))
    assert {r["domain"]: (r["weight"], r["w1"], r["w2"]) for r in rows}["math"] == ("0.2", "0", "1")


def test_columns_of_a_mixture_are_itself() -> None:
    space = climb_opt.MixtureSpace({"web": 3, "code": 1})
    assert list(side_by_side(space, "found", space.prior)) == ["found"]
    assert list(side_by_side(SPACE, "found", SPACE.prior)) == [
        "found", "phase 1 (0.8)", "phase 2 (0.2)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "last"),
    [
        ({"web": 0.5, "code": 0.5}, [0.5, 0.5, 0.0]),
        ({"1/web": 1.0, "2/math": 1.0}, [0.0, 0.0, 1.0]),
        ((Phase(0.8, {"web": 1.0}), Phase(0.2, {"code": 1.0})), [0.0, 1.0, 0.0]),
    ],
)
def test_a_mixture_or_a_schedule_is_put_in_line(
    searched: optuna.Study, given: Any, last: list[float]
) -> None:
    space = StudyView(searched).space
    assert isinstance(space, PhasedSpace)
    slot = enqueue(searched, "mine", given)
    trial = next(t for t in all_trials(searched) if t.user_attrs.get(SLOT) == slot)
    weights = np.array([trial.params[f"w2/{d}"] for d in ("web", "code", "math")])
    np.testing.assert_allclose(weights, last, atol=1e-9)
    assert status(searched).size == 12


def test_a_schedule_for_a_study_without_phases_is_refused() -> None:
    space = climb_opt.MixtureSpace({"web": 3, "code": 1})
    both = (Phase(0.5, {"web": 1.0}), Phase(0.5, {"code": 1.0}))
    with pytest.raises(UserError, match="a schedule of 2 phases, but this study's mixtures hold"):
        point_of(space, both)
    assert point_of(space, (Phase(1.0, {"web": 1.0}),)).tolist() == [1.0, 0.0]


# --- what begins a search ------------------------------------------------------------------------


def other(recipe: StudyRecipe, journal: str, name: str) -> optuna.Study:
    return open_study(recipe, study_name=name, storage=journal)


def seeded(study: optuna.Study, old: optuna.Study) -> Any:
    domains = ("web", "code", "math")
    tokens = dict.fromkeys(domains, 100.0)
    lineage = Lineage(tokens, tokens, {domain: (domain,) for domain in domains})
    return warm_start(study, old, lineage)


def test_trials_of_one_mixture_seed_a_search_of_schedules(
    recipe: StudyRecipe, journal: str
) -> None:
    proxy = of_two_phases(recipe).proxy
    one = other(dataclasses.replace(recipe, baselines=(), proxy=proxy), journal, "one")
    space = StudyView(one).space
    climb_opt.work(one, objective=lambda trial: space.suggest(trial)["web"])
    two = other(of_two_phases(recipe), journal, "two")
    assert seeded(two, one).exact == 5
    target = StudyView(two).space
    assert isinstance(target, PhasedSpace)
    found, given = read_history(two, target), read_history(one, space)
    np.testing.assert_allclose(found.weights, target.constant(given.weights), atol=1e-12)


def test_schedules_seed_only_a_search_of_the_same_phases(
    searched: optuna.Study, recipe: StudyRecipe, journal: str
) -> None:
    again = other(of_two_phases(recipe, seed=1), journal, "again")
    assert seeded(again, searched).exact == 12
    halves = dataclasses.replace(of_two_phases(recipe), phases=(0.5, 0.5))
    for keys in (halves, dataclasses.replace(halves, phases=())):
        study = other(keys, journal, f"of-{len(keys.phases)}")
        with pytest.raises(UserError, match=r"has phases of 0\.8 \+ 0\.2 of a run, and this study"):
            seeded(study, searched)


def test_a_file_may_hold_a_schedule(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "phases:\n- {share: 0.8, mixture: {web: 1}}\n- {share: 0.2, mixture: {math: 1}}\n"
    )
    ((_, schedule),) = read_mixtures(str(file))
    assert SPACE.mixture(point_of(SPACE, schedule))["2/math"] == 1.0
    table = tmp_path / "two.csv"
    table.write_text("w1/web,w2/web,w2/math\n1,0.5,0.5\n")
    ((_, row),) = read_mixtures(str(table))
    assert SPACE.mixture(point_of(SPACE, row))["2/math"] == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web,code,math,score\n0.5,0.5,0,1.5\n", [[0.5, 0.5, 0.0]] * 2),
        ("w1/web,w2/math,score\n1,1,1.5\n", [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        ("1/web,2/math,score\n1,1,1.5\n", [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    ],
)
def test_a_table_of_runs_seeds_a_search_of_schedules(
    text: str, expected: list[list[float]], tmp_path: Path
) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(text)
    study = optuna.create_study()
    store_space(study, SPACE)
    assert import_csv(study, file, value="score").exact == 1
    found = SPACE.blocks(read_history(study, SPACE).weights[0])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_row_whose_phase_does_not_sum_to_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("w1/web,w2/math,score\n1,0.5,1.5\n1,1,1.4\n")
    study = optuna.create_study()
    store_space(study, SPACE)
    with pytest.raises(UserError, match=r"its weights of phase 2 sum to 0\.5"):
        import_csv(study, file, value="score")
