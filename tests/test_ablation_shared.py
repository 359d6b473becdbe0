"""Several workers on one PostgreSQL help each other with an ablation, and lose nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import optuna
import pytest

from climb_opt.ablation.recipe.resolve import runs
from climb_opt.ablation.run.emulate import emulate
from climb_opt.ablation.run.results import Archive
from climb_opt.ablation.run.runner import run_ablation
from climb_opt.attributes import SLOT
from climb_opt.shards import Corpus
from climb_opt.storages import open_storage
from climb_opt.view import all_trials
from servers import Postgres, closed_engines, postgres  # noqa: F401
from test_ablation import small
from test_ablation_live import recipe

pytestmark = pytest.mark.postgres


def _help(corpus: str, folder: str, url: str, queue: Any) -> None:
    asked = recipe(Corpus.load(corpus))
    results = run_ablation(asked, Archive(Path(folder)), storage=url, prefix="shared")
    queue.put({r.arm: (r.final, r.mixtures, r.trials) for r in results})


def test_two_live_workers_share_every_study(
    tiny_corpus: Corpus,
    tmp_path: Path,
    postgres: Postgres,  # noqa: F811
) -> None:
    url = postgres.fresh()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(
            target=_help, args=(str(tiny_corpus.path), str(tmp_path / name), url, queue)
        )
        for name in ("a", "b")  # two machines: no folder in common
    ]
    for worker in workers:
        worker.start()
    one, two = (queue.get(timeout=240) for _ in workers)
    for worker in workers:
        worker.join()
    assert one == two, "both workers see the same results"
    assert one["climb"][2] == 4 and one["doremi"][2] == 1
    storage = open_storage(url)
    for name in ("shared/climb/seed0", "shared/random/seed0"):
        study = optuna.load_study(study_name=name, storage=storage)
        slots = sorted(t.user_attrs[SLOT] for t in all_trials(study))
        assert slots == [0, 1, 2, 3], "no slot was done twice"


def test_emulated_runs_are_kept_as_studies(
    tmp_path: Path,
    postgres: Postgres,  # noqa: F811
) -> None:
    asked = small(seeds=1)
    url = postgres.fresh()
    results = run_ablation(asked, Archive(tmp_path), storage=url, prefix="arms")
    names = set(optuna.get_all_study_names(open_storage(url)))
    assert names == {"arms/random/seed0", "arms/tpe/seed0"}
    in_memory = {run.arm.name: emulate(run).mixtures for run in runs(asked)}
    assert {r.arm: r.mixtures for r in results} == in_memory
