"""Noise runs of odd studies and scores: each is told in plain words, none ends in numbers."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import climb_opt
import studying
from climb_opt.attributes import BEAT, RECIPE, SEED, SLOT
from climb_opt.cli import main
from climb_opt.errors import UserError
from climb_opt.metrics import scores_of
from climb_opt.recipes import StudyRecipe, read_study
from climb_opt.reports.draw.terminal import listing
from climb_opt.reports.parts.noise import blocks
from climb_opt.retrain.repeats import Terms, begin, subject
from climb_opt.study import open_study, status
from climb_opt.view import StudyView, all_trials
from searching import arrange, the_study

recipe, journal = studying.recipe, studying.journal  # fixtures


def of_parts(parts: Callable[[float, float, str], dict[str, float]]) -> Callable[..., float]:
    """An objective: the sum of the components `parts(weight of code, luck, slot)`."""

    def score(trial: optuna.Trial) -> float:
        weights = [trial.suggest_float(f"w/{name}", 0, 1) for name in ("web", "code", "math")]
        slot = str(trial.user_attrs[SLOT])
        luck = float(np.random.default_rng([trial.user_attrs[SEED], len(slot)]).normal())
        found = parts(weights[1], luck, slot)
        climb_opt.report_components(trial, found)
        return sum(scores_of(found).values())

    return score


SCORE = of_parts(lambda code, luck, slot: {"a": code + 0.01 * luck})


def test_noise_is_that_of_a_search_not_of_runs_beside_one(
    recipe: StudyRecipe, journal: str
) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    climb_opt.noise(study, repeats=2, corner=0, spread=0, objective=SCORE)
    sibling = open_study(storage=journal, study_name="x-noise", create=False)
    for asked in (sibling, "x-noise"):
        with pytest.raises(UserError, match="'x-noise' holds runs beside 'x', no search: measure"):
            climb_opt.noise(asked, storage=journal, objective=SCORE)
    assert "x-noise-noise" not in optuna.get_all_study_names(StudyView(study).storage)


def test_runs_beside_a_search_overwrite_no_other_study(
    tiny_corpus: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange(tiny_corpus, tmp_path, monkeypatch)
    shutil.copy("mine.yaml", "new.yaml")
    assert main(["noise", "mine.yaml", "--as", "mine"]) == 2
    assert "--as 'mine' is the name of the search itself" in capsys.readouterr().err
    assert main(["search", "mine.yaml"]) == 0
    assert main(["search", "mine.yaml", "--study-name", "other", "--set", "verify=1"]) == 0
    assert main(["noise", "mine", "--as", "runs", "--repeats", "2", "--corner", "0"]) == 0
    names = ("mine", "other", "runs")
    before = [(the_study(n).user_attrs, len(all_trials(the_study(n)))) for n in names]
    transfer = ["transfer", "mine", "--proxy", "62m", "--mixtures", "4", "--top", "1"]
    capsys.readouterr()
    for words, taken in [
        (["noise", "mine"], "mine"),
        (["noise", "mine.yaml"], "other"),
        (["noise", "new.yaml"], "other"),  # which has not begun
        (["confirm", "mine"], "mine"),
        (["confirm", "mine"], "other"),
        (["confirm", "mine"], "runs"),
        (transfer, "other"),
    ]:
        assert main([*words, "--as", taken]) == 2
        said = capsys.readouterr().err
        assert f"Study {taken!r} exists and was not made by `climb-opt {words[0]}`" in said
        assert said.count("\n") == 1
    assert [(the_study(n).user_attrs, len(all_trials(the_study(n)))) for n in names] == before
    assert main(["search", "new.yaml", "--study-name", "runs"]) == 2
    assert "no search: it holds runs of `climb-opt noise` beside 'mine'" in capsys.readouterr().err


def test_runs_whose_creator_died_early_are_founded_again(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    terms, whole = Terms(repeats=2, corner=0, spread=0), subject(study)
    facts = begin(whole, terms).user_attrs
    half = optuna.create_study(study_name="half", storage=StudyView(study).storage)
    half.set_user_attr(RECIPE, facts[RECIPE])
    assert begin(whole, terms._replace(name="half")).user_attrs == facts


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (lambda code, luck, slot: {"a": 1.0, "b": 2.0}, "cannot be weighed: constant."),
        (
            lambda code, luck, slot: {"a": code + 0.01 * luck, "b": 2.0},
            "Not to be searched on here, constant: b.",
        ),
        (
            lambda code, luck, slot: {"a": luck if slot[0] == "p" else 0.3 * luck},
            "cannot be weighed: mixtures are not shown to differ more than runs of one mixture.",
        ),
        (
            lambda code, luck, slot: {"a": code + 0.01 * luck, "b": 1e-9 * (code + 0.01 * luck)},
            "needs at most",
        ),
        (
            lambda code, luck, slot: {"a": 1e300 if luck > 0.5 else code},
            "numbers, which count as 1e+30.",
        ),
        (
            lambda code, luck, slot: {"a": code} | ({} if slot[0] == "p" else {"b": code}),
            "no mixture has two runs that report it: b.",
        ),
    ],
    ids=["all equal", "one constant", "luck alone", "scales", "diverged", "not at the prior"],
)
def test_odd_components_are_told_in_plain_words(
    recipe: StudyRecipe, journal: str, parts: Any, said: str
) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    found = climb_opt.noise(study, corner=0, objective=of_parts(parts))
    text = " ".join(listing(*blocks(found)).split())
    assert said in text and "nan" not in text.lower()
    assert (found.seeds is None) == ("cannot be weighed" in text)


def test_the_evaluators_own_error_is_stated_where_there_is_no_noise_to_see(
    recipe: StudyRecipe, journal: str
) -> None:
    errors = iter([3.0, 4.0, float("nan")] * 20)

    def parts(code: float, luck: float, slot: str) -> dict[str, float]:
        seen = {"b": code, "b_stderr": next(errors)} if slot[0] == "d" else {}
        return {"a": code + 0.01 * luck, "a_stderr": 0.25, **seen}

    study = open_study(recipe, storage=journal, study_name="x")
    found = climb_opt.noise(study, corner=0, spread=3, objective=of_parts(parts))
    assert found.stated == pytest.approx({"a": 0.25, "b": math.sqrt((9 + 16) / 2)})
    text = " ".join(listing(*blocks(found)).split())
    assert "documents: a 0.250, " in text and "times the noise; b 3.54. Every run reads" in text


def test_one_degree_of_freedom_is_one(recipe: StudyRecipe, journal: str) -> None:
    study = open_study(recipe, storage=journal, study_name="x")
    found = climb_opt.noise(study, repeats=2, corner=0, spread=3, objective=SCORE)
    assert "with 1 degree of freedom;" in " ".join(listing(*blocks(found)).split())


def test_a_domain_without_tokens_is_no_corner() -> None:
    from climb_opt.retrain.repeats import Subject, _facts

    space = climb_opt.MixtureSpace({"web": 700, "code": 0, "math": 60})
    of = Subject("x", read_study("demo"), optuna.storages.InMemoryStorage(), None)
    facts = _facts(of, Terms(), space)
    assert facts["corner"] == "math" and facts["mixtures"]["corner"]["code"] == 0


@pytest.mark.slow  # a minute: until a dead worker counts as such
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read from /proc")
def test_two_workers_of_which_one_is_killed_do_every_run(
    tiny_corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    arrange(tiny_corpus, tmp_path, monkeypatch)
    words = ["noise", "mine.yaml", "--repeats", "3", "--spread", "0", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(climb_opt.__file__).parents[1])}
    command = [sys.executable, "-m", "climb_opt", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while not begun():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert re.search(r"3 runs of the prior, 2 of the corner", out)
    assert status(the_study("mine-noise")).finished == 5


def begun() -> bool:
    try:
        return any(BEAT in trial.user_attrs for trial in all_trials(the_study("mine-noise")))
    except Exception:  # it is being created at this moment
        return False
