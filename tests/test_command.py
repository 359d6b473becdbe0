"""Someone else's trainer: a program that knows us by trial.json and scores.json only."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

pytest.importorskip("torch")

from climb_opt.attributes import COMPONENTS, FACTS
from climb_opt.corpus.after.megatron import read_pair
from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.objective import ProxyObjective
from climb_opt.proxy import command as command_module
from climb_opt.proxy.command import CommandTrainer
from climb_opt.proxy.job import Job
from climb_opt.recipes import Choice, ProxyRecipe, StudyRecipe, study_from
from climb_opt.shards import Corpus

PROGRAM = Path(__file__).parent / "programs" / "bigram.py"
JOB = Job("slot-4", {"web": 0.75, "code": 0.25, "math": 0.0}, seed=5)


class Watch:
    def __init__(self, stop: bool = False) -> None:
        self.answer = stop

    def stop(self) -> bool:
        return self.answer

    def report(self, model: Any, step: int) -> bool:
        raise AssertionError("a command reports nothing")


@pytest.fixture
def make(tiny_corpus: Corpus, tmp_path: Path) -> Callable[..., CommandTrainer]:
    def trainer(command: str, **changes: Any) -> CommandTrainer:
        recipe = replace(ProxyRecipe(tokens=5000), command=command, **changes)
        return CommandTrainer(tiny_corpus, recipe, directory=tmp_path)

    return trainer


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "trainer.sh"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return f"{path} {{directory}}"


def test_a_second_program_is_searched_over_by_a_study(tiny_corpus: Corpus, tmp_path: Path) -> None:
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(tokens=5000, command=f"{{python}} {PROGRAM} {{trial}}"),
        evaluators=(),
        score=["sums/bits"],
    )
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    study = optuna.create_study()
    for name in ("web", "math"):
        study.enqueue_trial(objective.space.params(objective.space.weights({name: 1.0})))
        study.optimize(objective, n_trials=1)
    web, math = study.trials
    assert web.value is not None and math.value is not None and math.value < web.value - 1
    assert math.user_attrs[COMPONENTS] == {"sums/bits": math.value}
    assert math.user_attrs[FACTS]["tokens"] == 5000
    assert math.user_attrs[FACTS]["train_seconds"] > 0


def test_the_trial_file_says_all_a_trainer_needs(
    make: Callable[..., CommandTrainer], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    trainer = make(script(tmp_path, 'echo \'{"a": 1}\' > "$1/scores.json"'))
    outcome = trainer.train(JOB, Watch())
    assert outcome.scores == {"a": 1.0} and outcome.model is None
    trial = json.loads((tmp_path / "slot-4" / "trial.json").read_text())
    assert trial["weights"] == dict(JOB.mixture)
    assert (trial["tokens"], trial["seed"]) == (5000, 5)
    assert trial["proxy"]["sequence"] == 128
    for domain in tiny_corpus.domains:
        tokens = [
            np.fromfile(path, trial["corpus"]["dtype"]) for path in trial["shards"][domain.name]
        ]
        assert sum(map(len, tokens)) == domain.tokens
    blend = trial["megatron_blend"]
    assert [float(w) for w in blend[::2]] == [0.75, 0.25]  # Megatron asserts weight > 0
    for prefix, name in zip(blend[1::2], ("web", "code"), strict=True):
        pair = read_pair(Path(prefix))
        assert len(pair.ends) == tiny_corpus.domain(name).shards[0].documents
        assert pair.ends[-1] == len(pair.tokens)
        assert np.all(pair.tokens[pair.ends - 1] == tiny_corpus.eos)


def test_a_corpus_that_cannot_be_written_to_trains_without_a_blend(
    tiny_corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "mounted"
    shutil.copytree(tiny_corpus.path, other, ignore=shutil.ignore_patterns("*.idx"))
    for index in range(3):  # a folder in the index's place: not to be replaced, also by root
        (other / f"domain_{index:03d}.idx").mkdir()
    recipe = replace(ProxyRecipe(tokens=5000), command="true {trial}")
    trainer = CommandTrainer(Corpus.load(other), recipe, directory=tmp_path)
    assert [trainer.describe(JOB)["megatron_blend"] for _ in range(2)] == [[], []]
    assert caplog.text.count("domain_000.idx is missing and cannot be written") == 1
    assert "corpus export" in caplog.text


def test_a_failing_command_fails_the_trial_with_the_end_of_its_log(
    make: Callable[..., CommandTrainer], tmp_path: Path
) -> None:
    trainer = make(script(tmp_path, "seq 100; echo no more disk >&2; exit 3"))
    with pytest.raises(TrialFailed, match=r"status 3; its log ends:\n90\n(.*\n)+no more disk"):
        trainer.train(JOB, Watch())


def test_a_command_that_cannot_be_started_fails_the_trial(
    make: Callable[..., CommandTrainer],
) -> None:
    with pytest.raises(TrialFailed, match=r"cannot be started.*no-such-program"):
        make("no-such-program {trial}").train(JOB, Watch())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("true", "left no scores.json and no model; it printed nothing"),
        ("mkdir $1/scores.json", "made scores.json a folder; it must be a file"),
        ("echo '{' > $1/scores.json", "scores.json: not JSON"),
        ("echo '[1]' > $1/scores.json", "must map names to finite numbers"),
        ("echo '{\"a\": NaN}' > $1/scores.json", "must map names to finite numbers"),
        ('echo \'{"a": "x"}\' > $1/scores.json', "must map names to finite numbers"),
    ],
)
def test_scores_that_are_not_numbers_fail_the_trial(
    make: Callable[..., CommandTrainer], tmp_path: Path, text: str, message: str
) -> None:
    for _ in range(2):  # whatever the first attempt left
        with pytest.raises(TrialFailed, match=message):
            make(script(tmp_path, text)).train(JOB, Watch())


def test_scores_of_an_earlier_attempt_do_not_count(
    make: Callable[..., CommandTrainer], tmp_path: Path
) -> None:
    (tmp_path / "slot-4").mkdir()
    (tmp_path / "slot-4" / "scores.json").write_text('{"a": 1}')
    with pytest.raises(TrialFailed, match="left no scores"):
        make(script(tmp_path, "true")).train(JOB, Watch())


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(
    make: Callable[..., CommandTrainer], tmp_path: Path
) -> None:
    trainer = make(script(tmp_path, "sleep 60 & echo $! ; wait"), timeout=0.5)
    begun = time.monotonic()
    with pytest.raises(TrialFailed, match=r"longer than 0\.5 s"):
        trainer.train(JOB, Watch())
    assert time.monotonic() - begun < 20
    child = int((tmp_path / "slot-4" / "log.txt").read_text())
    while not gone(child):
        assert time.monotonic() - begun < 20
        time.sleep(0.05)


def test_a_command_deaf_to_sigterm_is_killed(
    make: Callable[..., CommandTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_module, "GRACE", 0.3)
    trainer = make(script(tmp_path, "trap '' TERM; while :; do sleep 0.1; done"), timeout=0.5)
    with pytest.raises(TrialFailed, match="longer than"):
        trainer.train(JOB, Watch())


def test_a_stopped_worker_stops_its_command_and_keeps_its_folder(
    make: Callable[..., CommandTrainer], tmp_path: Path
) -> None:
    text = "trap 'echo saved > $1/state; exit 0' TERM; while :; do sleep 0.05; done"
    with pytest.raises(Interrupted):
        make(script(tmp_path, text)).train(JOB, Watch(stop=True))
    assert (tmp_path / "slot-4" / "trial.json").is_file()


@pytest.mark.parametrize(
    ("command", "message"),
    [("", "proxy.command is empty"), ("train {trail}", r"unknown placeholder \{trail\}. Known")],
)
def test_a_command_that_cannot_be_meant_is_refused(
    make: Callable[..., CommandTrainer], command: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(command)


def test_a_command_runs_in_one_process(tiny_corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="started in 4 processes"):
        CommandTrainer(tiny_corpus, ProxyRecipe(command="x"), directory=tmp_path, world=4)


def test_a_model_that_the_command_leaves_is_scored_by_our_evaluators(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    from climb_opt.proxy import model as models
    from climb_opt.recipes import ModelRecipe

    shape = ModelRecipe(hidden=16, layers=1, heads=2)
    network = models.build(shape, models.configure(shape, tiny_corpus, 16), seed=0)
    models.save(network, tiny_corpus, tmp_path / "ready")
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(command=script(tmp_path, f"cp -r {tmp_path}/ready $1/model")),
        evaluators=(Choice("heldout", {"max_tokens": 500}),),
        score=["sums/bpb"],
    )
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path / "run")
    study = optuna.create_study()
    study.enqueue_trial(objective.space.params(objective.space.prior))
    study.optimize(objective, n_trials=1)
    expected = objective._evaluate(network.eval())
    assert study.trials[0].value == pytest.approx(expected["sums/bpb"], rel=1e-6)
    assert not (tmp_path / "run" / "trial-0" / "model").exists()  # the disk is bounded
    weights = tmp_path / "ready" / "model.safetensors"
    for damaged in (weights.read_bytes()[:1000], b""):
        weights.write_bytes(damaged)
        study.enqueue_trial(objective.space.params(objective.space.prior))
        with pytest.raises(TrialFailed, match=r"the model in .* cannot be opened"):
            objective(study.ask())


def test_a_recipe_needs_evaluators_unless_a_command_brings_scores() -> None:
    data = {"corpus": "c", "proxy": {}, "evaluators": [], "score": ["a"]}
    with pytest.raises(UserError, match="must name at least one evaluator"):
        study_from(data)
    assert study_from({**data, "proxy": {"command": "train {trial}"}}).evaluators == ()


def test_a_score_that_the_command_did_not_give_fails_the_trial(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    command = script(tmp_path, "echo '{\"a\": 1}' > $1/scores.json")
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(command=command),
        evaluators=(),
        score=["b"],
    )
    objective = ProxyObjective(tiny_corpus, recipe, directory=tmp_path)
    study = optuna.create_study()
    study.enqueue_trial(objective.space.params(objective.space.prior))
    with pytest.raises(TrialFailed, match="gave a score 'b'; given: a"):
        objective(study.ask())
