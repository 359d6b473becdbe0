"""`climb-opt search`: what is typed and what is printed, and how it stops and goes on."""

from __future__ import annotations

import io
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

import optuna
import pytest

from climb_opt import cli, recipes
from climb_opt import study as studies
from climb_opt.attributes import BEAT, FACTS, INTERRUPTED, SLOT
from climb_opt.cli import ls, main
from climb_opt.cli.stopping import MEMBER, Stop
from climb_opt.errors import Interrupted, UserError
from climb_opt.plan import attempts_by_slot
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.study import open_study
from climb_opt.view import all_trials
from searching import fail_on, the_study, write

optuna.logging.set_verbosity(optuna.logging.ERROR)


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


def test_a_pruned_trial_has_no_score_in_its_line(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def give_up(trial: optuna.Trial) -> None:
        if trial.user_attrs[SLOT] == 4:
            trial.report(3.25, step=1)  # which Optuna makes the trial's value
            raise optuna.TrialPruned

    home(give_up)
    assert main(["search", "mine.yaml"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if "slot 4" in x)
    assert re.search(r"slot 4 +pruned  \d+\.\d s$", line)


def test_a_baseline_that_needs_options_is_refused_and_keeps_no_name(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "mine.yaml", "--set", "baselines=[given]"]) == 2
    err = capsys.readouterr().err
    assert "'given' needs the key 'mixture'" in err and "climb-opt enqueue" in err
    assert main(["search", "mine.yaml"]) == 0


def test_a_new_study_that_breaks_before_its_first_trial_keeps_no_name(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*args: object, **kwargs: object) -> None:
        raise TypeError("a bug of a plug-in")

    with monkeypatch.context() as patch:
        patch.setattr(studies, "work", breaks)
        with pytest.raises(TypeError):
            main(["search", "mine.yaml"])
    assert main(["search", "mine.yaml", "--set", "seed=5"]) == 0


def test_the_same_command_goes_on_and_trains_nothing_twice(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["search", "mine.yaml"])
    capsys.readouterr()
    assert main(["search", "mine"]) == 0  # by the study's name, without its recipe
    out = capsys.readouterr().out
    assert "trial" not in out and "6 of 6 slots done" in out


def test_a_search_whose_output_nobody_reads_is_not_done_and_goes_on(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            if "round 1" in text:
                raise BrokenPipeError
            return super().write(text)

    home()
    with monkeypatch.context() as piped:
        piped.setattr("sys.stdout", Closed())
        assert main(["search", "mine.yaml"]) == 141
    assert not studies.status(the_study()).done
    assert main(["search", "mine.yaml"]) == 0
    assert studies.status(the_study()).done


def test_optuna_storage_is_honoured(
    home: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "elsewhere.journal")
    assert main(["search", "mine.yaml", "--study-name", "other"]) == 0
    assert optuna.get_all_study_names(open_storage("elsewhere.journal")) == ["other"]


def test_a_study_whose_name_is_no_utf8_is_kept_by_its_escaped_name(home: Any) -> None:
    home()
    odd = os.fsdecode(b"z\xe9")
    assert main(["search", "mine.yaml", "--study-name", odd]) == 0
    assert main(["status", odd]) == 0
    assert main(["confirm", odd, "--as", f"{odd}2", "--seeds", "1"]) == 0
    assert optuna.get_all_study_names(open_storage("runs/climb.journal")) == [r"z\xe9", r"z\xe92"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["search", "nothing"], "No recipe or study 'nothing'"),
        (["search", "demoo"], "Did you mean 'demo'?"),
        (["search", "missing.yaml"], "No recipe file 'missing.yaml'"),
        (["search"], "Name a recipe or a study"),
        (["search", "mine.yaml", "--set", "roundz=[1]"], "unknown key 'roundz'"),
        (["search", "mine.yaml", "--storage", "postgresql://u:pw@no-host.invalid/x"], "u:***@"),
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
    home: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        Path("runs/mine").mkdir(exist_ok=True)
        raise UserError("proxy.tokens (8) is less than one step.")

    with monkeypatch.context() as patch:
        patch.setattr("climb_opt.study.working.make_objective", refuse)
        assert main(["search", "mine.yaml", "--set", "proxy.tokens=8"]) == 2
        assert not any("study mine" in said for said in caplog.messages), "it is not there"
        patch.setattr("climb_opt.cli.crew.lead", refuse)  # of workers that are started
        assert main(["search", "mine.yaml", "--workers", "2"]) == 2
        assert not any("study mine" in said for said in caplog.messages)
    assert not Path("runs/mine").exists()
    assert main(["search", "mine.yaml"]) == 0
    assert "Created study mine in runs/climb.journal." in caplog.messages
    assert "6 of 6 slots done" in capsys.readouterr().out
    with monkeypatch.context() as patch:  # a worker that only joins takes nothing away
        patch.setattr("climb_opt.study.working.make_objective", refuse)
        assert main(["search", "mine.yaml"]) == 2
    assert len(all_trials(the_study())) == 6


def test_the_first_worker_that_can_train_has_the_new_study_told(
    home: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lead(team: Any, *, follow: Any, **_: Any) -> int:
        with monkeypatch.context() as worker:
            worker.setenv(MEMBER, "1")
            worker.setattr("climb_opt.cli.stopping._stop_with_leader", lambda: None)
            assert main(team.args.words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert not any("Created" in said for said in caplog.messages)
        for line in lines:
            follow.say(line, sys.stdout)
        assert caplog.messages.count("Created study mine in runs/climb.journal.") == 1
        return 0

    home()
    monkeypatch.setattr("climb_opt.cli.crew.lead", lead)
    assert main(["search", "mine.yaml", "--workers", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["trial"] * 6 + ["mine:"]
    assert sum("Created" in said for said in caplog.messages) == 1


def test_an_older_study_is_looked_for_before_the_search_is_created(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["search", "mine.yaml"])
    capsys.readouterr()
    assert main(["search", "mine.yaml", "--study-name", "new", "--from", "min"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.endswith("Did you mean 'mine'? Studies: mine.\n")
    for more in ([], ["--from-storage", "runs/climb.journal"]):
        assert main(["search", "mine.yaml", "--from", "mine", *more]) == 2
        assert "--from 'mine' is the search itself" in capsys.readouterr().err


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


def test_a_command_none_of_whose_trials_finished_says_why_and_is_no_success(
    home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(trial: optuna.Trial) -> None:
        raise RuntimeError("out of luck")

    home(never)
    noise = ["noise", "mine", "--repeats", "2", "--corner", "0", "--spread", "0"]
    search = ["search", "mine.yaml", "--set", "rounds=[2]", "--set", "baselines=[]"]
    for command, name in ((search, "mine"), (noise, "mine-noise")):
        for _ in ("at work", "when there is nothing left to try"):
            assert main(command) == 2
            line = capsys.readouterr().err.splitlines()[-1]
            assert line.startswith(f"climb-opt: {name}: no trial finished: ")
            assert "RuntimeError: out of luck" in line and f"climb-opt retry {name}" in line
    home()
    assert main(["retry", "mine"]) == 0
    assert main(search) == 0
    assert "no trial finished" not in capsys.readouterr().err


def test_the_first_signal_stops_gently_and_the_second_at_once() -> None:
    stop = Stop()
    assert not stop()
    stop.signalled(signal.SIGTERM, None)
    assert stop()
    stop.signalled(signal.SIGTERM, None)  # a launcher passes it on a second time at once
    stop._first = time.monotonic() - 5
    with pytest.raises(KeyboardInterrupt):
        stop.signalled(signal.SIGINT, None)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["reading the command", "at work"])
def test_a_signal_ends_any_command_in_one_line(
    sent: signal.Signals, when: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def stopped(*_: Any) -> None:
        os.kill(os.getpid(), sent)

    if when == "at work":
        monkeypatch.setitem(ls.TABLES, "studies", stopped)
    else:
        monkeypatch.setattr(cli, "parser", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        assert main(["ls", "studies"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr().err.strip()
    assert said == "Stopped; run the same command again to continue."


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


def test_two_workers_of_one_command_do_every_slot_once(home: Any) -> None:
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "climb_opt", "search", "mine.yaml", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(studies.__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.startswith("trial ") for line in lines] == [True] * 6 + [False]
    assert lines[-1].startswith("mine: 6 of 6 slots done")
    assert done.stderr.count("Disk: ") == 1  # said by one of them
    trials = all_trials(the_study())
    assert all(len(attempts) == 1 for attempts in attempts_by_slot(trials).values())
    assert len({t.user_attrs[BEAT]["worker"] for t in trials}) == 2


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
