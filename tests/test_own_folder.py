"""Tests of whose folder of runs it is."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import optuna
import pytest

import studying
from climb_opt.attributes import IDENTITY
from climb_opt.errors import UserError
from climb_opt.files import write_whole
from climb_opt.recipes import StudyRecipe
from climb_opt.storages import open_storage
from climb_opt.study import discard_untried, make_objective, open_study, with_proxies
from climb_opt.study.own_folder import MARKER, mark_folder
from climb_opt.view import load_study
from servers import closed_engines, mysql, postgres  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)

recipe = studying.recipe  # a fixture

OTHER = r"holds runs of another study that is called 's' .* give another --runs"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def opened(recipe: StudyRecipe, storage: Path) -> optuna.Study:
    return open_study(recipe, storage=str(storage), study_name="s")


def train(study: optuna.Study, runs: Path) -> None:
    with_proxies(study, lambda proxies, lost: None, directory=runs)


def test_studies_of_one_name_in_two_storages_do_not_share_a_folder_of_runs(
    recipe: StudyRecipe,
    tmp_path: Path,
    runs: Path,
) -> None:
    ours, theirs = (opened(recipe, tmp_path / f"{team}.journal") for team in ("a", "b"))
    train(ours, runs)
    before = (runs / "s" / MARKER).read_text()
    for use in (train, lambda study, runs: make_objective(study, directory=runs)):
        with pytest.raises(UserError, match=OTHER):
            use(theirs, runs)
    assert discard_untried(theirs, runs)
    assert (runs / "s" / MARKER).read_text() == before
    theirs = opened(recipe, tmp_path / "b.journal")
    train(theirs, tmp_path / "elsewhere")
    train(ours, runs)


def test_copied_storages_and_moved_runs_go_on_together(
    recipe: StudyRecipe,
    tmp_path: Path,
    runs: Path,
) -> None:
    train(opened(recipe, tmp_path / "a.journal"), runs)
    shutil.move(tmp_path / "a.journal", tmp_path / "moved.journal")
    train(opened(recipe, tmp_path / "moved.journal"), runs)
    shutil.copytree(runs, tmp_path / "copied")
    optuna.copy_study(
        from_study_name="s",
        from_storage=open_storage(str(tmp_path / "moved.journal")),
        to_storage=open_storage(f"sqlite:///{tmp_path}/b.db"),
    )
    copied = open_study("s", storage=f"sqlite:///{tmp_path}/b.db")
    train(copied, runs)
    train(copied, tmp_path / "copied")


def test_a_folder_and_a_study_without_an_identity_find_one_another(
    recipe: StudyRecipe,
    tmp_path: Path,
    runs: Path,
) -> None:
    (runs / "s" / "models" / "slot-0").mkdir(parents=True)  # as version 0.1.0 left it
    old = opened(recipe, tmp_path / "a.journal")
    assert IDENTITY not in old.user_attrs
    train(old, runs)
    assert old.user_attrs[IDENTITY] in (runs / "s" / MARKER).read_text()
    with pytest.raises(UserError, match=OTHER):  # of the same version, and not yet trained here
        train(opened(recipe, tmp_path / "b.journal"), runs)


SERVERS = [pytest.param(name, marks=pytest.mark.postgres) for name in ("postgres", "mysql")]


@pytest.mark.parametrize("kind", ["journal", *SERVERS])
def test_workers_that_begin_at_once_agree_on_one_identity(
    kind: str,
    recipe: StudyRecipe,
    tmp_path: Path,
    runs: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slowly() -> uuid.UUID:  # so that who takes no lock draws while others do
        time.sleep(0.05)
        return uuid.UUID(int=next(drawn))

    drawn = itertools.count()
    monkeypatch.setattr("climb_opt.study.own_folder.uuid.uuid4", slowly)
    if kind == "journal":
        url = str(tmp_path / "a.journal")
    else:
        url = request.getfixturevalue(kind).fresh()
    open_study(recipe, storage=url, study_name="s")
    together, found, failed = threading.Barrier(6), set[str](), list[Exception]()

    def begin() -> None:
        study = load_study(open_storage(url), "s")
        together.wait()
        try:
            mark_folder(study, runs)
        except Exception as error:
            failed.append(error)
        found.add(study.user_attrs[IDENTITY])

    workers = [threading.Thread(target=begin) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (len(found), failed) == (1, [])


def test_what_could_not_train_leaves_its_folder_to_the_corrected_study(
    recipe: StudyRecipe,
    tmp_path: Path,
    runs: Path,
) -> None:
    (runs / "s" / "models").mkdir(parents=True)
    first = opened(recipe, tmp_path / "a.journal")
    train(first, runs)
    assert discard_untried(first, runs)
    second = opened(recipe, tmp_path / "a.journal")
    train(second, runs)
    (runs / "s" / "models").rmdir()
    assert discard_untried(second, runs)
    assert not (runs / "s").exists()


def test_a_study_in_memory_marks_no_folder_and_uses_none_of_another(
    recipe: StudyRecipe,
    tmp_path: Path,
    runs: Path,
) -> None:
    def fleeting() -> optuna.Study:
        return open_study(recipe, storage=optuna.storages.InMemoryStorage(), study_name="s")

    train(fleeting(), runs)
    train(fleeting(), runs)
    train(opened(recipe, tmp_path / "a.journal"), runs)
    with pytest.raises(UserError, match=OTHER):
        train(fleeting(), runs)


def test_a_mark_that_cannot_be_written_is_told_in_one_line(
    recipe: StudyRecipe,
    tmp_path: Path,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, text: str) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("climb_opt.study.own_folder.write_whole", full)
    with pytest.raises(UserError, match=r"study.json' cannot be written: no space left"):
        train(opened(recipe, tmp_path / "a.journal"), runs)
    monkeypatch.setattr("climb_opt.study.own_folder.write_whole", write_whole)
    train(opened(recipe, tmp_path / "a.journal"), runs)


@pytest.mark.parametrize("nonsense", ["", "{", "[]", '{"study": "s"}'])
def test_a_mark_of_nonsense_is_told_in_one_line_and_left(
    nonsense: str, recipe: StudyRecipe, tmp_path: Path, runs: Path
) -> None:
    (runs / "s").mkdir(parents=True)
    (runs / "s" / MARKER).write_text(nonsense)
    study = opened(recipe, tmp_path / "a.journal")
    with pytest.raises(UserError, match=r"study.json', which says whose .* remove it") as told:
        train(study, runs)
    assert "\n" not in str(told.value)
    assert discard_untried(study, runs)
    assert (runs / "s" / MARKER).read_text() == nonsense
