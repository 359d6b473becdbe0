"""Domains too small to be sampled, rounds of copies, and mixtures that nobody tried."""

from __future__ import annotations

import logging

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb_opt import ClimbSampler, MixtureSpace, compare_rules, lookup
from climb_opt.attributes import UNREAD
from climb_opt.history import History
from climb_opt.plan import Plan
from climb_opt.reports.effects import domain_effects
from climb_opt.samplers.climb import candidate_pool, first_round, next_round
from climb_opt.samplers.design import UNIT, initial_design, out_of_reach
from climb_opt.samplers.presets import climb_rules
from climb_opt.samplers.reach import apart, caution, listed, unread, within_evidence, without_copies
from climb_opt.view import read_history
from climb_opt.workers import status

TWO = MixtureSpace({"web": 999_999, "tiny": 1})
THREE = MixtureSpace({"web": 900_000, "code": 100_000, "tiny": 1})
LOW = MixtureSpace({"web": 999_999, "tiny": 1}, lower={"tiny": 0.001})


@pytest.mark.parametrize("space", [TWO, LOW], ids=["free", "lower bound"])
@pytest.mark.parametrize("kind", lookup.KINDS["design"])
@pytest.mark.parametrize("n", [2, 8, 64])
def test_a_first_round_of_two_domains_is_no_round_of_copies(
    space: MixtureSpace, kind: str, n: int
) -> None:
    design = initial_design(space, kind, np.random.default_rng(0), n)
    assert design.shape == (n, 2) and np.all(space.contains(design))
    assert len(np.unique(design, axis=0)) == n
    assert len(apart(design)) > n // 2


@settings(max_examples=20)
@given(
    st.lists(st.floats(1e-9, 1), min_size=2, max_size=4),
    st.sampled_from([*lookup.KINDS["design"]]),
    st.integers(2, 20),
)
def test_designs_of_any_shares_hold_more_than_copies(
    shares: list[float], kind: str, n: int
) -> None:
    space = MixtureSpace({f"d{i}": share for i, share in enumerate(shares)})
    design = initial_design(space, kind, np.random.default_rng(1), n)
    assert np.all(space.contains(design)) and len(apart(design)) > n // 2


def test_a_batch_without_copies_comes_back_as_it_is() -> None:
    space, rng = MixtureSpace({"a": 5, "b": 3, "c": 2}), np.random.default_rng(0)
    batch = space.sample(rng, 32)
    before = rng.bit_generator.state
    assert without_copies(space, rng, batch) is batch
    assert rng.bit_generator.state == before  # nothing was drawn: later draws stay the same


def test_bounds_that_leave_one_mixture_are_no_error() -> None:
    space = MixtureSpace({"a": 3, "b": 1}, lower={"b": 0.25}, upper={"b": 0.25})
    design = initial_design(space, "regmix", np.random.default_rng(0), 8)
    assert np.allclose(design, [0.75, 0.25])
    assert len(candidate_pool(space, climb_rules("nemo", pool_size=100), seed=0)) == 1


@pytest.mark.parametrize("preset", ["nemo", "paper"])
@pytest.mark.parametrize("best", [0.0, 1.0, 0.5])
def test_later_rounds_are_no_copies_either(preset: str, best: float) -> None:
    rules = climb_rules(preset, pool_size=2000)
    tried = first_round(TWO, rules, m=16, seed=0)
    history = History(tried, np.abs(tried[:, 1] - best), (None,) * 16)  # type: ignore[arg-type]

    class Known:
        def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
            pass

        def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.abs(weights[:, 1] - best), np.zeros(len(weights))

    pool = candidate_pool(TWO, rules, seed=0)
    batch = next_round(pool, history, rules, Known(), m=8, rng=np.random.default_rng(0))
    assert len(apart(batch, 1e-5)) == 8
    equal = History(tried, np.zeros(16), (None,) * 16)  # type: ignore[arg-type]
    batch = next_round(pool, equal, rules, None, m=8, rng=np.random.default_rng(0))
    assert len(apart(batch, 1e-5)) == 8


@pytest.mark.parametrize(
    ("kind", "small"), [("regmix", ("tiny",)), ("dirichlet", ("tiny",)), ("mixed", ())]
)
def test_a_domain_out_of_reach_is_named_and_only_that(kind: str, small: tuple[str, ...]) -> None:
    design = initial_design(THREE, kind, np.random.default_rng(0), 16)
    assert out_of_reach(THREE, kind, design) == small
    ordinary = MixtureSpace({f"d{i}": 1.0 + i for i in range(30)})
    missed = initial_design(ordinary, kind, np.random.default_rng(0), 3)
    assert out_of_reach(ordinary, kind, missed) == ()  # by chance, not for want of tokens
    bounded = MixtureSpace({"web": 9e5, "code": 1e5, "tiny": 1}, lower={"tiny": 0.001})
    design = initial_design(bounded, kind, np.random.default_rng(0), 16)
    assert out_of_reach(bounded, kind, design) == ()


def _searched(space: MixtureSpace, n: int = 12) -> optuna.Study:
    study = optuna.create_study()
    study.sampler = ClimbSampler(space, rounds=(n,), seed=0, predictor="loglinear", pool_size=500)
    study.optimize(lambda trial: abs(space.suggest(trial)["code"] - 0.4), n_trials=n)
    return study


def test_a_domain_that_nothing_reads_is_said_and_never_recommended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "climb_opt"):
        study = _searched(THREE)
    assert "no mixture of round 1 reads 'tiny'" in caplog.text
    assert "design: mixed" in caplog.text and "lower" in caplog.text
    assert study.user_attrs[UNREAD] == ["tiny"]
    assert status(study, Plan((12,))).unread == ("tiny",)
    for rule, chosen in compare_rules(study).items():
        assert chosen["tiny"] == 0.0, rule
        assert any("no trial read 'tiny'" in w for w in chosen.warnings), rule
    effects = domain_effects(read_history(study, THREE), THREE.domains, THREE.prior)
    assert {e.domain for e in effects if e.more is None} >= {"tiny"}


def test_one_trial_that_reads_a_domain_is_enough_to_recommend_it() -> None:
    study = _searched(THREE)
    params = THREE.params(THREE.weights({"tiny": 0.3, "code": 0.4, "web": 0.3}))
    study.add_trial(
        optuna.trial.create_trial(params=params, distributions=THREE.distributions(), value=-1.0)
    )
    rules = compare_rules(study, rules=["observed", "predicted"])
    assert rules["observed"]["tiny"] == pytest.approx(0.3) and rules["predicted"]["tiny"] > 0
    assert not any("no trial read" in w for w in rules["predicted"].warnings)


def test_the_space_is_the_same_where_everything_was_read() -> None:
    weights = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]])
    assert within_evidence(THREE, weights) is THREE
    assert unread(THREE, weights) == ()
    held = within_evidence(THREE, np.array([[0.5, 0.5 - 1e-4, 1e-4]]))
    assert held.upper.tolist() == [1.0, 1.0, 1e-4]
    assert unread(MixtureSpace({"a": 1, "b": 1}, upper={"b": 0.0}), np.array([[1.0, 0.0]])) == ()


def test_many_names_are_shortened() -> None:
    names = [f"d{i}" for i in range(9)]
    assert listed(names[:1]) == "'d0'"
    assert listed(names).endswith("'d4' and 4 others")
    space = MixtureSpace({"web": 1.0, **dict.fromkeys(names, 1e-9)})
    assert "they are too small" in caution(space, names)
    assert UNIT == 2e-4
