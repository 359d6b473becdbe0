"""`--workers`: what is started, passed on, started again and stopped; workers are a stand-in."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import optuna
import pytest

from climb_opt import progress
from climb_opt.cli import ablate, crew, machine, main, member
from climb_opt.cli.stopping import MEMBER
from climb_opt.errors import Interrupted, UserError
from climb_opt.storages import mysql

WORKER = """
import os, signal, sys, threading, time
number, folder = int(os.environ["CLIMB_OPT_MEMBER"]), sys.argv[1]
born = len([f for f in os.listdir(folder) if f.startswith(f"born-{number}-")])
open(f"{folder}/born-{number}-{born}", "w").write(f"{os.getpid()}")
def trial(n): print(f"trial {n}", flush=True)
def wrong(text):
    print(f"climb-opt: {text}", file=sys.stderr, flush=True)
    sys.exit(2)
def wait(status=130):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(status))
    open(f"{folder}/ready-{number}", "w").close()
    time.sleep(60)
"""


class Follower:
    def __init__(self) -> None:
        self.lines: list[tuple[str, bool]] = []
        self.moved = 0

    def say(self, text: str, file: TextIO) -> None:
        self.lines.append((text, file is sys.stderr))

    def move(self, line: str) -> None:
        assert line.startswith(crew.ENDED)
        self.moved += 1


@pytest.fixture
def lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(crew, "LOOK", 0.02)
    monkeypatch.delenv("RANK", raising=False)

    def start(does: str, count: int = 2, **options: Any) -> tuple[int, Follower]:
        script = tmp_path / "worker.py"
        script.write_text(WORKER + does, encoding="utf-8")
        monkeypatch.setattr(member, "PROGRAM", (str(script),))
        follower = options.pop("follow", Follower())
        args = argparse.Namespace(words=[str(tmp_path)], workers=options.pop("workers", str(count)))
        stop = options.pop("stop", lambda: False)
        team = crew.Crew(args, count, options.pop("most", 9))
        return crew.lead(team, stop=stop, follow=follower), follower

    return start


def born(folder: Path, number: int) -> int:
    return len(list(folder.glob(f"born-{number}-*")))


def running(folder: Path) -> list[int]:
    pids = [int(file.read_text() or 0) for file in folder.glob("born-*")]
    return [pid for pid in pids if pid and Path(f"/proc/{pid}").exists()]


def test_what_workers_print_is_passed_on_and_trials_are_counted(lead: Any) -> None:
    status, follower = lead("trial(number); print('a warning', file=sys.stderr)")
    assert status == 0 and follower.moved == 2
    assert sorted(follower.lines) == [
        ("a warning", True), ("a warning", True), ("trial 1", False), ("trial 2", False),
    ]  # fmt: skip


def test_a_comparison_counts_the_runs_and_trials_of_its_workers(
    lead: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    does = "trial(1); trial(2); print('run a', file=sys.stderr); print('a warning')"
    with progress.progress(5, "mine", "run", initial=1) as bar:
        status, _ = lead(does, follow=ablate._Following(bar))
    out, err = capsys.readouterr()
    assert status == 0 and out.splitlines() == ["a warning"] * 2
    said = err.splitlines()
    assert said[-1].startswith("mine: 3 of 5 runs") and said[-1].endswith("4 trials here")
    assert all(line.startswith("mine: ") for line in said)


def test_a_worker_of_a_comparison_tells_its_leader_of_runs_and_trials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MEMBER, "2")
    done = optuna.trial.create_trial(value=0.25)
    with progress.progress(5, "mine", "run", initial=1, show=False) as bar:
        ablate._Following(bar).count(done)
    assert capsys.readouterr().err == f"{crew.TRIAL}{done.number}: 0.2500\n"


def test_cores_are_shared_out_unless_somebody_has_said_otherwise(
    lead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "cores", lambda: 7)
    monkeypatch.setattr(crew, "gpus", lambda: [])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU")
    show = f"print(*map(os.environ.get, {names}))"
    assert lead(show, 3)[1].lines == [("2 None true", False)] * 3, "not all on a Mac's one GPU"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    assert lead(show, 3)[1].lines == [("5 None false", False)] * 3


@pytest.mark.parametrize("amd", [False, True])
def test_gpus_are_dealt_in_turn(lead: Any, monkeypatch: pytest.MonkeyPatch, amd: bool) -> None:
    monkeypatch.setattr(crew, "gpus", lambda: ["2", "GPU-5"])
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    if amd:
        monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,GPU-5")
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ACCELERATE_USE_CPU")
    _, follower = lead(f"print(*map(os.environ.get, {names}))", 3)
    dealt = [f"{name} {name if amd else None} None" for name in ("2", "2", "GPU-5")]
    assert sorted(line for line, _ in follower.lines) == dealt


def test_auto_starts_no_more_workers_than_there_is_to_do(lead: Any, tmp_path: Path) -> None:
    lead("", 5, workers="auto", most=2)
    assert [born(tmp_path, n) for n in (1, 2, 3)] == [1, 1, 0]


def test_a_worker_that_dies_is_said_and_started_again(
    lead: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status, _ = lead("if number == 2 and born == 0: os.kill(os.getpid(), signal.SIGKILL)")
    assert status == 0
    assert [born(tmp_path, n) for n in (1, 2)] == [1, 2]
    assert "Worker 2 (process" in caplog.text and "was ended by SIGKILL" in caplog.text


def test_a_worker_that_dies_again_and_again_is_not_started_for_ever(
    lead: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status, _ = lead("sys.exit(7)", 1)
    assert status == 7 and born(tmp_path, 1) == 1 + crew.RESTARTS
    assert "not started another time" in caplog.text


def test_a_trial_that_ends_makes_good_for_a_death(lead: Any, tmp_path: Path) -> None:
    deaths = 2 * crew.RESTARTS
    status, _ = lead(f"trial(born)\nif born < {deaths}: os.abort()", 1)
    assert status == 0 and born(tmp_path, 1) == deaths + 1


def test_a_mistake_that_all_share_is_one_line(lead: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no such corpus$"):
        lead("wrong('no such corpus')", 3)
    assert [born(tmp_path, n) for n in (1, 2, 3)] == [1, 1, 1]


def test_a_worker_that_is_alone_at_fault_leaves_the_others_at_work(
    lead: Any, caplog: pytest.LogCaptureFixture
) -> None:
    status, follower = lead("wrong('the disk is full') if number == 1 else trial(1)")
    assert status == 0 and follower.lines == [("trial 1", False)]
    assert "A worker stopped: the disk is full" in caplog.text


def test_a_stop_reaches_all_and_nobody_is_left(lead: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        lead("wait()", stop=lambda: len(list(tmp_path.glob("ready-*"))) == 2)
    assert running(tmp_path) == []
    assert [born(tmp_path, n) for n in (1, 2)] == [1, 1]


def test_a_second_signal_ends_workers_that_do_not_listen(
    lead: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "SECOND_SIGNAL", 0.0)
    monkeypatch.setattr(crew, "LAST_WORD", 0.2)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); open(f'{folder}/ready-{number}', 'w')"

    def stop() -> bool:
        if len(list(tmp_path.glob("ready-*"))) == 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        lead(f"{deaf}\ntime.sleep(60)", stop=stop)
    assert running(tmp_path) == []


def test_a_worker_that_somebody_stops_is_not_started_again(
    lead: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def end() -> None:
        while not (tmp_path / "ready-2").exists():
            time.sleep(0.01)
        os.kill(int((tmp_path / "born-2-0").read_text()), signal.SIGTERM)

    other = threading.Thread(target=end)
    other.start()
    status, _ = lead("wait() if number == 2 else time.sleep(0.3)")
    other.join()
    assert status == 0 and born(tmp_path, 2) == 1
    assert "Worker 2 was told to stop" in caplog.text


def test_workers_end_with_their_leader() -> None:
    reading, writing = os.pipe()
    code = (
        "import time\nfrom climb_opt.cli.stopping import stop_flag\n"
        "with stop_flag() as stop:\n"
        "    print('ready', flush=True)\n"
        "    while not stop(): time.sleep(0.01)\n"
    )
    environment = {**os.environ, MEMBER: "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=reading, stdout=subprocess.PIPE, env=environment
    ) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == b"ready\n"
        os.close(reading)
        assert worker.poll() is None
        os.close(writing)  # as when the leader is killed
        assert worker.wait(timeout=30) == 0


# --- the option ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["--workers", "0"], {}, "a number from 1 on, or auto, but is '0'"),
        (["--workers", "two"], {}, "but is 'two'"),
        (["--workers", "-1"], {}, "but is '-1'"),
        (["--workers", "2", "--storage", "sqlite:///x.db"], {}, "SQLite is for one process"),
        (["--workers", "2"], {"OPTUNA_STORAGE": "sqlite:///x.db"}, "SQLite is for one process"),
        (["--workers", "2"], {"RANK": "0", "WORLD_SIZE": "2"}, "accelerate launch"),
        (["--workers", "auto"], {"LOCAL_RANK": "0"}, "torchrun"),
    ],
)
@pytest.mark.parametrize("command", ["search", "confirm"])
def test_what_cannot_be_is_one_line_before_anything_is_made(
    command: str,
    words: list[str],
    variables: dict[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main([command, "demo", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_one_worker_is_this_process() -> None:
    for given in (None, "1"):
        assert crew.wanted(argparse.Namespace(workers=given), "sqlite:///x.db") == 1


# --- the machine ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "given", "found"),
    [
        ("darwin", {}, ("1", "TRUE")),
        ("darwin", {"OMP_NUM_THREADS": "4", "KMP_DUPLICATE_LIB_OK": "FALSE"}, ("4", "FALSE")),
        ("linux", {}, (None, None)),
    ],
)
def test_a_mac_is_told_to_let_several_openmp_be(
    monkeypatch: pytest.MonkeyPatch, platform: str, given: dict[str, str], found: tuple[str, str]
) -> None:
    names = ("OMP_NUM_THREADS", "KMP_DUPLICATE_LIB_OK")
    for name in names:
        monkeypatch.setenv(name, "")  # so that what the command sets is taken back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine.sys, "platform", platform)
    assert main(["ls", "studies"]) == 0
    assert tuple(os.environ.get(name) for name in names) == found


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "250000 100000"}, 3),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "6400000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_containers_share_of_the_cores_is_heeded(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_allowed", lambda: 8)
    assert machine.cores() == cores


@pytest.mark.parametrize(
    ("hip", "variables", "given"),
    [
        (None, {}, ["0", "1"]),
        (None, {"CUDA_VISIBLE_DEVICES": "4, 5"}, ["4", "5"]),
        (None, {"CUDA_VISIBLE_DEVICES": "4,5", "HIP_VISIBLE_DEVICES": "6"}, ["4", "5"]),
        ("7.1", {"CUDA_VISIBLE_DEVICES": "4,5", "HIP_VISIBLE_DEVICES": "6,7"}, ["6", "7"]),
        ("7.1", {"CUDA_VISIBLE_DEVICES": "4,5"}, ["4", "5"]),
        (None, {"ACCELERATE_USE_CPU": "true"}, []),
    ],
)
def test_the_gpus_that_this_process_may_use_are_dealt_out(
    hip: str | None, variables: dict[str, str], given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    for name in (*machine.VISIBLE, machine.ON_CPU):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "other")
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert machine.gpus() == given


def test_loggers_of_later_workers_leave_news_to_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, level in (("1", logging.INFO), ("2", logging.WARNING)):
        monkeypatch.setenv(MEMBER, number)
        main(["ls", "proxies"])
        assert logging.getLogger("climb_opt").level == level


@pytest.mark.parametrize(
    ("variables", "said"), [({}, 1), ({MEMBER: "1"}, 0), ({MEMBER: "2"}, 0), ({"RANK": "1"}, 0)]
)
def test_what_a_database_refuses_is_said_by_the_leader_alone(
    variables: dict[str, str],
    said: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    main(["ls", "proxies"])
    mysql._say_refused.__wrapped__("mysql://db/optuna", "ALTER command denied")
    assert caplog.text.count("GRANT ALTER") == said


def test_the_leader_of_a_comparison_opens_its_storage_before_any_worker_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crew, "lead", lambda *args, **more: pytest.fail("nobody is started"))
    words = ["--workers", "2", "--storage", "nosuch://db/optuna", "--output", str(tmp_path)]
    assert main(["ablate", "samplers", *words]) == 2
    assert "nosuch" in capsys.readouterr().err.splitlines()[-1]
