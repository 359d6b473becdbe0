"""Several processes train as one: same data, same losses; what one rank suffers, all learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.objective import ProxyObjective
from climb_opt.proxy import group as group_module
from climb_opt.proxy.group import ProxyGroup, check_launch
from climb_opt.proxy.job import Job
from climb_opt.shards import Corpus

WORKER = Path(__file__).parent / "programs" / "worker.py"
sys.path.insert(0, str(WORKER.parent))
from worker import MIXTURE, STEPS, recipe_of  # noqa: E402

ROWS = [
    {"query": "two plus", "choices": ["two", "a cat", "the mat"], "label": 0},
    {"query": "the cat sat", "choices": ["return x", "on a mat"], "label": 1},
    {"query": "def f(x):", "choices": ["return x", "two"], "label": 0},
]


def launch(arguments: list[str], *command: str, timeout: float = 240) -> Any:
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", *command, str(WORKER), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def read(folder: Path, done: Any) -> Any:
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def one_rank(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("one-rank")
    rows = write_rows(folder)
    objective = ProxyObjective(tiny_corpus, recipe_of(tiny_corpus.path, rows), directory=folder)
    trainer = objective.trainer
    ids: list[int] = []
    original = trainer.sequences.read  # type: ignore[attr-defined]

    def recording(wanted: Any) -> Any:
        ids.extend(wanted.tolist())
        return original(wanted)

    trainer.sequences.read = recording  # type: ignore[attr-defined]
    _, components, facts = objective._work(Job("one", MIXTURE, seed=0))
    return {"components": components, "facts": facts, "ids": ids}


def write_rows(folder: Path) -> Path:
    path = folder / "plus.validation.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


def test_two_ranks_train_as_one_and_survive_what_they_share(
    tiny_corpus: Corpus, tmp_path: Path, one_rank: dict[str, Any]
) -> None:
    write_rows(tmp_path)
    done = launch(["healthy", str(tiny_corpus.path), str(tmp_path)], *TORCHRUN)
    plain, poisoned, stopped, resumed = read(tmp_path, done)

    # The same losses and scores as on one rank, held-out loss and lm-eval alike.
    assert plain["facts"]["devices"] == 2
    assert plain["facts"]["train_loss"] == pytest.approx(one_rank["facts"]["train_loss"], rel=1e-3)
    assert plain["components"] == pytest.approx(one_rank["components"], rel=1e-3)

    # The same sequences in the same order: a step's ids are rank 0's and then rank 1's.
    # Both runs begin with the rehearsal, which reads the first step once more.
    whole = np.array(one_rank["ids"]).reshape(1 + STEPS, 15)
    ranks = [np.array(ids).reshape(1 + STEPS, -1) for ids in plain["facts"]["ids"]]
    assert [ids.shape[1] for ids in ranks] == [7, 8]
    assert np.array_equal(np.concatenate(ranks, axis=1), whole)

    # A NaN on the last rank fails the trial on all, and the group goes on.
    assert poisoned["kind"] == "Diverged" and "not finite at step 1" in poisoned["error"]

    # A stop is agreed on; the retry resumes and ends where the first trial ended.
    assert stopped["kind"] == "Interrupted"
    assert resumed["value"] == plain["value"]
    assert resumed["facts"]["train_loss"] == plain["facts"]["train_loss"]


def test_two_ranks_move_weights_as_one_does_and_resume_to_the_bit(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    found = {}
    for name, ranks in (("one", "1"), ("two", "2")):
        (tmp_path / name).mkdir()
        arguments = ["reweighted", str(tiny_corpus.path), str(tmp_path / name)]
        done = launch(arguments, *TORCHRUN[:-1], ranks)
        found[name] = read(tmp_path / name, done)
    for one, two in zip(found["one"], found["two"], strict=True):
        assert len(two["bits"]) == 2 and len(set(two["bits"])) == 1, "ranks agree"
        assert np.allclose(one["path"]["weights"], two["path"]["weights"], rtol=1e-3)
        assert one["epochs"] == two["epochs"] and one["flops"] == two["flops"]
    for results in found.values():
        for whole, resumed in (results[:2], results[2:]):
            assert resumed["bits"] == whole["bits"] and resumed["path"] == whole["path"]
    assert any(r["resumed_at"] for r in found["two"][1::2])


def test_a_killed_rank_ends_the_group_and_the_restarted_one_resumes(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    arguments = ["killed", str(tiny_corpus.path), str(tmp_path)]
    done = launch(arguments, *TORCHRUN, "--max-restarts", "1")
    result = read(tmp_path, done)
    assert (tmp_path / "was-killed").exists() and result["restarts"] == 1
    assert result["facts"]["resumed_at"] in (4, 8)
    assert result["facts"]["steps"] == 12
    assert not (tmp_path / "slot-0").exists()


def test_accelerate_that_starts_one_process_instead_of_two_is_caught(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    command = ("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
    arguments = ["killed", str(tiny_corpus.path), str(tmp_path)]
    done = launch(arguments, *command, "--mixed_precision", "no", "--dynamo_backend", "no")
    assert done.returncode != 0
    assert "was asked for several processes but started only one" in done.stderr
    assert "torchrun --standalone --nproc_per_node" in done.stderr


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(group_module.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(UserError, match=r"4 processes were asked for.*has 2 GPUs"):
        check_launch()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check_launch()  # on CPUs there may be as many as wanted


def test_processes_that_cannot_meet_are_told_how_to_start() -> None:
    command = [sys.executable, "-c", "from climb_opt.proxy.group import ProxyGroup; ProxyGroup()"]
    environment = {k: v for k, v in os.environ.items() if k != "MASTER_ADDR"}
    done = subprocess.run(
        command, env={**environment, "WORLD_SIZE": "2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "WORLD_SIZE says 2 processes" in done.stderr and "torchrun" in done.stderr


def test_a_group_of_one_needs_no_launcher() -> None:
    group = ProxyGroup("fp32")
    assert (group.rank, group.world, group.is_main) == (0, 1, True)
    assert group.share("x") == "x" and group.gather("x") == ["x"]
    assert group.run(lambda job: job * 2, 21) == 42
    group.close()


@pytest.mark.parametrize("error", [TrialFailed("lost"), Interrupted("stopped"), KeyError("bug")])
def test_errors_of_a_single_process_arrive_as_they_are(error: Exception) -> None:
    def work(job: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        ProxyGroup("fp32").run(work, None)
