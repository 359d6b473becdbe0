"""The benchmark of processes of rungs: what it leaves out, and what its figures say."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "bench"))
pytest.importorskip("botorch")
import bench_rungs as bench
from harness import CACHE, TABLES

TRIED = "law/0.8@0.1"


@pytest.fixture(scope="module")
def job() -> bench.Task:
    return bench.task(TRIED, 0, TABLES, CACHE)


def test_no_run_of_the_target_is_both_learnt_from_and_predicted(job: bench.Task) -> None:
    given = job.given
    assert np.bincount(given.rungs).tolist() == list(bench.COUNTS["law"])
    of_target = given.roots[given.rungs == 2]
    assert len(job.values) == bench.HELD_OUT
    assert np.abs(of_target[:, None] - job.roots[None]).max(axis=2).min() > 1e-6
    assert np.isclose(job.values.mean(), 0) and np.isclose(job.values.std(), 1)
    again = bench.task(TRIED, 0, TABLES, CACHE)
    assert np.array_equal(again.given.values, given.values)


def test_figures_are_best_for_who_states_the_right_spread(job: bench.Task) -> None:
    def states(std: float) -> dict[str, float]:
        rng = np.random.default_rng(3)
        off = 0.5 * rng.standard_normal(len(job.values))
        return bench.figures(lambda t: (t.values + off, np.full(len(off), std)), job)

    right, bold, shy = states(0.5), states(0.1), states(3.0)
    assert right["nats"] > max(bold["nats"], shy["nats"])
    assert bold["held"] < 0.5 < 0.85 < right["held"] < 0.95 < shy["held"]
    assert right["rank"] == bold["rank"] > 0.5


def test_cheapest_alone_ranks_and_promises_nothing(job: bench.Task) -> None:
    found = bench.figures(bench.cheapest_only, job)
    assert found["rank"] > 0.3 and np.isnan(found["nats"]) and np.isnan(found["held"])
    row = {"source": TRIED, "model": "cheapest only", "seed": 0, **found}
    head, _, line, seconds, fits = bench.table([row], [TRIED]).splitlines()
    assert head.endswith("| cheapest only |") and line == f"| {TRIED} | {found['rank']:.2f} |"
    assert seconds == f"| CPU s | {found['seconds']:.2f} |" and fits == "| fits | 1 |"


def test_models_are_compared_on_the_same_ladders_and_seeds() -> None:
    def row(model: str, seed: int, nats: float) -> dict[str, object]:
        return {"source": TRIED, "model": model, "seed": seed, "nats": nats}

    ours = [row("ours", seed, -1.0) for seed in range(3)]
    theirs = [row("other", 0, -3.0), row("other", 1, -0.5), row("other", 9, 7.0)]
    nothing = [row("cheapest only", 0, float("nan"))]
    lines = bench.against([*ours, *theirs, *nothing]).splitlines()
    assert lines[2:] == ["| other | 2 | 1 | 0.75 |"]


def test_tensors_stand_on_each_rungs_own_scale(job: bench.Task) -> None:
    x, at, y, back = bench._tensors(job, np.array([0.0, 1.0, 2.0]))
    for rung in range(3):
        own = y[x[:, -1] == rung].numpy()
        assert np.isclose(own.mean(), 0) and np.isclose(own.std(), 1)
    assert (at[:, -1] == 2).all() and x[:, :-1].min() == 0 and x[:, :-1].max() == 1
    of_target = job.given.values[job.given.rungs == 2]
    mean, std = back(bench.torch.distributions.Normal(y[:1], 1.0))
    assert np.isclose(std[0], of_target.std())
    assert np.isclose(mean[0], of_target.mean() + of_target.std() * y[0].item())
