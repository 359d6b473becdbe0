"""Training curves: what a tracker is told, and that nothing depends on it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest

pytest.importorskip("torch")
from climb_opt import ClimbSampler
from climb_opt.cli import main
from climb_opt.errors import Interrupted, UserError
from climb_opt.objective import ProxyObjective
from climb_opt.proxy.group import ProxyGroup
from climb_opt.proxy.job import TRACK, Job
from climb_opt.proxy.train import Trainer
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.shards import Corpus
from training import SMALL, Watch

JOB = Job("slot-0", {"web": 0.5, "code": 0.3, "math": 0.2}, seed=3)


class Told:
    """A tracker that remembers."""

    all: ClassVar[list[Told]] = []
    fails: ClassVar[str] = ""  # the method that raises

    def __init__(self, study: str, trial: str, folder: Path) -> None:
        self.name, self.config, self.ended = (study, trial), {}, False
        self.values: list[tuple[int | None, dict[str, float]]] = []
        Told.all.append(self)

    def start(self) -> None:
        self._may_fail("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, float], step: int | None) -> None:
        self._may_fail("log")
        self.values.append((step, values))

    def finish(self) -> None:
        self.ended = True

    def losses(self) -> dict[int | None, float]:
        return {step: values["loss"] for step, values in self.values if "loss" in values}

    def _may_fail(self, what: str) -> None:
        if Told.fails == what:
            raise ConnectionError("the server is away")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    monkeypatch.setenv(TRACK, f"{__name__}:Told")
    monkeypatch.setattr(Told, "all", [])
    monkeypatch.setattr(Told, "fails", "")
    return Told.all


def trainer_in(corpus: Corpus, folder: Path) -> Trainer:
    return Trainer(corpus, SMALL, ProxyGroup("fp32"), directory=folder)


def test_a_tracker_is_told_each_step_once_also_by_a_run_that_resumes(
    tiny_corpus: Corpus, tmp_path: Path, told: list[Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("climb_opt.proxy.run.LOOK_EVERY", 3)
    trainer = trainer_in(tiny_corpus, tmp_path / "mine")
    with pytest.raises(Interrupted):
        trainer.train(JOB, Watch(stop_after=7))
    outcome = trainer.train(JOB, Watch())
    first, second = told
    assert first.name == second.name == ("mine", "slot-0")
    assert second.config == {"seed": 3, "w/web": 0.5, "w/code": 0.3, "w/math": 0.2}
    assert list(first.losses()) == list(range(1, 8)) and first.ended
    assert list(second.losses()) == list(range(8, 17))
    assert outcome.losses is not None
    assert [*second.losses().values()] == pytest.approx(outcome.losses[7:])
    assert second.values[0][1]["learning_rate"] == trainer.rate(7)


def test_scores_are_told_to_the_trial_that_has_them(
    tiny_corpus: Corpus, tmp_path: Path, told: list[Told]
) -> None:
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=SMALL,
        evaluators=(Choice("heldout", {"target": "sums", "max_tokens": 1000}),),
        score=["sums/bpb"],
    )
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    study = optuna.create_study(sampler=ClimbSampler(objective.space, seed=0))
    study.optimize(objective, n_trials=2)
    for tracker, trial in zip(told, study.trials, strict=True):
        step, values = tracker.values[-1]
        assert step == 16 and values["score"] == values["sums/bpb"] == trial.value
        assert tracker.name[1] == f"slot-{trial.number}" and tracker.ended


@pytest.mark.parametrize("moment", ["start", "log"])
def test_a_tracker_that_fails_costs_the_curve_and_nothing_else(
    moment: str,
    tiny_corpus: Corpus,
    tmp_path: Path,
    told: list[Told],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Told, "fails", moment)
    with caplog.at_level(logging.WARNING):
        outcome = trainer_in(tiny_corpus, tmp_path / "with").train(JOB, Watch())
    (said,) = [r.getMessage() for r in caplog.records if "--track" in r.getMessage()]
    assert "the server is away. The trial goes on without its curve" in said
    assert [tracker.ended for tracker in told] == [True]  # an open run would stop the next one's
    monkeypatch.delenv(TRACK)
    plain = trainer_in(tiny_corpus, tmp_path / "without").train(JOB, Watch())
    assert outcome.losses is not None and plain.losses is not None
    np.testing.assert_array_equal(outcome.losses, plain.losses)


def test_a_tracker_that_does_not_exist_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(TRACK, "")
    monkeypatch.chdir(tmp_path)
    assert main(["search", "demo", "--track", "tensorbord"]) == 2
    said = capsys.readouterr().err
    assert "tracker 'tensorbord'" in said and "tensorboard" in said and len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(TRACK, "no_such_module:Tracker")
    with pytest.raises(UserError, match="tracker 'no_such_module:Tracker' cannot be imported"):
        ProxyGroup("fp32")


def test_event_files_are_those_that_tensorboard_reads(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv(TRACK, "tensorboard")
    trainer = trainer_in(tiny_corpus, tmp_path)
    outcome = trainer.train(JOB, Watch())
    trainer.group.close()
    read = events.EventAccumulator(str(tmp_path / "curves" / "slot-0")).Reload()
    assert outcome.losses is not None
    assert [e.value for e in read.Scalars("loss")] == pytest.approx(outcome.losses)
