"""Commands in messages are ones to copy: on the storage that was typed, or stored without one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest

import climb_opt
from climb_opt.cli import main
from climb_opt.commands import command, typed_with
from climb_opt.errors import UserError
from climb_opt.reports.dashboard.notes import rerun_command
from climb_opt.reports.draw import markdown, page
from climb_opt.reports.parts import noise as noise_part
from climb_opt.reports.report import contents_of
from climb_opt.shards import Corpus
from climb_opt.storages import command_on, open_storage, patient
from climb_opt.study import open_study
from climb_opt.view import store_space
from searching import arrange, fail_on
from synthetic_study import Shape, build_study

PACKAGE = Path(climb_opt.__file__).parent
ELSEWHERE = "runs/one more.journal"


@pytest.mark.parametrize(
    ("given", "end"),
    [
        (None, ""),
        ("runs/a b.journal", " --storage 'runs/a b.journal'"),
        ("postgresql://me@host/db", " --storage postgresql://me@host/db"),
    ],
)
def test_a_command_takes_the_storage_that_was_typed(given: str | None, end: str) -> None:
    with typed_with(given):
        assert command("export", "my study", "--trial", "N") == (
            f"climb-opt export 'my study' --trial N{end}"
        )
    assert command("best", "s") == "climb-opt best s"


def test_no_command_is_named_for_a_study_in_memory(tmp_path: Path) -> None:
    place = open_storage(str(tmp_path / "a.journal"))
    stored, held = optuna.create_study(study_name="s", storage=place), optuna.create_study()
    words = ("export", "--trial", "N")
    assert (
        command_on(stored, *words)
        == command_on(patient(stored), *words)
        == command("export", "s", "--trial", "N")
    )
    assert command_on(held, *words) == command_on(patient(held), *words)
    assert command_on(held, *words) == "climb_opt.export(study, ...)"
    store_space(held, climb_opt.MixtureSpace({"web": 1, "code": 1}))
    with pytest.raises(UserError, match=r"no trial has finished\. Run it first\.$"):
        climb_opt.export(held, "json")  # nor one that refuses studies without a recipe


def test_a_study_in_memory_that_has_nothing_to_export_yet_is_told_of_status(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange(tiny_corpus, tmp_path, monkeypatch)
    held = open_study("mine.yaml", storage=optuna.storages.InMemoryStorage())
    with pytest.raises(UserError, match=r"`climb_opt\.status\(study\)` shows how far"):
        climb_opt.export(held, "json")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:s3@cr/et@host/db", "postgresql://me:PASSWORD@host/db"),
        ("mysql://host/db?password=s3@cr/et", "'mysql://host/db?password=PASSWORD'"),
    ],
)
def test_a_password_is_left_to_be_filled_in(
    given: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = build_study(Shape(domains=3, rounds=(4,), name="s"))
    monkeypatch.setattr("climb_opt.cli.pause_resume.existing", lambda args, write: study)
    assert main(["pause", "s", "--storage", given]) == 0
    assert f"`climb-opt resume s --storage {shown}` lets" in capsys.readouterr().out


def test_commands_on_a_study_are_written_by_that_function_alone() -> None:
    # One that a message spells by itself asks another storage when it is copied.
    study = re.compile(r"climb-opt (?!corpus\b)[a-z]+ ?(\"\s*f\")?\{")
    by_hand = {
        str(path.relative_to(PACKAGE)): found[0]
        for path in PACKAGE.rglob("*.py")
        if (found := study.search(path.read_text(encoding="utf-8")))
    }
    assert not by_hand


def commands_in(text: str) -> list[list[str]]:
    return [shlex.split(found)[1:] for found in re.findall(r"`(climb-opt [^`]*)`", text)]


def test_what_is_printed_can_be_copied_where_a_storage_was_typed(
    home: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home(fail_on(1))
    where = ["--storage", ELSEWHERE]
    storage = open_storage(ELSEWHERE)
    open_study("mine.yaml", storage=storage, study_name="empty")
    spoken: list[str] = []
    for words in (
        ["best", "empty"], ["search", "mine.yaml"], ["status", "mine"], ["best", "mine"],
        ["pause", "mine"],
    ):  # fmt: skip
        main([*words, *where])
        said = capsys.readouterr()
        found = commands_in(said.out + said.err)
        assert found and all(f[-2:] == where for f in found), words
        spoken += [f[0] for f in found]
    assert set(spoken) == {"status", "retry", "confirm", "resume"}
    assert main(["resume", "mine", *where]) == 0
    monkeypatch.setenv("OPTUNA_STORAGE", ELSEWHERE)
    capsys.readouterr()
    assert main(["status", "mine"]) == 0
    assert "`climb-opt retry mine` tries again" in capsys.readouterr().out, "as it was typed"


def test_what_is_stored_names_no_storage(home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(trial: optuna.Trial) -> None:
        raise UserError(f"This one is odd; see `{command('status', 'mine')}`.")

    home(fail)
    assert main(["search", "mine.yaml", "--storage", ELSEWHERE]) == 2
    study = open_study(study_name="mine", storage=open_storage(ELSEWHERE))
    reasons = [str(trial.user_attrs) for trial in study.trials]
    assert reasons and all("`climb-opt status mine`" in reason for reason in reasons)


def test_a_trials_note_names_no_storage() -> None:
    with typed_with("runs/a.journal"):
        said = rerun_command("s", 3, "whole run")
    assert said == (
        "climb-opt export s --trial 3 --format yaml | climb-opt enqueue s - --rung 'whole run'"
    )


@pytest.mark.parametrize("draw", [page.render, markdown.render])
def test_a_report_names_no_storage(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(noise_part, "noise", lambda found: said.append(command("status", "s")))
    contents = contents_of(build_study(Shape(domains=3, rounds=(4,))))
    with typed_with("runs/a.journal"):
        draw(contents)
        assert said == ["climb-opt status s"]
        assert command("status", "s").endswith("runs/a.journal"), "again once it is drawn"
