"""`climb-opt status`, retry, enqueue, pause, resume: what is typed and what is printed."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from climb_opt import study as studies
from climb_opt.attributes import BEAT, SLOT
from climb_opt.cli import main
from climb_opt.cli.status import describe
from climb_opt.retrain import repeats
from climb_opt.retrain.finals import Finals, open_confirmation
from climb_opt.study import open_study, read_recipe
from climb_opt.text import duration
from climb_opt.view import StudyView, all_trials
from searching import fail_on, the_study

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_status_for_people_and_for_programs(home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    home(fail_on(1))
    main(["search", "mine.yaml"])
    study = the_study()
    beat = {"count": 1, "at": time.time() - 50, "worker": "gpu-7:4711", "life": None}
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, user_attrs={BEAT: beat, SLOT: "enqueued/x"}
        )
    )
    capsys.readouterr()
    assert main(["status", "mine.yaml"]) == 0
    text = capsys.readouterr().out
    assert "gpu-7:4711  last sign of life 50 s ago" in text
    assert text.count("RuntimeError: out of luck") == 2
    assert "given up: 1; `climb-opt retry mine` tries again" in text
    assert "5 of 6 slots done, best score" in text
    assert main(["status", "mine", "-f", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["finished"] == 5 and data["rounds"][0]["given_up"] == [1]
    assert main(["status", "mine", "-f", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {
        **data,
        "running": [{**data["running"][0], "age": pytest.approx(50, abs=20), "seconds": ANY}],
    }


def test_a_name_with_a_space_is_quoted_in_the_commands_that_are_printed(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    home(fail_on(1))
    search = ["search", "mine.yaml", "--study-name", "my study"]
    assert main(search) == 0
    out = capsys.readouterr().out
    assert "see `climb-opt status 'my study'`, then `climb-opt retry 'my study'`." in out
    assert main(["status", "my study"]) == 0
    assert "`climb-opt retry 'my study'` tries again" in capsys.readouterr().out
    assert main([*search, "--set", "seed=3"]) == 2
    assert "or only `--study-name 'my study'` to go on" in capsys.readouterr().err


def test_mixtures_in_line_are_seen_and_named_when_given_up(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    open_study("mine.yaml", storage="runs/climb.journal")
    Path("m.yaml").write_text("web: 0.5\nmath: 0.5\n")
    main(["enqueue", "mine", "m.yaml"])
    main(["status", "mine"])
    assert "\nand 1 waiting outside the rounds\n" in capsys.readouterr().out
    home(fail_on("enqueued/m"))
    assert main(["search", "mine"]) == 0
    assert "Given up after repeated failures: enqueued/m; see" in capsys.readouterr().out
    main(["status", "mine"])
    out = capsys.readouterr().out
    assert "and 1 given up outside the rounds" in out
    assert "given up: enqueued/m; `climb-opt retry mine` tries again" in out
    main(["status", "mine", "-f", "json"])
    assert json.loads(capsys.readouterr().out)["outside"]["given_up"] == ["enqueued/m"]


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e160, -1e308])
def test_no_score_however_large_breaks_a_command_or_strict_json(
    home: Any, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    def forbidden(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    home()
    main(["search", "mine.yaml"])
    study = the_study()
    space = StudyView(study).space
    params, kinds = space.params(space.prior), space.distributions()
    study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=value))
    for command in ("status", "best"):
        capsys.readouterr()
        assert main([command, "mine", "-f", "json"]) == 0
        json.loads(capsys.readouterr().out, parse_constant=forbidden)
        assert main([command, "mine", "-f", "yaml"]) == 0
        assert not any(word in capsys.readouterr().out for word in (".inf", ".nan"))
    assert main(["export", "mine", "--format", "megatron", "--path", "/d/{domain}"]) == 0
    assert main(["report", "mine"]) == 0


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


ANY = Anything()


def test_runs_beside_a_search_are_counted_before_they_begin(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    home()
    assert main(["search", "mine.yaml"]) == 0
    study = the_study()
    mixtures = {"found": {"web": 1.0}, "prior": {"math": 1.0}, "best": {"web": 1.0}}
    finals = Finals("mine", mixtures, ("found",), ("prior", "best"), 3, 1, twins={"best": "found"})
    confirm, _ = open_confirmation(study, finals, read_recipe(study))
    slots = {SLOT: "prior/seed-1"}
    confirm.add_trial(optuna.trial.create_trial(value=1.0, user_attrs=slots))
    assert main(["status", "mine-confirm"]) == 0
    out = capsys.readouterr().out
    assert " runs      6      1 " in out and "1 of 6 slots done" in out and "baselines" not in out
    assert main(["noise", "mine", "--repeats", "3", "--corner", "1"]) == 0
    noise = open_study(study_name="mine-noise", storage="runs/climb.journal", create=False)
    assert StudyView(noise).plan.named == repeats.orders(noise).plan.named
    race, _ = open_confirmation(study, replace(finals, budget=7), read_recipe(study), name="race")
    race.add_trial(optuna.trial.create_trial(value=1.0, user_attrs=slots))
    assert StudyView(race).plan.named == ("prior/seed-1",)


def test_retry_names_what_it_tries_again(home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    home(fail_on("baseline/prior"))
    main(["search", "mine.yaml"])
    home()
    capsys.readouterr()
    assert main(["retry", "mine", "4"]) == 2
    assert "Slot 4 is finished, not given up" in capsys.readouterr().err
    assert main(["retry", "mine", "baseline/prior"]) == 0
    assert main(["search", "mine"]) == 0
    assert main(["retry", "mine"]) == 0
    out = capsys.readouterr().out
    assert "To be tried again: baseline/prior." in out and "6 of 6 slots done" in out
    assert "No slot was given up." in out


def test_enqueue_reads_mixtures_from_files_and_standard_input(
    home: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_study("mine.yaml", storage="runs/climb.journal")
    Path("half.yaml").write_text("web: 0.5\nmath: 0.5\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("{web: 1}"))
    assert main(["enqueue", "mine", "half.yaml", "-"]) == 0
    assert capsys.readouterr().out == "In line: enqueued/half\nIn line: enqueued/stdin\n"
    assert main(["search", "mine"]) == 0
    first = all_trials(the_study())[0]
    assert first.params == {"w/web": 0.5, "w/code": 0.0, "w/math": 0.5}
    Path("again.yaml").write_text("web: 50%\nmath: 50%\n")
    Path("other.yaml").write_text("web: 51%\nmath: 49%\n")
    capsys.readouterr()
    assert main(["enqueue", "mine", "other.yaml", "again.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    known = "the mixture of trial 0: it trains with another seed"
    assert lines == ["In line: enqueued/other", f"In line: enqueued/again ({known})"]


def test_enqueue_takes_each_row_of_a_table_for_a_mixture_or_none(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study("mine.yaml", storage="runs/climb.journal")
    Path("t.csv").write_text("\ufeffcode,web,math\n0.2,0.5,0.3\n20%,80%,0\n", encoding="utf-8")
    assert main(["enqueue", "mine", "t.csv"]) == 0
    assert capsys.readouterr().out == "In line: enqueued/t.csv-2\nIn line: enqueued/t.csv-3\n"
    queued = [t.system_attrs["fixed_params"] for t in all_trials(study)]
    assert queued[1] == {"w/web": 0.8, "w/code": 0.2, "w/math": 0.0}
    for text, said in (
        ("code,web,math\n20,50,30\n", "Percentages? Write 30%"),
        ("code,web\n0.2,0.5,0.3\n", "t.csv, line 2: 3 cells, but the first line names 2 domains"),
        ("code,web\n", "t.csv: no mixture"),
        ("code,web,code\n.2,.6,.2\n", "t.csv, line 1: domain 'code' has 2 columns."),
        ("code,web,value\n.2,.8,1.7\n", "'t.csv-2': Unknown domain 'value'"),
        ("code,web\n0.2,much\n", "t.csv, line 2: a mixture is a mapping of domains to weights"),
    ):
        Path("t.csv").write_text(text)
        assert main(["enqueue", "mine", "t.csv"]) == 2
        assert said in capsys.readouterr().err
    assert len(all_trials(study)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: 0.5", "sum to 0.5, not to 1"),
        ("sea: 1", "Unknown domain 'sea'"),
        ("- web", "a phase has a share and a mixture, but this is 'web'"),
        ("web: yes", "a mapping of domains to weights"),
        ("web: [", "not readable as YAML"),
    ],
)
def test_a_bad_mixture_is_one_line_and_status_2(
    home: Any, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study("mine.yaml", storage="runs/climb.journal")
    Path("bad.yaml").write_text(text)
    assert main(["enqueue", "mine", "bad.yaml"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert main(["enqueue", "mine", "missing.yaml"]) == 2
    assert not all_trials(study)


def test_mixtures_are_put_in_line_all_or_none(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study("mine.yaml", storage="runs/climb.journal")
    Path("good.yaml").write_text("train: {t_web: 50%, t_math: 50%}")
    Path("bad.yaml").write_text("Web: 1")
    assert main(["enqueue", "mine", "good.yaml", "bad.yaml", "--prefix", "t_"]) == 2
    assert "Did you mean 'web'" in capsys.readouterr().err
    assert not all_trials(study)
    assert main(["enqueue", "mine", "good.yaml", "--prefix", "t_"]) == 0
    assert len(all_trials(study)) == 1


def test_pause_and_resume(home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    open_study("mine.yaml", storage="runs/climb.journal", study_name="my own")
    assert main(["pause", "my own"]) == 0
    assert "`climb-opt resume 'my own'` lets" in capsys.readouterr().out
    assert main(["status", "my own"]) == 0
    assert "my own (paused)" in capsys.readouterr().out
    assert main(["resume", "my own"]) == 0
    assert main(["search", "my own"]) == 0
    assert "6 of 6 slots done" in capsys.readouterr().out


def test_a_clock_that_is_ahead_is_said_to_be(home: Any) -> None:
    study = open_study("mine.yaml", storage="runs/climb.journal")
    beat = {"count": 1, "at": time.time() + 600, "worker": "far:1"}
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, user_attrs={BEAT: beat, SLOT: 0}
        )
    )
    assert "its clock is 10 min 0 s ahead" in describe(studies.status(study))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.6, "4.6 s"), (119, "1 min 59 s"), (9000, "2 h 30 min"), (400_000, "4 d 15 h")],
)
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
