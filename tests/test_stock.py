"""Stock Optuna samplers by their short names: options, extras, what is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler

from climb_opt import UserError, lookup
from climbing import SPACE, distance, mixtures
from wrapping import stock_mixtures


@pytest.mark.parametrize("name", ["random", "tpe", "cma-es", "qmc", "nsga2"])
def test_a_stock_sampler_is_made_by_its_short_name(name: str) -> None:
    study = optuna.create_study(sampler=lookup.find("sampler", name)(SPACE, seed=0))
    study.optimize(distance, n_trials=6)
    assert len(np.unique(mixtures(study), axis=0)) == 6


def test_options_go_to_the_optuna_sampler() -> None:
    sampler = lookup.find("sampler", "tpe")(SPACE, seed=0, n_startup_trials=3, multivariate=False)
    study = optuna.create_study(sampler=sampler)
    study.optimize(distance, n_trials=12)
    same = TPESampler(seed=0, n_startup_trials=3, multivariate=False)
    np.testing.assert_array_equal(mixtures(study), stock_mixtures(same, "softmax", 12))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gp-optuna", "botorch"])
def test_the_heavy_ones_run_too(name: str) -> None:
    sampler = lookup.find("sampler", name)(SPACE, seed=0, n_startup_trials=5)
    study = optuna.create_study(sampler=sampler)
    study.optimize(distance, n_trials=12)
    values = [t.value for t in study.trials]
    assert min(values[5:]) < np.median(values[:5])


AS_TORCH_2_14_DOES = """
import warnings, torch

def script(*args, of=torch.jit.script, **kwargs):
    warnings.warn("`torch.jit.script` is deprecated", FutureWarning)
    return of(*args, **kwargs)

torch.jit.script = script
import climb_opt.predictors.gp
from climb_opt import MixtureSpace
from climb_opt.samplers import stock
stock.botorch(MixtureSpace({"web": 1, "code": 2}), seed=0)
"""


def test_what_torch_deprecates_in_gpytorch_is_not_told() -> None:
    command = [sys.executable, "-c", AS_TORCH_2_14_DOES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "deprecated" not in done.stderr


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("cma-es", "cmaes", "samplers"), ("gp-optuna", "torch", "gp"), ("botorch", "botorch", "gp")],
)
def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == module else real(n, *a)
    )
    with pytest.raises(UserError, match=rf'pip install "climb-opt\[{extra}\]"'):
        lookup.find("sampler", name)(SPACE)


def test_a_second_botorch_sampler_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("optuna_integration")  # as it leaves itself: without a spec
    lazy.BoTorchSampler = RandomSampler  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optuna_integration", lazy)
    assert "RandomSampler" in str(lookup.find("sampler", "botorch")(SPACE, seed=1))
