"""Checkpoints: whole or absent, tied to what they were trained on; kept models: the best few."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import torch

from climb_opt.proxy import checkpoint
from climb_opt.proxy.keep import KeptModels, describe

STATE = {"step": 3, "model": {"w": torch.arange(4.0)}}


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    size = checkpoint.save(tmp_path / "slot-0", "print", STATE)
    assert size == (tmp_path / "slot-0" / checkpoint.FILE).stat().st_size
    state = checkpoint.load(tmp_path / "slot-0", "print")
    assert state is not None and state["step"] == 3
    assert torch.equal(state["model"]["w"], STATE["model"]["w"])


def test_no_checkpoint_and_another_runs_checkpoint_are_both_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, "print") is None
    checkpoint.save(tmp_path, "print", STATE)
    assert checkpoint.load(tmp_path, "other") is None


def test_two_that_write_one_checkpoint_at_once_leave_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = torch.save

    def meanwhile(state: Any, file: Any) -> None:
        monkeypatch.setattr(torch, "save", write)
        checkpoint.save(tmp_path, "print", STATE | {"step": 2})  # by another process
        write(state, file)

    monkeypatch.setattr(torch, "save", meanwhile)
    checkpoint.save(tmp_path, "print", STATE)
    state = checkpoint.load(tmp_path, "print")
    assert state is not None and state["step"] == 3
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.FILE]


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "cut": cut_in_half,
    "empty": lambda path: path.write_bytes(b""),
    "zeroed by a power cut": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("step 3 of 16"),
    "another program's pickle": lambda path: path.write_bytes(
        pickle.dumps({"step": 3, "x": Path()})
    ),
    "without a fingerprint": lambda path: torch.save({"step": 3}, path),
    "no dictionary": lambda path: torch.save([torch.ones(2)], path),
    "a whole model": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "a flipped byte": lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_no_checkpoint_starts_the_slot_afresh_with_one_line(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(tmp_path, "print", STATE)
    DAMAGE[damage](tmp_path / checkpoint.FILE)
    assert checkpoint.load(tmp_path, "print") is None
    (line,) = caplog.messages
    assert str(tmp_path / checkpoint.FILE) in line and line.endswith("starting afresh.")
    assert "\n" not in line
    checkpoint.save(tmp_path, "print", STATE)
    assert checkpoint.load(tmp_path, "print") is not None


def test_a_state_that_does_not_fit_is_taken_back_but_want_of_memory_is_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[str] = []

    def restore(error: Exception) -> Any:
        def fail(state: dict[str, Any]) -> None:
            raise error

        return fail

    checkpoint.resume(tmp_path, "print", restore(KeyError()), begin=lambda: begun.append("none"))
    checkpoint.save(tmp_path, "print", STATE)
    begin = lambda: begun.append("again")  # noqa: E731
    checkpoint.resume(tmp_path, "print", restore(KeyError("model")), begin=begin)
    assert begun == ["again"]
    assert "does not fit this trial (KeyError: model); starting afresh." in caplog.text
    with pytest.raises(MemoryError):
        checkpoint.resume(tmp_path, "print", restore(MemoryError()), begin=begin)
    assert begun == ["again"]


def test_a_write_that_is_cut_off_leaves_the_last_whole_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "print", STATE)
    script = (
        "import os, sys, torch\n"
        "from pathlib import Path\n"
        "from climb_opt.proxy import checkpoint\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), 9)\n"
        "checkpoint.save(Path(sys.argv[1]), 'print', {'step': 4})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    state = checkpoint.load(tmp_path, "print")
    assert state is not None and state["step"] == 3
    checkpoint.remove(tmp_path)
    assert not tmp_path.exists()


def test_removing_keeps_what_others_put_beside_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "print", STATE)
    (tmp_path / "log.txt").write_text("kept")
    checkpoint.remove(tmp_path)
    assert os.listdir(tmp_path) == ["log.txt"]


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"0" * 1000)


@pytest.mark.parametrize(("maximize", "best"), [(False, {"a", "c"}), (True, {"b", "d"})])
def test_only_the_best_models_stay_on_disk(tmp_path: Path, maximize: bool, best: set[str]) -> None:
    kept = KeptModels(tmp_path, 2, maximize=maximize)
    for name, score in [("a", 1.0), ("b", 4.0), ("c", 2.0), ("d", 3.0)]:
        where = kept.offer(name, score, write)
        assert (where is not None) == (tmp_path / name).exists()
        assert len(list(tmp_path.iterdir())) <= 2
    assert set(os.listdir(tmp_path)) == best
    assert describe(tmp_path).startswith("2 models, 0.0 MB")


def test_nothing_is_kept_unless_asked(tmp_path: Path) -> None:
    assert KeptModels(tmp_path / "models", 0, maximize=True).offer("a", 1.0, write) is None
    assert not (tmp_path / "models").exists()


def test_of_models_that_score_alike_the_first_is_kept(tmp_path: Path) -> None:
    kept = KeptModels(tmp_path / "models", 1, maximize=True)
    assert kept.offer("slot-0", 0.5, lambda folder: folder.mkdir(parents=True))
    assert kept.offer("slot-1", 0.5, lambda folder: folder.mkdir(parents=True)) is None


def test_a_retried_trial_replaces_its_own_model(tmp_path: Path) -> None:
    def rewrite(folder: Path) -> None:
        folder.mkdir(exist_ok=True, parents=True)

    kept = KeptModels(tmp_path, 2, maximize=False)
    for name, score in [("a", 2.0), ("b", 3.0), ("a", 1.0)]:
        kept.offer(name, score, rewrite)
    assert set(os.listdir(tmp_path)) == {"a", "b"}
    assert json.loads((tmp_path / "a" / "score.json").read_text()) == {"score": 1.0}


def test_a_model_without_a_score_was_cut_off_and_goes_first(tmp_path: Path) -> None:
    kept = KeptModels(tmp_path, 2, maximize=False)
    write(tmp_path / "broken")
    kept.offer("a", 5.0, write)
    kept.offer("b", 9.0, write)
    assert set(os.listdir(tmp_path)) == {"a", "b"}


@pytest.mark.parametrize(
    "text", ["", '{"score": ', "[1]", "5", '{"score": null}', '{"score": NaN}', '{"points": 1}']
)
def test_a_kept_models_score_that_cannot_be_read_counts_as_the_worst(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptModels(tmp_path, 2, maximize=False)
    for name, score in [("a", 1.0), ("b", 2.0)]:
        kept.offer(name, score, write)
    (tmp_path / "a" / "score.json").write_text(text)
    caplog.set_level(logging.WARNING)
    kept.offer("c", 9.0, write)
    assert set(os.listdir(tmp_path)) == {"b", "c"}
    assert f"{tmp_path / 'a' / 'score.json'} holds no score" in caplog.text
