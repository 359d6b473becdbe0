"""One mixbench comparison done by two processes that have a storage in common alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from climb_opt.attributes import RESULT
from climb_opt.storages import open_storage

RECIPE = """
objective: {name: mixbench, domains: 4, at: [4], examine: 12}
grid: {problem: [interactions, misleading, phases], noise: [0.1]}
budget: {trials: 8}
arms:
  proportional:
  random:
  marin:
  tpe:
  simplex-gp:
  slow: {method: "slow_file:slow", rounds: [1]}
reference: random
seeds: 1
"""
# Long enough that a worker can be killed while it is at work.
SLOW = """
import time
import numpy as np

def slow(problem, data, seed):
    time.sleep(1.0)
    return data.weights[np.argmin(data.scores)]
"""
DEADLINE = 240.0
# A run that takes as long as a test likes; each call leaves its process.
LONG = """
import os, time
import numpy as np

def long(problem, data, seed):
    with open(f"calls-{seed}", "a") as calls:
        calls.write(f"{os.getpid()}\\n")
    while not os.path.exists(f"quick-{seed}"):
        time.sleep(0.05)
    return data.weights[np.argmin(data.scores)]
"""
ON_A_MACHINE_OF_ITS_OWN = """
import os, sys
from climb_opt.ablation.run import sharing
from climb_opt.cli import main
from climb_opt.workers import Pace, beats
beats.machine = lambda: f"machine of {os.getpid()}/alone"
sharing.PACE = Pace(beat=0.05, grace=0.6, poll=0.05)
sys.exit(main(sys.argv[1:]))
"""


def worker(
    folder: Path, output: str, storage: str = "", program: Sequence[str] = ("-m", "climb_opt")
) -> subprocess.Popen[bytes]:
    command = [sys.executable, *program, "ablate", "shared.yaml", "--no-figures"]
    command += ["--output", output, *(["--storage", storage] if storage else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    with (folder / f"{output}.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def calls(seed: int) -> list[int]:
    return [int(line) for line in Path(f"calls-{seed}").read_text(encoding="utf-8").split()]


def wait_for(path: Path, pattern: str, process: subprocess.Popen[bytes]) -> None:
    started = time.monotonic()
    while not list(path.glob(pattern)):
        assert process.poll() is None, "it ended before it had begun"
        assert time.monotonic() - started < DEADLINE
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite:///shared.db", "shared.journal"])
def test_workers_that_share_a_storage_write_what_one_process_does(
    tmp_path: Path, storage: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shared.yaml").write_text(RECIPE, encoding="utf-8")
    Path("slow_file.py").write_text(SLOW, encoding="utf-8")
    alone = worker(tmp_path, "alone")
    assert alone.wait(DEADLINE) == 0, Path("alone.log").read_text(encoding="utf-8")
    first = worker(tmp_path, "first", storage)
    wait_for(tmp_path / "first" / "runs", "*.json", first)
    second = worker(tmp_path, "second", storage)
    wait_for(tmp_path / "second", "runs", second)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    again = worker(tmp_path, "first", storage)
    for name, process in (("second", second), ("first", again)):
        assert process.wait(DEADLINE) == 0, Path(f"{name}.log").read_text(encoding="utf-8")
    rows = [Path(name, "mixbench.csv").read_bytes() for name in ("alone", "first", "second")]
    assert rows[0] == rows[1] == rows[2] and rows[0].count(b"\n") > 30
    # Every run was kept in the storage, once, for whoever asks for it.
    opened = open_storage(storage)
    kept = [s for s in optuna.get_all_study_summaries(opened) if RESULT in s.user_attrs]
    assert len(kept) == 3 * 5 and len({s.study_name for s in kept}) == len(kept)
    done = json.loads(Path("alone/ablation.json").read_text(encoding="utf-8"))["runs"]
    assert len(done) == 3 * 6


def test_a_slow_run_is_waited_for_and_a_killed_one_taken_over(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = """
objective: {name: mixbench, problem: interactions, domains: 4}
budget: {trials: 8}
arms: {long: {method: "long_file:long", rounds: [1]}}
reference: null
seeds: 2
"""
    Path("shared.yaml").write_text(recipe, encoding="utf-8")
    Path("long_file.py").write_text(LONG, encoding="utf-8")
    program = ("-c", ON_A_MACHINE_OF_ITS_OWN)
    first = worker(tmp_path, "first", "all.journal", program)
    wait_for(tmp_path, "calls-0", first)
    other = worker(tmp_path, "other", "all.journal", program)
    wait_for(tmp_path, "calls-1", other)  # the first run is taken, so it does the second
    Path("quick-0").touch()
    wait_for(tmp_path / "first" / "runs", "*seed0*.json", first)
    time.sleep(1.8)  # three silences long the first waits for the other, which lives
    assert calls(1) == [other.pid]
    other.send_signal(signal.SIGKILL)
    other.wait()
    Path("quick-1").touch()
    assert first.wait(DEADLINE) == 0, Path("first.log").read_text(encoding="utf-8")
    assert (calls(0), calls(1)) == ([first.pid], [other.pid, first.pid])
    said = Path("first.log").read_text(encoding="utf-8")
    assert "Run long/seed1 is done again here: no sign of its worker" in said
    rows = Path("first", "mixbench.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3
