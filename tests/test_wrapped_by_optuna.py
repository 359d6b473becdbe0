"""Optuna's own tests of a sampler, on stock samplers that search the simplex."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    NSGAIISampler,
    QMCSampler,
    TPESampler,
)
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from climb_opt import MixtureSpace, SimplexSampler

SPACE = MixtureSpace({"web": 50.0, "code": 20.0, "math": 15.0, "wiki": 10.0, "law": 5.0})


class TestTPE(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SimplexSampler(SPACE, TPESampler(seed=0))


class TestRelativeTPE(RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SimplexSampler(SPACE, TPESampler(seed=0, n_startup_trials=0))


class TestCmaEs(BasicSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SimplexSampler(SPACE, CmaEsSampler(seed=0, warn_independent_sampling=False))


class TestQMC(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SimplexSampler(
            SPACE, QMCSampler(seed=0, warn_independent_sampling=False), encoding="gamma"
        )


class TestNSGAII(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SimplexSampler(SPACE, NSGAIISampler(seed=0), encoding="stick-breaking")
