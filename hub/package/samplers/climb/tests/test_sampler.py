from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optunahub
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase

module = optunahub.load_local_module(
    package="samplers/climb", registry_root=str(Path(__file__).parents[3])
)
SPACE = module.MixtureSpace({"web": 3.0, "code": 2.0, "math": 1.0})


class TestClimbSampler(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: module.ClimbSampler(
            SPACE, rounds=(3, 2), pool_size=200, predictor="loglinear"
        )
