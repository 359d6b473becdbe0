"""One fact, one number: what is said of a recommendation is the same wherever it is printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest

import climb_opt
from climb_opt import Recommendation, best_mixture, lookup
from climb_opt.cli import main
from climb_opt.measures import apart, distance, effective_domains
from climb_opt.reports.contents import Contents
from climb_opt.reports.draw import markdown
from climb_opt.reports.report import contents_of
from climb_opt.retrain.confirm import Terms, begin
from climb_opt.selection import in_words
from climb_opt.selection.recommendation import noise_doubt
from climb_opt.storages import open_storage
from climb_opt.text import number
from climb_opt.view import StudyView
from synthetic_study import Shape, build_study

FEW_RULES = ("observed", "evaluated", "optimum", "auto")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("one") / "s.journal")
    shape = Shape(domains=3, rounds=(10, 4), noise=0.1, name="one", failures=1)
    build_study(shape, open_storage(path))
    return path


@pytest.fixture(autouse=True)
def few_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in set(lookup.KINDS["rule"]) - set(FEW_RULES):
        monkeypatch.delitem(lookup.KINDS["rule"], rule)


@pytest.fixture
def study(storage: str) -> optuna.Study:
    return optuna.load_study(study_name="one", storage=open_storage(storage))


@pytest.fixture
def best(study: optuna.Study) -> Recommendation:
    return best_mixture(study)


@pytest.fixture
def said(
    storage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", storage)

    def call(*argv: str) -> str:
        assert main(list(argv)) == 0
        return capsys.readouterr().out

    return call


def facts(best: Recommendation) -> list[str]:
    """Expected score, gain, effective domains and distance from the prior, as they are printed."""
    return [
        in_words(best.predicted),
        in_words(best.gain, sign=True),
        f"{best.effective_domains:.1f}",
        f"{100 * best.distance_from_prior:.0f} %",
    ]


def row_of(text: str, rule: str) -> str:
    return next(line for line in text.splitlines() if re.match(rf"\|? ?{rule} \\?\*", line))


def test_a_recommendations_measures_are_those_of_its_mixture(
    study: optuna.Study, best: Recommendation
) -> None:
    space = StudyView(study).space
    weights = space.weights(best)
    assert best.effective_domains == pytest.approx(effective_domains(weights))
    assert best.distance_from_prior == pytest.approx(float(distance(weights, space.prior)))
    assert best.distance_from_prior == pytest.approx(apart(best, space.mixture(space.prior)))


def test_tables_of_rules_say_the_same_in_terminal_markdown_and_page(
    said: Callable[..., str], best: Recommendation, study: optuna.Study, tmp_path: Path
) -> None:
    shown = {"terminal": said("best", "one"), "markdown": said("report", "one", "--markdown")}
    for where, text in shown.items():
        row = row_of(text, best.rule)
        assert all(fact in row for fact in facts(best)), (where, row)
    said("report", "one", "--output", "page.html")
    page = (tmp_path / "page.html").read_text()
    note = markdown.render(contents_of(study, every_rule=False))  # the dashboard's
    for text in (page, note):
        assert f"It uses {best.effective_domains:.1f} effective domains" in text
        assert f"{100 * best.distance_from_prior:.0f} % of the tokens move" in text
        assert in_words(best.gain) in text


def test_data_for_programs_holds_the_digits_that_are_printed(
    said: Callable[..., str], best: Recommendation
) -> None:
    row = next(r for r in json.loads(said("best", "one", "-f", "json")) if r["default"])
    assert best.predicted is not None and best.gain is not None
    assert row["expected"] == pytest.approx(best.predicted.mean)
    assert row["expected_half_interval"] == pytest.approx(best.predicted.half)
    assert row["gain_over_prior"] == pytest.approx(best.gain.mean)
    assert row["gain_half_interval"] == pytest.approx(best.gain.half)
    assert row["as_good"] == (best.as_good or None)
    assert row["warnings"] == list(best.warnings)


def test_what_is_confirmed_and_exported_is_what_is_recommended(
    study: optuna.Study, best: Recommendation
) -> None:
    begun = begin(study, Terms(name="one-again"))
    assert apart(begun.finals.mixtures["found"], best) < 1e-9
    assert begun.as_good == best.as_good
    exported = json.loads(climb_opt.export(study, "json"))
    weights = exported.get("mixture", exported)
    assert apart({d: float(w) for d, w in weights.items()}, best) < 1e-5


def test_the_best_score_is_one_in_status_and_report(
    said: Callable[..., str], study: optuna.Study
) -> None:
    now = climb_opt.status(study)
    contents: Contents = contents_of(study, every_rule=False)
    row = contents.snapshot.best_row()
    assert row is not None and now.best is not None
    assert now.best == pytest.approx(contents.snapshot.measured[row])
    assert number(now.best) in said("report", "one", "--markdown")
    counts = contents.snapshot.counts()
    assert now.finished == counts["finished"] and now.size == sum(counts.values())


def test_doubts_are_the_same_everywhere(said: Callable[..., str], best: Recommendation) -> None:
    shown = said("best", "one"), said("report", "one", "--markdown").replace("\\", "")
    for warning in best.warnings:
        assert all(warning in text for text in shown), warning


def test_the_noise_in_a_doubt_is_the_noise_that_is_stated() -> None:
    assert noise_doubt(0.1, 0.4) == noise_doubt(0.1, 0.0) == []
    assert noise_doubt(0.3, 0.4)[0].startswith("noisy: one evaluation varies by 75 %")
    rng = np.random.default_rng(0)
    space = climb_opt.MixtureSpace({"web": 3, "code": 2, "math": 1})
    study = optuna.create_study(sampler=climb_opt.SimplexGPSampler(space, n_startup=40, seed=0))
    study.optimize(lambda t: space.suggest(t)["code"] + rng.standard_normal(), n_trials=24)
    found = best_mixture(study)
    values = np.array([t.value for t in study.trials[:16]], dtype=float)
    told = next(w for w in found.warnings if w.startswith("noisy"))
    assert found.noise is not None
    assert int(told.split("varies by ")[1].split(" %")[0]) == pytest.approx(
        100 * found.noise / values.std(), abs=1
    )
