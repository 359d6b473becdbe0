"""A point of the box and the mixture it stands for: every encoding, there and back."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from climb_opt import MixtureSpace, lookup
from climb_opt.samplers.encodings import GammaEncoding, make_encoding

SPACE = MixtureSpace({"web": 50.0, "code": 20.0, "math": 15.0, "wiki": 10.0, "law": 5.0})


@settings(max_examples=80)
@given(st.sampled_from(sorted(lookup.KINDS["encoding"])), st.integers(1, 40), st.integers(0, 2**32))
def test_any_point_of_the_box_is_a_mixture(name: str, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = MixtureSpace({f"d{i}": a for i, a in enumerate(rng.dirichlet(np.full(k, 0.3)) + 1e-9)})
    coded = make_encoding(name, space)
    box = list(coded.distributions().values())
    low, high = np.array([d.low for d in box]), np.array([d.high for d in box])
    corners = np.where(rng.random((4, len(box))) < 0.5, low, high)
    inside = low + (high - low) * rng.random((4, len(box)))
    for u in [low, high, *corners, *inside]:
        weights = coded.decode(u)
        assert abs(weights.sum() - 1.0) < 1e-9 and np.all(weights >= 0)
        again = coded.encode(weights)
        assert np.all(again >= low) and np.all(again <= high)


@settings(max_examples=60)
@given(st.sampled_from(sorted(lookup.KINDS["encoding"])), st.integers(1, 12), st.integers(0, 2**32))
def test_mixtures_of_moderate_weights_survive_the_way_there_and_back(
    name: str, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    space = MixtureSpace({f"d{i}": a for i, a in enumerate(rng.dirichlet(np.full(k, 5.0)))})
    coded = make_encoding(name, space)
    weights = rng.dirichlet(np.full(k, 8.0))
    np.testing.assert_allclose(coded.decode(coded.encode(weights)), weights, atol=1e-7)


def test_random_search_with_the_gamma_encoding_is_the_dirichlet_prior() -> None:
    study = optuna.create_study(sampler=lookup.find("sampler", "random")(SPACE, seed=1))
    for _ in range(1500):
        study.ask(SPACE.distributions())
    draws = np.array([SPACE.weights_of(trial) for trial in study.trials])
    # The marginals of Dirichlet(p) are Beta(p_i, 1 - p_i), and Cov(w_i, w_j) = -p_i p_j / 2.
    for w, p in zip(draws.T, SPACE.prior, strict=True):
        assert kstest(np.maximum(w, 1e-300), beta(p, 1 - p).cdf).pvalue > 1e-3
    expected = (np.diag(SPACE.prior) - np.outer(SPACE.prior, SPACE.prior)) / 2
    np.testing.assert_allclose(np.cov(draws.T), expected, atol=0.012)


@pytest.mark.parametrize("k", [3, 200])
def test_gamma_draws_are_right_where_quantiles_underflow(k: int) -> None:
    space = MixtureSpace({f"d{i}": 1.0 for i in range(k)})
    coded = GammaEncoding(space, strength=0.05)
    draws = np.array([coded.decode(u) for u in np.random.default_rng(0).random((3000, k))])
    assert np.all(np.abs(draws.sum(axis=1) - 1) < 1e-9)
    np.testing.assert_allclose(draws.mean(axis=0), 1 / k, atol=4.5 / np.sqrt(3000 * k))
    a = 0.05 / k
    for small in (1e-250, 1e-100, 1e-10, 1e-3, 0.5):
        expected = beta(a, 0.05 - a).cdf(small)
        found = np.mean(draws <= small)  # over all domains, which are alike
        assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / 3000)


def test_uniform_sticks_are_the_flat_dirichlet() -> None:
    coded = make_encoding("stick-breaking", SPACE)
    draws = np.array([coded.decode(u) for u in np.random.default_rng(0).random((2000, 4))])
    for w in draws.T:
        assert kstest(w, beta(1, 4).cdf).pvalue > 1e-3


def test_a_domain_without_prior_keeps_weight_zero() -> None:
    space = MixtureSpace({"a": 2.0, "b": 1.0, "none": 0.0})
    for name in ("softmax", "gamma"):
        coded = make_encoding(name, space)
        weights = coded.decode(np.full(3, 0.4))
        assert weights[2] == 0.0 and abs(weights.sum() - 1) < 1e-12
        np.testing.assert_allclose(coded.decode(coded.encode(weights)), weights, atol=1e-9)
