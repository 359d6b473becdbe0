"""Noise runs: what they say of each component, and a score that takes its weights from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import climb_opt
import studying
from climb_opt.attributes import AGGREGATE, COMPONENTS, NOISE, SEED, SLOT, WEIGHTS
from climb_opt.cli import main
from climb_opt.errors import TrialFailed, UserError
from climb_opt.metrics import searchable
from climb_opt.recipes import StudyRecipe, read_study
from climb_opt.reports.draw.terminal import listing
from climb_opt.reports.parts.noise import blocks
from climb_opt.retrain.noise import Noise, noise_of, seeds_for, work_on
from climb_opt.retrain.repeats import Terms, begin, subject
from climb_opt.retrain.sibling import run_by
from climb_opt.selection.signal import Runs, weights_for
from climb_opt.storages import open_storage
from climb_opt.study import equal_score, open_study, read_recipe, status, work
from climb_opt.view import StudyView, all_trials
from searching import arrange, the_study
from studying import PACE

recipe, journal = studying.recipe, studying.journal  # fixtures

TASKS = ("a/bpb", "b/bpb", "c/bpb")
NOISY = {"a/bpb": 0.02, "b/bpb": 0.3, "c/bpb": 0.02}


def make_runs(noise: Any, scale: Any = 1.0, *, signal: Any = 1.0, seed: int = 0) -> Runs:
    """Ten runs of one mixture, two of another, 12 mixtures that agree in three components."""
    rng = np.random.default_rng(seed)
    noise, scale, signal = (np.broadcast_to(x, 3) for x in (noise, scale, signal))
    true = signal * (rng.normal(size=(12, 1)) + 0.3 * rng.normal(size=(12, 3)))
    mixtures, prior, corner = (
        scale * (mean + noise * rng.normal(size=(n, 3)))
        for mean, n in ((true, 12), (0.0, 10), (true[0], 2))
    )
    return Runs(TASKS, {"prior": prior, "corner": corner}, mixtures)


EQUAL = dict.fromkeys(TASKS, 1 / 3)


def test_noise_and_signal_of_a_component_by_hand() -> None:
    repeats = {"prior": np.array([[1.0], [2.0], [3.0]]), "corner": np.array([[5.0], [9.0]])}
    mixtures = np.array([[0.0], [10.0], [20.0], [np.nan]])
    part = Runs(("x",), repeats, mixtures).parts()[0]
    assert part.freedom == 3 and part.noise == pytest.approx(math.sqrt((2 + 8) / 3))
    assert part.by_mixture == pytest.approx({"prior": 1.0, "corner": math.sqrt(8)})
    assert part.signal == pytest.approx(math.sqrt(100 - 10 / 3))
    # The 5 % and 95 % points of chi-square with 3 degrees of freedom are .3518 and 7.815.
    assert part.low == pytest.approx(math.sqrt(10 / 7.815), rel=1e-3)
    assert part.high == pytest.approx(math.sqrt(10 / 0.3518), rel=1e-3)
    assert part.relative == part.noise / part.signal and part.doubt == ""


def test_what_cannot_be_searched_on_says_why() -> None:
    runs = make_runs([0.1, 3.0, 0.0], signal=[1.0, 0.3, 0.0])
    quiet, noisy, constant = runs.parts()
    assert quiet.doubt == "" and constant.doubt == "constant" and math.isnan(constant.relative)
    assert noisy.doubt == "mixtures are not shown to differ more than runs of one mixture"
    wide = Runs(("x",), {"prior": np.array([[0.0], [2.0]] * 40)}, np.array([[0.0], [2.6]] * 40))
    assert wide.parts()[0].doubt == "more noise than signal"
    unknown = Runs(("x",), {"prior": np.array([[1.0], [np.nan]])}, np.array([[1.0]])).parts()[0]
    assert unknown.doubt == "no mixture has two runs that report it"
    few = Runs(("x",), {"prior": np.array([[1.0], [2.0]])}, np.array([[1.0]])).parts()[0]
    assert few.doubt == "fewer than 3 of the signal's mixtures report it"
    flat = Runs(("x",), {"prior": np.array([[1.0], [3.0]])}, np.full((4, 1), 0.1)).parts()[0]
    assert flat.doubt.startswith("mixtures are not shown") and math.isinf(flat.relative)


@given(
    noise=st.lists(st.floats(0.0, 2.0), min_size=3, max_size=3),
    powers=st.lists(st.integers(-8, 8), min_size=3, max_size=3),
    seed=st.integers(0, 20),
)
@settings(max_examples=40, deadline=None)
def test_weights_are_never_worse_in_the_runs_and_keep_their_signs(
    noise: list[float], powers: list[int], seed: int
) -> None:
    runs = make_runs(noise, [10.0**p for p in powers], seed=seed)
    own = {"a/bpb": 0.5, "b/bpb": -0.3, "c/bpb": 0.2}
    found = weights_for(runs, own)
    before, after = runs.total("score", own), runs.total("score", found)
    assert after.relative <= before.relative or found == own
    assert set(found) <= set(own) and all(c * own[n] >= 0 for n, c in found.items())


def test_weights_go_to_what_is_quiet_for_its_signal_whatever_its_scale() -> None:
    found = weights_for(make_runs([0.1, 0.6, 0.1]), EQUAL)
    scaled = weights_for(make_runs([0.1, 0.6, 0.1], [1.0, 1e-6, 1e6]), EQUAL)
    shares = {n: scaled.get(n, 0.0) * s for n, s in zip(TASKS, [1.0, 1e-6, 1e6], strict=True)}
    for weights in (found, shares):
        assert weights.get("b/bpb", 0.0) < 0.3 * weights["a/bpb"]
        assert 0.2 < weights["a/bpb"] / weights["c/bpb"] < 5
    assert sum(map(abs, found.values())) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "runs",
    [
        make_runs(0.0, signal=0.0),  # all scores equal
        make_runs(0.1, signal=0.0),  # no signal
        Runs(TASKS, {}, np.zeros((4, 3))),  # no repeats
        Runs(TASKS, {"prior": np.ones((2, 3))}, np.zeros((0, 3))),  # nothing to compare
        make_runs(0.0),  # no noise: any weights are as good
    ],
)
def test_where_nothing_is_known_the_score_stays_as_it_is(runs: Runs) -> None:
    assert weights_for(runs, EQUAL) == EQUAL


def test_the_weights_found_are_better_in_truth_too() -> None:
    noise, ratios = np.array([0.1, 0.15, 0.21]), []
    for seed in range(20):
        found = weights_for(make_runs(noise, [3.0, 1.0, 30.0], seed=seed), EQUAL)
        true = []
        for weights in (found, EQUAL):
            w = np.array([weights.get(n, 0.0) for n in TASKS]) * [3.0, 1.0, 30.0]
            true.append(np.sqrt((w * noise) @ (w * noise) / (w.sum() ** 2 + 0.09 * w @ w)))
        ratios.append(true[0] / true[1])
    assert np.median(ratios) < 0.6


def test_a_score_without_a_quiet_component_stays_as_it_is() -> None:
    # By chance alone some component looks as if mixtures differed in it.
    kept = [weights_for(make_runs(1.0, signal=0.0, seed=s), EQUAL) == EQUAL for s in range(20)]
    assert sum(kept) >= 12


def test_seeds_of_a_confirmation() -> None:
    assert seeds_for(0.0) == 2 and seeds_for(math.nan) is None and seeds_for(math.inf) is None
    # Two samples, 80 % power, an effect of 2.5 standard deviations of a run: about 4 a side.
    assert seeds_for(0.1) == 5
    assert seeds_for(0.3) == 25


def test_auto_takes_bits_per_byte_else_the_first_of_each_task() -> None:
    assert searchable(["x/acc", "x/bpb", "y/bpb"]) == ["x/bpb", "y/bpb"]
    assert searchable(["x/acc_norm", "x/acc", "y/loss", "z"]) == ["x/acc_norm", "y/loss", "z"]
    assert searchable([]) == []


# --- on a study -----------------------------------------------------------------------------------


def objective(
    seen: list[str] | None = None, fail: Callable[[str], bool] = lambda slot: False
) -> Callable[[optuna.Trial], float]:
    """Three components that agree, the second one noisy; the mixture's share of `code`."""

    def score(trial: optuna.Trial) -> float:
        weights = [trial.suggest_float(f"w/{name}", 0, 1) for name in ("web", "code", "math")]
        slot = str(trial.user_attrs[SLOT])
        if fail(slot):
            raise TrialFailed("made to fail")
        if seen is not None:
            seen.append(slot)
        rng = np.random.default_rng([int(trial.user_attrs.get(SEED, 0)), len(slot), trial.number])
        parts = {n: 1 - weights[1] + s * float(rng.normal()) for n, s in NOISY.items()}
        climb_opt.report_components(trial, parts)
        weights = trial.study.user_attrs[AGGREGATE]  # as found, once there are some
        weights = weights if weights.keys() <= parts.keys() else EQUAL
        return sum(weights[n] * parts[n] for n in weights)

    return score


@pytest.fixture
def auto(recipe: StudyRecipe, monkeypatch: pytest.MonkeyPatch) -> StudyRecipe:
    """A recipe whose score is to be weighed, of evaluators with three tasks."""
    monkeypatch.setattr("climb_opt.retrain.repeats.equal_score", lambda recipe, corpus: EQUAL)
    return replace(recipe, score=["auto"])


def measured(journal: str, recipe: StudyRecipe, **options: Any) -> Noise:
    """Noise runs of a search that has not begun."""
    sibling = begin(subject(recipe, journal, "x"), Terms(**options))
    work_on(sibling, run_by(objective()))
    return noise_of(sibling)


def test_a_search_that_has_not_begun_is_measured_and_then_weighed(
    auto: StudyRecipe, journal: str
) -> None:
    with pytest.raises(UserError, match="run `climb-opt noise` on this recipe first"):
        open_study(auto, storage=journal, study_name="x")
    found = measured(journal, auto)
    assert found.runs == {"prior": 6, "corner": 2} | {f"draw-{k}": 1 for k in range(1, 9)}
    assert found.corner == "math" and not found.missing and found.score == EQUAL
    assert found.after.relative < 0.6 * found.before.relative
    study = open_study(auto, storage=journal, study_name="x")
    stored = read_recipe(study)
    assert stored.score == found.weights == study.user_attrs["climb/aggregate"]
    assert study.user_attrs[WEIGHTS]["from"] == "x-noise"
    # Whoever joins with the recipe, or with a key changed that stays as it was, is let in.
    assert open_study(auto, storage=journal, study_name="x").study_name == "x"
    with pytest.raises(UserError, match="max_attempts: 2 -> 4"):
        open_study(replace(auto, max_attempts=4), storage=journal, study_name="x")
    work(study, objective=objective(), pace=PACE)
    history = StudyView(study).history()
    assert history.components is not None and len(history) == 5 + 2
    again = climb_opt.noise(study, objective=objective())  # nothing is left to run
    assert again.weights == found.weights


def test_what_a_score_was_weighed_by_is_said_once(
    auto: StudyRecipe, journal: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "climb_opt.study")
    measured(journal, auto)
    open_study(auto, storage=journal, study_name="x")
    said = [record.message for record in caplog.records if "Score of" in record.message]
    assert len(said) == 1 and "of their plain mean 0." in said[0]


def test_a_score_that_could_not_be_weighed_is_said_to_be_a_plain_sum(
    auto: StudyRecipe, journal: str, caplog: pytest.LogCaptureFixture
) -> None:
    sibling = begin(subject(auto, journal, "x"), Terms(spread=3))
    work_on(sibling, run_by(objective(fail=lambda slot: slot.startswith("draw-1"))))
    assert "fewer than 3 of the signal's mixtures" in listing(*blocks(noise_of(sibling)))
    open_study(auto, storage=journal, study_name="x")
    assert [record.levelname for record in caplog.records if "Score of" in record.message] == [
        "WARNING"
    ]
    assert "all alike, for the runs of x-noise could not weigh them" in caplog.text


def test_a_score_to_be_weighed_needs_draws(auto: StudyRecipe, journal: str) -> None:
    with pytest.raises(UserError, match=r"--spread must be from 3 to 64, but is 0: .*score: auto"):
        measured(journal, auto, spread=0)
    assert optuna.get_all_study_names(open_storage(journal)) == []


def test_weights_of_another_recipe_are_refused(auto: StudyRecipe, journal: str) -> None:
    measured(journal, auto, spread=3)
    other = replace(auto, proxy=replace(auto.proxy, lr=0.5))
    with pytest.raises(UserError, match=r"measured another recipe: proxy.lr"):
        open_study(other, storage=journal, study_name="x")
    # Rounds, samplers and seeds of the search are free.
    open_study(replace(auto, rounds=(4,), seed=3), storage=journal, study_name="x")


def test_a_score_of_ones_own_is_no_auto(auto: StudyRecipe, journal: str) -> None:
    open_study(replace(auto, score=["sums/bpb"]), storage=journal, study_name="x")
    with pytest.raises(UserError, match=r'score: \["sums/bpb"\] -> \["auto"\]'):
        open_study(auto, storage=journal, study_name="x")
    with pytest.raises(UserError, match="auto has no weights yet; `climb-opt noise RECIPE`"):
        auto.coefficients()


def test_auto_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("include: demo\nscore: auto\n")
    assert read_study(str(tmp_path / "s.yaml")).score == ["auto"] != read_study("demo").score


def test_equal_scores_of_evaluators(recipe: StudyRecipe) -> None:
    assert equal_score(recipe) == {"sums/bpb": 1.0}
    upward = replace(recipe, direction="maximize")
    assert equal_score(upward) == {"sums/bpb": -1.0}  # fewer bits are better
    with pytest.raises(UserError, match="name the components"):
        equal_score(replace(recipe, evaluators=()))


def test_noise_of_a_search_needs_no_draws_where_it_has_trials(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(replace(recipe, rounds=(8, 2)), storage=journal, study_name="y")
    work(study, objective=objective(), pace=PACE)
    seen: list[str] = []
    found = climb_opt.noise(study, repeats=3, corner=2, objective=objective(seen))
    assert sorted(seen) == [
        "corner/seed-1", "corner/seed-2", "prior/seed-1", "prior/seed-2", "prior/seed-3"
    ]  # fmt: skip
    assert found.tried == 10  # the first round and two baselines
    assert [part.name for part in found.parts] == ["score", *TASKS]  # none of the recipe's
    sibling = open_study(storage=journal, study_name="y-noise", create=False)
    seeds = {t.user_attrs[SLOT]: t.user_attrs[SEED] for t in all_trials(sibling)}
    assert seeds["prior/seed-1"] == seeds["corner/seed-1"] == 1 and seeds["prior/seed-3"] == 3
    corner = next(t for t in all_trials(sibling) if t.user_attrs[SLOT] == "corner/seed-1")
    assert corner.params["w/math"] == 1.0
    # More repeats go on where it stopped.
    more: list[str] = []
    climb_opt.noise(study, repeats=5, corner=2, objective=objective(more))
    assert more == ["prior/seed-4", "prior/seed-5"]
    assert status(sibling).size == 7
    with pytest.raises(UserError, match="is no search; go on with it by `climb-opt noise`"):
        work(sibling, objective=objective())
    with pytest.raises(UserError, match=r"y-noise.*measured another recipe: max_attempts"):
        changed = open_study(replace(recipe, max_attempts=5), storage=journal, study_name="z")
        climb_opt.noise(changed, name="y-noise", objective=objective())


def test_runs_that_failed_are_named_and_the_others_are_used(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    failing = objective(fail=lambda slot: slot in ("prior/seed-2", "draw-1/seed-1"))
    found = climb_opt.noise(study, objective=failing)
    assert found.runs["prior"] == 5 and list(found.missing) == ["prior/seed-2", "draw-1/seed-1"]
    assert found.before.freedom == 5
    text = listing(*blocks(found))
    assert "Without a result: prior/seed-2, draw-1/seed-1; `climb-opt status" in " ".join(
        text.split()
    )


def test_too_few_runs_leave_the_weights_and_say_so(auto: StudyRecipe, journal: str) -> None:
    sibling = begin(subject(auto, journal, "x"), Terms(3, 0, 3))
    assert noise_of(sibling).weights == EQUAL  # nothing has run
    work_on(sibling, run_by(objective(fail=lambda slot: slot in ("prior/seed-2", "prior/seed-3"))))
    found = noise_of(sibling)
    assert WEIGHTS not in sibling.user_attrs
    assert found.weights == EQUAL and math.isnan(found.before.noise) and found.seeds is None
    text = " ".join(listing(*blocks(found)).split())
    assert "cannot be weighed: no mixture has two runs" in text and "nan" not in text


@pytest.mark.parametrize("option", [{"repeats": 1}, {"corner": -1}, {"spread": 65}, {"spread": 2}])
def test_impossible_numbers_are_refused(
    recipe: StudyRecipe, journal: str, option: dict[str, int]
) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    with pytest.raises(UserError, match=f"--{next(iter(option))} must be (0 or )?from"):
        climb_opt.noise(study, objective=objective(), **option)  # type: ignore[arg-type]
    assert "x-noise" not in optuna.get_all_study_names(StudyView(study).storage)


def test_an_objective_without_components_has_one(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="x")

    def score(trial: optuna.Trial) -> float:
        weights = [trial.suggest_float(f"w/{name}", 0, 1) for name in ("web", "code", "math")]
        return weights[1] + 0.01 * trial.user_attrs[SEED]

    found = climb_opt.noise(study, objective=score)
    assert [part.name for part in found.parts] == ["score"] and found.weights == {"score": 1.0}
    assert found.before.by_mixture["prior"] == pytest.approx(0.01 * np.std(range(6), ddof=1))


def test_the_command_prints_a_table_and_the_report_shows_it(
    tiny_corpus: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def each(trial: optuna.Trial) -> None:
        parts = {"sums/bpb": 2.0 + 0.1 * trial.number, "sums/acc": 0.5, "sums/bpb_stderr": 0.1}
        trial.set_user_attr(COMPONENTS, parts)

    arrange(tiny_corpus, tmp_path, monkeypatch)(each)
    words = ["noise", "mine.yaml", "--repeats", "3", "--spread", "4"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "3 runs of the prior, 2 of the corner (as much of math as is allowed), 4 of" in out
    assert "sums/bpb" in out and "Not to be searched on here, constant: sums/acc." in out
    assert "Standard error over the evaluation's documents: sums/bpb 0.100, " in out
    assert "_stderr" not in out and max(map(len, out.splitlines())) <= 110
    assert NOISE in the_study("mine-noise").user_attrs
    assert main(["status", "mine-noise"]) == 0 and "9 of 9" in capsys.readouterr().out
    for command in (["best"], ["confirm"], ["export", "--format", "yaml"]):
        assert main([*command, "mine-noise"]) == 2
        assert "the noise of 'mine', no search: it has nothing to" in capsys.readouterr().err
    assert main(words) == 0 and "prior/seed" not in capsys.readouterr().out  # nothing more to run
    assert main(["search", "mine.yaml"]) == 0
    assert main(["report", "mine", "--markdown"]) == 0
    assert "## What can be searched on" in capsys.readouterr().out
    assert main(["noise", "mine", "--set", "max_attempts=7"]) == 2
    assert "was made from another recipe" in capsys.readouterr().err
    assert main(["noise", "nowhere"]) == 2 and "No recipe or study" in capsys.readouterr().err
