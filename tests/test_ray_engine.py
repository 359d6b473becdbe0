"""A build on a cluster: two real Ray nodes on this machine give the bytes of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from climb_opt.cli import main
from climb_opt.corpus.build import build
from climb_opt.corpus.options import make_plan
from climb_opt.corpus.run.jobs import How, Job
from climb_opt.corpus.run.local import open_engine
from climb_opt.errors import UserError
from corpora import files_of, small_options, topic_documents, write_jsonl

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'climb-opt[ray]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore:::ray", "ignore::ResourceWarning"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, named by RAY_ADDRESS."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # on a busy machine Ray's own 15 starves them
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # of the nodes: this file's tasks
        head = {"num_cpus": 1, "include_dashboard": False}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        nodes.shutdown()


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    documents = topic_documents(40, length=60)
    # One spells the end-of-text token, which must not end it on another machine either.
    documents[7]["text"] += " <|endoftext|> and on it goes"
    parts = (documents[:70], documents[70:90], documents[90:] + documents[:5])
    return [write_jsonl(tmp_path / "in" / f"{i}.jsonl", d) for i, d in enumerate(parts)]


@dataclass(frozen=True)
class Number:
    """A unit without documents."""

    name: str
    documents: int = 1
    bytes: int = 1


class Bar:
    """Counts what a progress bar is told."""

    total = 0

    def update(self, amount: int) -> None:
        self.total += amount


def run(task: Callable[..., Any], count: int, paths: list[str]) -> int:
    bar = Bar()
    with open_engine("ray", None, paths) as engine:
        jobs = [Job(Number(str(i)), bar, 1) for i in range(count)]
        engine.run(task, jobs, How(processes=True))
    return bar.total


def test_two_nodes_give_the_bytes_of_one_process(
    cluster: Any, inputs: list[Path], tmp_path: Path
) -> None:
    score = "length=corpora:lengths"  # a user's function, imported on the nodes
    options = small_options(
        *inputs, name="t", targets=("sky=topic:stars",), label_field="topic",
        scores=(score,), prune=("length>=1",),
    )  # fmt: skip
    plan = make_plan(options)
    alone = build(plan, tmp_path / "alone", progress=False)
    shared = build(plan, tmp_path / "shared", engine="ray", workers=None, progress=False)
    assert alone is not None and shared is not None
    assert files_of(shared.path) == files_of(alone.path)
    for stage in (tmp_path / "alone" / "work").iterdir():
        if stage.is_dir():
            assert files_of(tmp_path / "shared" / "work" / stage.name) == files_of(stage)
    assert not ray.is_initialized()


def test_every_node_takes_tasks(cluster: Any, tmp_path: Path) -> None:
    def task(unit: Number, advance: Any) -> None:
        time.sleep(0.5)
        node = ray.get_runtime_context().get_node_id()
        (tmp_path / f"{unit.name}-{node}").touch()

    assert run(task, 8, [str(tmp_path)]) == 8
    done = [f.name.split("-") for f in tmp_path.iterdir()]
    assert sorted(unit for unit, _ in done) == sorted(map(str, range(8)))
    assert len({node for _, node in done}) == 2


def test_a_relative_path_means_the_same_on_every_node(
    cluster: Any, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = ["in/*.jsonl", "--output", "out", "--domains", "4", "--clusters", "12"]
    status = main(["corpus", "build", *given, "--vocab-size", "400", "--engine", "ray"])
    assert status == 0
    assert "4 domains" in capsys.readouterr().out


def test_what_a_task_raises_is_raised_here(
    cluster: Any, inputs: list[Path], tmp_path: Path
) -> None:
    options = small_options(*inputs, scores=("words=corpora:not_numbers",), prune=("words>=1",))
    with pytest.raises(UserError, match="must return a number for each text") as caught:
        build(make_plan(options), tmp_path / "out", engine="ray", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_node_that_does_not_see_the_files_is_named(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Ray node .* does not see '/nowhere/in.jsonl'"):
        run(print, 1, [str(tmp_path), "/nowhere/in.jsonl"])


@pytest.mark.slow
def test_a_lost_node_s_tasks_are_done_elsewhere(cluster: Any, tmp_path: Path) -> None:
    added = cluster.add_node(num_cpus=1)

    def task(unit: Number, advance: Any) -> None:
        node = ray.get_runtime_context().get_node_id()
        (tmp_path / f"begun-{unit.name}-{node}").touch()
        time.sleep(1)
        (tmp_path / f"done-{unit.name}").touch()

    def kill_when_busy() -> None:
        while not list(tmp_path.glob(f"begun-*-{added.node_id}")):
            time.sleep(0.05)
        cluster.remove_node(added, allow_graceful=False)

    killer = threading.Thread(target=kill_when_busy, daemon=True)
    killer.start()
    assert run(task, 9, [str(tmp_path)]) == 9
    killer.join()
    assert len(list(tmp_path.glob("done-*"))) == 9
    begun = [f.name.split("-")[1] for f in tmp_path.glob("begun-*")]
    assert len(begun) > len(set(begun))  # something was begun twice


def test_engines_that_cannot_be(inputs: list[Path], tmp_path: Path) -> None:
    plan = make_plan(small_options(*inputs))
    with pytest.raises(UserError, match="--part shares a build without a cluster"):
        build(plan, tmp_path / "a", engine="ray", part=(1, 2), progress=False)
    with pytest.raises(UserError, match="Unknown engine 'spark'"):
        build(plan, tmp_path / "b", engine="spark", progress=False)


def test_no_cluster_at_the_address(
    inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"No Ray cluster at 127.0.0.1:1 .*refused"):
        build(make_plan(small_options(*inputs)), tmp_path / "a", engine="ray", progress=False)
