from __future__ import annotations

from pathlib import Path
import subprocess
import sys

import numpy as np
import optuna
import optunahub
import pytest


REGISTRY = str(Path(__file__).parents[3])
mixbench = optunahub.load_local_module(package="benchmarks/mixbench", registry_root=REGISTRY)


@pytest.mark.parametrize("name", mixbench.PROBLEMS)
def test_a_problem_is_an_objective_and_knows_its_best(name: str) -> None:
    problem = mixbench.problem(name, domains=4)
    study = optuna.create_study(sampler=problem.random(seed=1))
    study.optimize(problem, n_trials=3)
    assert study.best_value is not None
    rows = problem.space.sample_mixed(np.random.default_rng(0), 500)
    assert problem.regret(rows).min() > -1e-9


def test_any_sampler_of_optuna_takes_part() -> None:
    def tpe(problem: object, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed)

    problem = mixbench.problem("traces", domains=4)
    outcome = mixbench.run(mixbench.Method(sampler=tpe, boxed=True), problem, trials=8)
    assert outcome.trials == 8
    assert np.isfinite(outcome.regret)


def test_it_needs_optuna_numpy_and_scipy_only() -> None:
    code = f"""
import importlib.abc, sys
class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"climb_opt", "yaml", "lightgbm", "sklearn", "torch", "threadpoolctl"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Guard())
import optunahub
bench = optunahub.load_local_module(package="benchmarks/mixbench", registry_root={REGISTRY!r})
problem = bench.problem("repetition", domains=4)
outcome = bench.run(bench.peers.MARIN, problem, trials=12)
print(round(outcome.regret, 3), bench.peers.REGMIX.needs)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "lightgbm" in done.stdout
