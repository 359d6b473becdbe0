"""A journal that others wrote into, that was cut, or whose disk is full."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import climb_opt
from climb_opt.errors import Interrupted, UserError
from climb_opt.files import take_flock
from climb_opt.storages import impatient, open_storage, persist, study_lock
from climb_opt.storages.journal import mend
from one_worker import SMALL, work
from servers import MariaDB, Postgres, closed_engines, grpc_proxy, mysql, postgres  # noqa: F401

optuna.logging.set_verbosity(optuna.logging.ERROR)


def journal_study(path: Path, name: str = "s") -> optuna.Study:
    return optuna.create_study(study_name=name, storage=open_storage(path), load_if_exists=True)


def trials_of(path: Path) -> list[tuple[TrialState, Any]]:
    study = optuna.load_study(study_name="s", storage=open_storage(path))
    return [(t.state, t.value) for t in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize(
    "foreign",
    [
        b"garbage\n",
        b"\x00" * 5000 + b"\n",
        b'{"op_code": \n',
        b'{"op_code":99,"worker_id":"x"}\n',
        b'{"op_code":4,"worker_id":"x"}\n',
        b'{"op_code":8,"worker_id":"x","trial_id":"0","user_attr":{}}\n',
        b'{"some": "log", "of": "another program"}\n[1, 2]\n17\n\n',
        "caf\xe9\n".encode("latin-1"),
    ],
)
@pytest.mark.parametrize("line", [0, 1, 7])
def test_lines_of_another_program_in_a_journal_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, foreign: bytes, line: int
) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    for value in (1.0, 2.0):
        study.tell(study.ask(), value)
    whole, before = path.read_bytes().splitlines(keepends=True), trials_of(path)
    at = min(line, len(whole))
    path.write_bytes(b"".join([*whole[:at], foreign, *whole[at:]]))
    assert trials_of(path) == before
    said = [r.message for r in caplog.records if "cannot be read and are left out" in r.message]
    assert len(said) == 1 and re.search(rf"\(lines? {at + 1}\b", said[0]) and str(path) in said[0]
    again = journal_study(path)
    again.tell(again.ask(), 3.0)  # who works on it goes on
    assert [value for _, value in trials_of(path)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("damage", [b"\n", b"\x00\x00\n", b'{"op_code":4,"worker_id":"a"'])
def test_a_lost_beginning_of_a_trial_shifts_no_result_to_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    for value in range(4):
        study.tell(study.ask(), float(value))
    lines = path.read_bytes().splitlines(keepends=True)
    created = [i for i, line in enumerate(lines) if line.startswith(b'{"op_code":4')]
    for index in created[1:3]:
        lines[index] = damage
    path.write_bytes(b"".join(lines))
    found = trials_of(path)
    assert found[0] == (TrialState.COMPLETE, 0.0) and found[3] == (TrialState.COMPLETE, 3.0)
    assert len(found) == 4
    assert "Of 2 trials the beginning is lost" in caplog.text


def test_a_lost_beginning_of_a_study_shifts_no_trial_to_another(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal_study(path, "first")
    study = journal_study(path, "s")
    study.tell(study.ask(), 1.0)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"lost\n", *lines[1:]]))
    assert trials_of(path) == [(TrialState.COMPLETE, 1.0)]
    assert optuna.get_all_study_names(open_storage(path)) == ["damaged-0", "s"]


def test_two_lines_that_ran_together_lose_the_first_only(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    study.set_user_attr("lost", 1)
    study.set_user_attr("kept", 2)
    first, second, third = path.read_bytes().splitlines(keepends=True)[-3:]
    path.write_bytes(first + second[:20] + third)
    assert optuna.load_study(study_name="s", storage=open_storage(path)).user_attrs == {"kept": 2}


def test_a_cut_last_line_is_said_by_who_looks_and_by_who_writes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    path.write_bytes(path.read_bytes() + b'{"op_code":4,"wor')
    open_storage(path, write=False)
    assert "its last line is cut short and left out" in caplog.text
    study.set_user_attr("a", 1)
    assert "its 17 bytes are dropped" in caplog.text


def test_a_journal_that_was_cut_while_in_use_stops_its_worker(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    study.set_user_attr("a", "x" * 100)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="was cut or replaced while in use"):
        study.set_user_attr("b", 1)


def test_a_line_with_a_value_that_cannot_be_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    study.ask()
    bad = b'{"op_code":6,"worker_id":"","trial_id":0,"state":9,"values":null}\n'
    path.write_bytes(path.read_bytes() + bad)
    with pytest.raises(UserError, match=r"damaged in or before line 3 .*Delete that line"):
        open_storage(path)


@pytest.mark.parametrize("torn", [b'{"torn', b"x" * 200_000])
def test_a_torn_last_line_is_cut_off_before_the_next_write(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "x.journal"
    study = journal_study(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    study.set_user_attr("after", 1)
    again = optuna.load_study(study_name="s", storage=open_storage(path))
    assert again.user_attrs == {"after": 1}
    assert path.read_bytes().startswith(whole) and torn not in path.read_bytes()


def test_mending_a_whole_or_empty_journal_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    for content, cut in ((b"", 0), (b"{}\n", 0), (b"{}\n{", 1), (b"{", 1)):
        path.write_bytes(content)
        assert mend(path) == cut
        assert path.read_bytes() == content[: len(content) - cut]


@pytest.mark.parametrize("error", [PermissionError(13, "no"), FileNotFoundError(2, "gone")])
def test_a_journal_that_cannot_be_written_leaves_no_lock_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    path = tmp_path / "x.journal"
    study = impatient(journal_study(path))

    def fail(journal: Path) -> int:
        raise error

    with monkeypatch.context() as patched, pytest.raises((OSError, UserError)):
        patched.setattr("climb_opt.storages.journal.mend", fail)
        study.set_user_attr("a", 1)
    os.close(take_flock(Path(f"{path}.flock"), wait=False))


@pytest.mark.parametrize("folder", [False, True])
def test_a_journal_that_was_moved_while_in_use_is_waited_for_until_it_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: bool
) -> None:
    path = tmp_path / "runs" / "x.journal"
    study = optuna.create_study(study_name="s", storage=open_storage(path))
    lock = study_lock(study)
    moved = path.parent if folder else path
    put_back = partial(moved.with_name("elsewhere").rename, moved)
    monkeypatch.setattr("climb_opt.storages.outages.rest", lambda seconds, stop: put_back())
    for use in (
        lambda: study.set_user_attr("a", 1),
        lambda: study.get_trials(deepcopy=False),
        lambda: persist(lock.__enter__) if folder else study.tell(study.ask(), 1.0),
    ):
        moved.rename(moved.with_name("elsewhere"))
        use()
        assert f"Journal {str(path)!r} is gone: it was moved or deleted while in" in caplog.text
        assert caplog.messages[-1].startswith("The storage answers again")
        caplog.clear()
    assert study.user_attrs == {"a": 1}


def test_a_worker_whose_journal_is_deleted_waits_until_it_is_asked_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.journal"
    study = optuna.create_study(study_name="s", storage=open_storage(path))
    asked: list[float] = []
    monkeypatch.setattr(
        "climb_opt.storages.outages.rest", lambda seconds, stop: asked.append(seconds)
    )

    def objective(trial: optuna.Trial) -> float:
        path.unlink()
        trial.set_user_attr("a", 1)
        return 1.0

    with pytest.raises(Interrupted):
        work(study, objective, SMALL, stop=lambda: bool(asked))
    assert "is gone" in caplog.messages[0] and "waiting until it does" in caplog.messages[0]
    assert not path.exists()  # a new one would hide that the results are elsewhere
    monkeypatch.setattr("climb_opt.storages.outages.PATIENCE", 0.0)
    with pytest.raises(UserError, match=r"is gone.* Put it back, or start again with another"):
        climb_opt.status(study)


FULL_DISK = """
import resource, signal, sys
import optuna
from climb_opt.files import is_full
from climb_opt.storages import impatient, is_outage, open_storage
optuna.logging.set_verbosity(optuna.logging.ERROR)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
study = impatient(optuna.load_study(study_name="s", storage=open_storage(sys.argv[1])))
import os
size = os.path.getsize(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, resource.RLIM_INFINITY))
try:
    study.set_user_attr("big", "x" * 1000)
except OSError as error:
    print("outage" if is_outage(error) else "full" if is_full(error) else error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
study.set_user_attr("big", "y")
"""


def test_a_full_disk_under_the_journal_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal_study(path).set_user_attr("before", 1)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["full"]
    again = optuna.load_study(study_name="s", storage=open_storage(path))
    assert again.user_attrs == {"before": 1, "big": "y"}
    assert all(json.loads(line) for line in path.read_text().splitlines())
