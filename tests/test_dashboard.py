"""What workers leave on optuna-dashboard: notes, artifacts and cards."""

from __future__ import annotations

import csv
import errno
import io
import logging
import socket
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import optuna
import pytest

from climb_opt.attributes import SHOWN
from climb_opt.cli import main
from climb_opt.commands import command
from climb_opt.errors import UserError
from climb_opt.reports.contents import Contents, gather
from climb_opt.reports.dashboard import notes
from climb_opt.reports.dashboard import server as board
from climb_opt.reports.dashboard.cards import cards
from climb_opt.reports.dashboard.notebook import Notebook, rounds_ended
from climb_opt.reports.snapshot import take
from climb_opt.storages import open_storage
from synthetic_study import ODD_NAMES, Shape, build_study, make_law, make_space

pytest.importorskip("optuna_dashboard")

SHAPE = Shape(domains=4, rounds=(6, 3), name="board", failures=0)


def contents_of(study: optuna.Study) -> Contents:
    return gather(take(study), predictor="linear")


def objective_of(shape: Shape) -> Any:
    space, law = make_space(shape), make_law(shape, make_space(shape))

    def objective(trial: optuna.Trial) -> float:
        mixture = space.suggest(trial)
        value = law(space.weights(mixture))
        trial.set_user_attr("climb/components", {"task0/bpb": value})
        epochs = {domain: 3.0 * weight for domain, weight in mixture.items()}
        facts = {"tokens": 262_144, "seconds": 41.2, "device": "cpu", "epochs": epochs}
        trial.set_user_attr("climb/facts", facts)
        return value

    return objective


def run_one(study: optuna.Study, shape: Shape, notebook: Notebook) -> optuna.trial.FrozenTrial:
    space = make_space(shape)
    study.enqueue_trial(space.params(space.sample(np.random.default_rng(0), 1)[0]))
    trial = study.ask()
    return study.tell(trial, notebook.annotate(objective_of(shape))(trial))


def note_of(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> str:
    from optuna_dashboard._note import get_note_from_system_attrs

    attrs = study._storage.get_study_system_attrs(study._study_id)
    return str(get_note_from_system_attrs(attrs, trial._trial_id)["body"])


def test_a_trial_gets_a_note_with_its_mixture_scores_and_command() -> None:
    study = build_study(SHAPE)
    space = make_space(SHAPE)
    trial = run_one(study, SHAPE, Notebook(study, prior=space.mixture(space.prior)))
    note = note_of(study, trial)
    assert "262k tokens, 41 s" in note
    assert "| task0/bpb |" in note
    assert all(domain in note for domain in space.domains)
    assert notes.BLOCKS[-1] in note
    assert f"climb-opt export board --trial {trial.number} --format yaml" in note


def test_a_trial_gets_its_mixture_as_csv_and_picture(tmp_path: Path) -> None:
    study = build_study(SHAPE)
    notebook = Notebook(study, artifacts=tmp_path / "artifacts")
    trial = run_one(study, SHAPE, notebook)
    metas = optuna.artifacts.get_all_artifact_meta(trial, storage=study._storage)
    assert {meta.filename for meta in metas} == {"mixture.csv", "mixture.png"}
    by_name = {meta.filename: tmp_path / "artifacts" / meta.artifact_id for meta in metas}
    assert by_name["mixture.png"].read_bytes()[:4] == b"\x89PNG"
    text = by_name["mixture.csv"].read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(float(row["weight"]) for row in rows) == pytest.approx(1.0)


def test_an_artifact_folder_that_cannot_be_written_costs_no_trial(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    study = build_study(SHAPE)
    with caplog.at_level(logging.WARNING):
        trial = run_one(study, SHAPE, Notebook(study, artifacts=blocked / "inside"))
    assert trial.value is not None
    assert "were not written" in caplog.text


@pytest.mark.parametrize("error", [UserError("no space left"), ValueError("no note today")])
def test_notes_and_cards_that_fail_cost_no_trial_and_say_in_a_line_what_is_known_to_be_wrong(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(notes, "trial_note", broken)
    study = build_study(Shape(domains=4, rounds=(6, 3), done=6, name="half", failures=0))
    notebook = Notebook(study, contents=broken)
    with caplog.at_level(logging.WARNING):
        trial = run_one(study, SHAPE, notebook)
        notebook.on_trial(study.trials[-1])
    assert trial.value is not None
    note, refreshed = (r for r in caplog.records if r.name.startswith("climb_opt"))
    assert f"Trial {trial.number} has no note" in note.message
    assert "cards were not refreshed" in refreshed.message
    plain = isinstance(error, UserError)
    for record in (note, refreshed):
        assert (not record.exc_info) == plain == (str(error) in record.getMessage())


def test_without_the_dashboard_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("climb_opt.reports.dashboard.notebook.installed", lambda package: False)
    study = build_study(SHAPE)
    objective = objective_of(SHAPE)
    notebook = Notebook(study, contents=contents_of)
    assert notebook.annotate(objective) is objective
    notebook.on_trial(study.trials[-1])
    assert SHOWN not in study.user_attrs


def test_cards_are_refreshed_once_per_round() -> None:
    seen = []

    def counted(study: optuna.Study) -> Contents:
        seen.append(study.study_name)
        return contents_of(study)

    study = build_study(Shape(domains=4, rounds=(6, 3), done=6, name="half", failures=0))
    notebook = Notebook(study, contents=counted)
    notebook.on_trial(study.trials[-1])
    assert study.user_attrs[SHOWN] == 1
    before = dict(study._storage.get_study_system_attrs(study._study_id))
    notebook.on_trial(study.trials[-1])
    assert study._storage.get_study_system_attrs(study._study_id) == before


@pytest.mark.parametrize(("done", "ended"), [(0, 0), (5, 0), (6, 1), (8, 1), (9, 2)])
def test_a_round_has_ended_when_none_of_its_slots_is_left(done: int, ended: int) -> None:
    shape = Shape(domains=3, rounds=(6, 3), done=done, baselines=(), failures=0)
    assert rounds_ended(take(build_study(shape))) == ended


def test_cards_set_no_size_and_escape_names() -> None:
    study = build_study(Shape(domains=ODD_NAMES, rounds=(12, 6), name="odd"))
    snapshot = take(study)
    made = cards(gather(snapshot, predictor="linear"))
    assert set(made) == {
        "best-so-far",
        "mixture-by-round",
        "predicted-measured",
        "domain-effects",
    }
    for figure in made.values():
        assert figure.layout.height is None and figure.layout.width is None
        assert "<script>" not in figure.to_json()
        assert "&quot;" not in figure.to_json()  # Plotly would show it as it stands


def test_cards_of_240_domains_stay_within_what_a_card_shows() -> None:
    study = build_study(Shape(domains=240, rounds=(12, 6), name="wide"))
    made = cards(gather(take(study), predictor="linear"))
    assert len(made["mixture-by-round"].data) <= 9
    assert len(made["domain-effects"].data[0].y) <= 24


def test_a_note_of_240_domains_names_the_largest_and_counts_the_rest() -> None:
    mixture = {f"d{k:03d}": (k + 1) / 28_920 for k in range(240)}
    note = notes.trial_note(mixture, {}, {})
    assert note.count("\n| d2") == notes.LARGEST
    assert "216 more domains hold" in note


def test_standard_errors_stand_beside_their_scores() -> None:
    scores = {"a/bpb": 1.23456, "a/bpb_stderr": 0.01, "b/acc": 0.5}
    note = notes.trial_note({"web": 1.0}, scores, {})
    assert "| a/bpb | 1.235 ± 0.010 |" in note and "| b/acc | 0.5000 |" in note
    assert "stderr" not in note
    many = notes.trial_note({"web": 1.0}, {f"t{k}/bpb": 1.0 for k in range(30)}, {})
    assert many.count("/bpb |") == notes.LARGEST and "6 more in climb/components" in many


def test_odd_names_stay_in_their_cells() -> None:
    mixture = dict.fromkeys(ODD_NAMES, 1 / len(ODD_NAMES))
    note = notes.trial_note(mixture, {"a|b<i>/acc": 0.5}, {"device": "<b>gpu</b>"})
    assert "<script" not in note.replace("\\<script", "")
    assert "\x1b" not in note
    rows = list(csv.reader(io.StringIO(notes.mixture_csv(mixture))))
    assert {row[0] for row in rows[1:]} == set(ODD_NAMES)


def test_bars_are_proportional_in_eighths() -> None:
    assert notes.bar(1.0, 1.0) == "█" * notes.WIDTH
    assert len(notes.bar(0.5, 1.0)) == notes.WIDTH // 2
    assert notes.bar(0.0, 1.0) == ""
    assert notes.bar(0.5, 0.0) == ""


def test_a_picture_of_odd_names_is_drawn_without_warnings(tmp_path: Path) -> None:
    mixture = dict.fromkeys((*ODD_NAMES, "$x^2$", "हिन्दी", "ภาษาไทย"), 1 / 13)
    notes.mixture_png(mixture, tmp_path / "m.png", mixture)
    assert (tmp_path / "m.png").stat().st_size > 1000


def get(app: board.Application, path: str, **headers: str) -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, **headers}
    setup_testing_defaults(environ)
    seen: list[Any] = []
    body = b"".join(app(environ, lambda status, headers, *_: seen.extend([status, headers])))
    return seen[0], {name.lower(): value for name, value in seen[1]}, body


def test_the_dashboard_is_served_as_wide_as_the_window() -> None:
    study = build_study(SHAPE)
    app = board.application(study._storage)
    status, headers, page = get(app, "/dashboard")
    assert status.startswith("200")
    assert page.count(board.STYLE) == 1
    assert int(headers["content-length"]) == len(page)
    status, headers, body = get(app, "/api/studies")
    assert status.startswith("200") and headers["content-type"] == "application/json"
    assert b"board" in body and board.STYLE not in body


@pytest.mark.parametrize(
    ("error", "other"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), "--port"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "--host"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "--host"),
    ],
)
def test_an_address_that_cannot_be_served_on_is_one_line_that_says_what_to_change(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    other: str,
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(board, "make_server", refused)
    where = str(tmp_path / "x.journal")
    build_study(SHAPE, open_storage(where))
    assert main(["dashboard", "board", "--storage", where]) == 2
    said = capsys.readouterr()
    assert f"{error.strerror}. Give another {other}." in said.err and not said.out


def test_why_there_are_no_cards_is_said_with_a_command_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise UserError(f"see `{command('status', 'board')}`")

    monkeypatch.setattr("climb_opt.reports.report.contents_of", nothing)
    monkeypatch.setattr(board, "serve", lambda *_, ready, port, **__: ready(port))
    where = str(tmp_path / "x.journal")
    build_study(SHAPE, open_storage(where))
    assert main(["dashboard", "board", "--storage", where]) == 0
    see = command("status", "board", "--storage", where)
    assert f"No cards yet: see `{see}`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--port", "99999"), "--port must be in [0, 65535], but is 99999"),
        (("--port", "-1"), "--port must be in [0, 65535], but is -1"),
        (("--artifacts", "nowhere"), "--artifacts nowhere: no such folder"),
    ],
)
def test_a_dashboard_option_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], option: tuple[str, str], said: str
) -> None:
    assert main(["dashboard", "any", *option]) == 2
    assert said in capsys.readouterr().err
