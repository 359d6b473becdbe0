"""Workers that share a storage and no folder do every run once, whoever dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from climb_opt.ablation.recipe.resolve import Run, runs
from climb_opt.ablation.run import sharing
from climb_opt.ablation.run.emulate import emulate
from climb_opt.ablation.run.results import Archive, run_digest
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.ablation.run.sharing import Desk
from climb_opt.attributes import RUN_BEAT
from climb_opt.errors import UserError
from climb_opt.storages import open_storage
from climb_opt.workers import Pace
from climb_opt.workers.beats import life, sign
from test_ablation import small
from test_workers_many import Clock

GRACE = sharing.PACE.grace


def desks(tmp_path: Path) -> tuple[BaseStorage, list[Desk]]:
    storage = InMemoryStorage()
    return storage, [Desk(storage, "ablation", tmp_path / name) for name in "abc"]


def tpe() -> Run:
    return next(run for run in runs(small(seeds=1)) if run.arm.name == "tpe")


def test_workers_of_two_machines_share_the_runs(tmp_path: Path) -> None:
    journal = str(tmp_path / "all.journal")
    asked = small(seeds=3, arms={"random": None, "tpe": None, "uniform": None})
    done: dict[str, list[str]] = {"a": [], "b": []}
    found = {}

    def worker(name: str) -> None:
        found[name] = run_ablation(
            asked,
            Archive(tmp_path / name),
            storage=journal,
            on_run=lambda run, result: done[name].append(run.key),
        )

    threads = [threading.Thread(target=worker, args=(name,)) for name in done]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.mixtures for r in found["a"]] == [r.mixtures for r in found["b"]]
    assert [r.final for r in found["a"]] == pytest.approx([r.final for r in found["b"]])
    assert len(optuna.get_all_study_names(open_storage(journal))) == 6
    assert {len(results) for results in found.values()} == {9}
    searched = [key for keys in done.values() for key in keys if "uniform" not in key]
    assert len(searched) == len(set(searched)) == 6, "no search was done twice"


def test_a_finished_run_is_read_not_repeated(tmp_path: Path) -> None:
    storage, (ours, theirs, _) = desks(tmp_path)
    run = tpe()
    assert theirs.claim(run)
    assert theirs.result(run) is None and not ours.claim(run)
    result = emulate(run, storage=storage)
    theirs.keep(run, result)
    read = ours.result(run)
    assert read is not None and read.mixtures == result.mixtures
    assert read.final == pytest.approx(result.final)
    other = next(r for r in runs(small(seeds=1, budget={"trials": 15})) if r.arm.name == "tpe")
    assert ours.result(other) is None, "another recipe has other results"
    assert ours.claim(other)


def test_a_run_is_the_same_wherever_the_tables_lie() -> None:
    def digests(folder: str, mixtures: str) -> list[str]:
        files = {"mixtures": mixtures, "results": "results.csv", "key": "run"}
        table = {"name": "table", "tables": {"ours": files}, "folder": folder}
        return [run_digest(run) for run in runs(small(objective=table, seeds=1))]

    assert digests("here", "a.csv") == digests("/there", "a.csv") != digests("here", "b.csv")


def test_a_silent_workers_run_is_taken_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(monkeypatch)
    storage, (dead, ours, theirs) = desks(tmp_path)
    run = tpe()
    assert dead.claim(run)
    study = optuna.load_study(study_name=f"ablation/{run.key}", storage=storage)
    for count in range(12):  # it lives, however long the run takes
        study.set_user_attr(RUN_BEAT, sign(count))
        clock.now += GRACE / 5
        assert not ours.claim(run) and not theirs.claim(run)
    clock.now += 10 * GRACE  # the storage was away: nobody could beat
    assert not ours.claim(run) and not theirs.claim(run)
    looks = 0
    while not ours.claim(run):
        clock.now += GRACE / 5
        looks += 1
    assert 3 <= looks <= 5 and "no sign of its worker" in caplog.text
    assert dead.lost(run) and not ours.lost(run)
    clock.now += GRACE / 5
    assert not theirs.claim(run), "the new owner has just begun"
    emulate(run, storage=storage)
    assert ours.claim(run), "its own run, cut short, is begun again at once"


def test_the_run_of_a_killed_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    storage, (dead, ours, _) = desks(tmp_path)
    run = tpe()
    assert dead.claim(run)
    study = optuna.load_study(study_name=f"ablation/{run.key}", storage=storage)
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    study.set_user_attr(RUN_BEAT, {**sign(3), "life": life(killed.pid)})
    assert not ours.claim(run)
    killed.kill()
    killed.communicate()
    assert ours.claim(run) and dead.lost(run)


def test_a_run_beats_while_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PACE", Pace(beat=0.01, grace=0.2, poll=0.01))
    storage, (ours, theirs, _) = desks(tmp_path)
    run = tpe()
    assert ours.claim(run)
    study = optuna.load_study(study_name=f"ablation/{run.key}", storage=storage)
    with ours.at_work(run):
        looked = time.monotonic()
        while time.monotonic() - looked < 1.0:  # five times the grace
            assert not theirs.claim(run)
            time.sleep(0.01)
    assert study.user_attrs[RUN_BEAT]["count"] >= 5
    while not theirs.claim(run):  # it no longer beats
        time.sleep(0.01)
    with ours.at_work(tpe()):
        pass  # of another study by now: what is gone is not beaten on


def test_a_worker_that_lost_its_run_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from climb_opt.ablation.run import runner

    storage = InMemoryStorage()
    asked = small(seeds=1, arms={"tpe": None}, reference=None)
    (run,) = runs(asked)
    calls = 0

    def slow(run: Run, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:  # another machine takes it for dead, and is done before it wakes up
            optuna.delete_study(study_name=f"ablation/{run.key}", storage=storage)
            other = Desk(storage, "ablation", tmp_path / "other")
            assert other.claim(run)
            other.keep(run, emulate(run, storage=storage))
            raise KeyError("Record does not exist.")
        raise AssertionError("the run was repeated")

    monkeypatch.setattr(runner, "emulate", slow)
    monkeypatch.setattr(sharing, "PACE", Pace(poll=0.0))
    (result,) = run_ablation(asked, Archive(tmp_path / "mine"), storage=storage)
    assert calls == 1 and result.mixtures == emulate(run).mixtures


def test_a_foreign_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    storage, (ours, *_) = desks(tmp_path)
    run = tpe()
    study = optuna.create_study(study_name=f"ablation/{run.key}", storage=storage)
    for _ in range(5):
        assert not ours.claim(run), "another worker may just be creating it"
        clock.now += GRACE / 4
    with pytest.raises(UserError, match="is no run of an ablation"):
        ours.claim(run)
    study.set_user_attr("mine", True)
    with pytest.raises(UserError, match="is no run of an ablation"):
        ours.result(run)
