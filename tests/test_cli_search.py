"""`climb-opt search`, status, retry, enqueue, pause, resume: what is typed and what is printed."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from climb_opt import recipes
from climb_opt import study as studies
from climb_opt.cli import main
from climb_opt.cli.search import _Stop
from climb_opt.cli.steering import describe, duration
from climb_opt.errors import Interrupted, UserError
from climb_opt.history import all_trials
from climb_opt.recipes import Choice, ModelRecipe, ProxyRecipe, StudyRecipe
from climb_opt.rounds import BEAT
from climb_opt.shards import Corpus
from climb_opt.slots import INTERRUPTED, SLOT, attempts_by_slot
from climb_opt.storages import open_storage
from climb_opt.study import FACTS, open_study

optuna.logging.set_verbosity(optuna.logging.ERROR)

TARGET = np.array([0.1, 0.2, 0.7])


class Formula:
    """Stands in for a `ProxyObjective`: the same seam, a formula for a proxy."""

    is_main = True

    def __init__(self, each: Callable[[optuna.Trial], Any] = lambda trial: None) -> None:
        self.each, self.closed = each, False

    def __call__(self, trial: optuna.Trial) -> float:
        weights = [trial.suggest_float(f"w/{name}", 0, 1) for name in ("web", "code", "math")]
        self.each(trial)
        return float(np.sum((np.array(weights) - TARGET) ** 2))

    def serve(self) -> None:
        raise AssertionError("rank 0 does not serve")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def home(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Formula]:
    """An empty folder with a recipe `mine.yaml`, and a stand-in for proxies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    # As without optuna-dashboard: its pictures take longer than all else here.
    monkeypatch.setattr("climb_opt.report.notebook._installed", lambda name: False)
    recipe = StudyRecipe(
        corpus=str(tiny_corpus.path),
        proxy=ProxyRecipe(
            model=ModelRecipe(hidden=16, layers=1, heads=2), tokens=40_960, sequence=16
        ),
        evaluators=(Choice("heldout", {"target": "sums", "max_tokens": 500}),),
        score=["sums/bpb"],
        rounds=(3, 2),
        sampler=Choice("climb", {"predictor": "loglinear", "pool_size": 200}),
        baselines=("prior",),
        max_attempts=2,
    )
    write(recipe)

    def use(each: Callable[[optuna.Trial], Any] = lambda trial: None) -> Formula:
        objective = Formula(each)
        monkeypatch.setattr(
            "climb_opt.study.working.make_objective", lambda study, **options: objective
        )
        return objective

    use()
    return use


def write(recipe: StudyRecipe, file: str = "mine.yaml") -> None:
    Path(file).write_text(yaml.safe_dump(json.loads(recipes.to_json(recipe))))


def the_study(name: str = "mine") -> optuna.Study:
    return open_study(study_name=name, storage=open_storage("runs/climb.journal"))


def fail_on(slot: Any) -> Callable[[optuna.Trial], None]:
    def each(trial: optuna.Trial) -> None:
        if trial.user_attrs.get(SLOT) == slot:
            raise RuntimeError("out of luck")

    return each


# --- search ------------------------------------------------------------------------------------


def test_a_search_prints_a_line_a_trial_and_its_result(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = home()
    assert main(["search", "mine.yaml"]) == 0
    out = capsys.readouterr().out.splitlines()
    lines = [line for line in out if line.startswith("trial")]
    assert len(lines) == 6 and objective.closed
    assert re.fullmatch(r"trial +0  baseline/prior +score \S+  best \S+  \d+\.\d s", lines[0]), (
        lines[0]
    )
    assert re.match(r"trial +5  round 2  slot 4 +score", lines[5])
    assert out[-1].startswith("mine: 6 of 6 slots done, best score ")
    assert Path("runs/climb.journal").is_file()


def test_the_same_command_goes_on_and_trains_nothing_twice(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["search", "mine.yaml"])
    capsys.readouterr()
    assert main(["search", "mine"]) == 0  # by the study's name, without its recipe
    out = capsys.readouterr().out
    assert "trial" not in out and "6 of 6 slots done" in out


def test_optuna_storage_is_honoured(
    home: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "elsewhere.journal")
    assert main(["search", "mine.yaml", "--study-name", "other"]) == 0
    assert optuna.get_all_study_names(open_storage("elsewhere.journal")) == ["other"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["search", "nothing"], "No recipe or study 'nothing'"),
        (["search", "missing.yaml"], "No recipe file 'missing.yaml'"),
        (["search"], "Name a recipe or a study"),
        (["search", "mine.yaml", "--set", "roundz=[1]"], "unknown key 'roundz'"),
        (["search", "mine.yaml", "--storage", "postgresql://u:pw@127.0.0.1:1/x"], "u:***@"),
        (["status", "mine"], "No journal"),
        (["retry", "mine"], "No study 'mine'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    home: Any, command: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and "u:pw" not in err


def test_a_recipe_that_cannot_train_leaves_its_name_free(
    home: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(study: optuna.Study, **options: Any) -> Any:
        raise UserError("proxy.tokens (0) is less than one step.")

    with monkeypatch.context() as patch:
        patch.setattr("climb_opt.study.working.make_objective", refuse)
        assert main(["search", "mine.yaml", "--set", "proxy.tokens=0"]) == 2
    assert main(["search", "mine.yaml"]) == 0
    assert "6 of 6 slots done" in capsys.readouterr().out
    with monkeypatch.context() as patch:  # a worker that only joins takes nothing away
        patch.setattr("climb_opt.study.working.make_objective", refuse)
        assert main(["search", "mine.yaml"]) == 2
    assert len(all_trials(the_study())) == 6


def test_another_recipe_under_the_same_name_is_refused_with_the_difference(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["search", "mine.yaml"])
    capsys.readouterr()
    assert main(["search", "mine.yaml", "--set", "seed=3"]) == 2
    assert "seed: 0 -> 3" in capsys.readouterr().err


def test_what_was_given_up_is_told_with_the_remedy(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    home(fail_on(1))
    assert main(["search", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert out.count("failed: RuntimeError: out of luck") == 2
    assert "Given up after repeated failures: 1; see `climb-opt status mine`" in out


def test_the_first_signal_stops_gently_and_the_second_at_once() -> None:
    stop = _Stop()
    assert not stop()
    stop.signalled(signal.SIGTERM, None)
    assert stop()
    stop.signalled(signal.SIGTERM, None)  # a launcher passes it on a second time at once
    stop._first = time.monotonic() - 5
    with pytest.raises(KeyboardInterrupt):
        stop.signalled(signal.SIGINT, None)


def test_a_signal_gives_the_slot_back_and_the_same_command_goes_on(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def each(trial: optuna.Trial) -> None:
        if trial.user_attrs[SLOT] == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            raise Interrupted("stopped at step 3 of 9")

    home(each)
    assert main(["search", "mine.yaml"]) == 130
    captured = capsys.readouterr()
    assert "given back" in captured.out and "run the same command again" in captured.err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    home()
    assert main(["search", "mine.yaml"]) == 0
    tried = attempts_by_slot(all_trials(the_study()))[1]
    assert [bool(t.user_attrs.get(INTERRUPTED)) for t in tried] == [True, False]
    assert tried[0].params == tried[1].params


def test_ranks_above_0_serve_and_print_nothing(
    home: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served = []
    other = home()
    other.is_main = False
    other.serve = lambda: served.append(True)
    monkeypatch.setenv("RANK", "1")
    waiting = threading.Thread(
        target=lambda: (time.sleep(0.7), open_study("mine.yaml", storage="runs/climb.journal"))
    )
    waiting.start()  # rank 0, a moment later
    assert main(["search", "mine.yaml"]) == 0
    waiting.join()
    assert served == [True] and capsys.readouterr().out == ""


def test_a_terminated_search_resumes_its_proxy_at_its_step(home: Any, tiny_corpus: Corpus) -> None:
    pytest.importorskip("torch")
    recipe = recipes.read_study("mine.yaml")
    long = replace(recipe.proxy, tokens=16 * 2500, batch_tokens=32)
    write(replace(recipe, proxy=long, rounds=(1,), baselines=()))
    command = [sys.executable, "-m", "climb_opt", "search", "mine.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(studies.__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: Path("runs/climb.journal").is_file() and began(), process)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "given back" in out
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = attempts_by_slot(all_trials(the_study()))[0]
    assert first.user_attrs[INTERRUPTED] and first.params == second.params
    assert second.user_attrs[FACTS]["resumed_at"] > 0


def began() -> bool:
    try:
        return any(BEAT in t.user_attrs for t in all_trials(the_study()))
    except Exception:  # it is being created at this moment
        return False


def wait_for(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not true():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)


# --- steering ----------------------------------------------------------------------------------


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


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


ANY = Anything()


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
    assert capsys.readouterr().out == "In line: enqueued/half\nIn line: enqueued/-\n"
    assert main(["search", "mine"]) == 0
    first = all_trials(the_study())[0]
    assert first.params == {"w/web": 0.5, "w/code": 0.0, "w/math": 0.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: 0.5", "sum to 0.5, not to 1"),
        ("sea: 1", "Unknown domain 'sea'"),
        ("- web", "a mapping of domains to weights"),
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


def test_pause_and_resume(home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    open_study("mine.yaml", storage="runs/climb.journal")
    assert main(["pause", "mine"]) == 0
    assert main(["status", "mine"]) == 0
    assert "mine (paused)" in capsys.readouterr().out
    assert main(["resume", "mine"]) == 0
    assert main(["search", "mine"]) == 0
    assert "6 of 6 slots done" in capsys.readouterr().out


def test_a_clock_that_is_ahead_is_said_to_be(home: Any) -> None:
    study = open_study("mine.yaml", storage="runs/climb.journal")
    beat = {"count": 1, "at": time.time() + 600, "worker": "far:1"}
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, user_attrs={BEAT: beat, SLOT: 0}
        )
    )
    assert "its clock is 10.0 min ahead" in describe(studies.status(study))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s"), (119, "119 s"), (150, "2.5 min"), (9000, "2.5 h"), (400_000, "4.6 d")],
)
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
