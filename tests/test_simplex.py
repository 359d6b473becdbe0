"""The simplex: sums, bounds, zeros, draws, and what it says of bad input."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from climb_opt import ClimbSampler, MixtureSpace, UserError, bounds
from climb_opt.bounds import SUM_TOLERANCE
from climb_opt.draws import dirichlet

AMOUNTS = {"web": 70.0, "code": 20.0, "math": 10.0}


@st.composite
def spaces(draw: st.DrawFn, most: int = 500) -> MixtureSpace:
    k = draw(st.one_of(st.integers(1, 8), st.integers(1, most)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    prior = rng.dirichlet(np.full(k, draw(st.sampled_from([0.1, 1.0, 30.0])))) + 1e-12
    inside = rng.dirichlet(np.ones(k))  # bounds around one mixture can be met
    names = [f"d{i}" for i in range(k)]
    bounds = {}
    if draw(st.booleans()):
        bounds["lower"] = dict(zip(names, inside * rng.random(k), strict=True))
    if draw(st.booleans()):
        bounds["upper"] = dict(zip(names, inside + (1 - inside) * rng.random(k), strict=True))
    return MixtureSpace(zip(names, prior, strict=True), **bounds)


def assert_inside(space: MixtureSpace, weights: np.ndarray) -> None:
    assert np.all(np.abs(weights.sum(-1) - 1.0) <= SUM_TOLERANCE)
    assert np.all(weights >= 0.0) and np.all(weights <= 1.0)
    assert np.all(space.contains(weights))


# --- properties ------------------------------------------------------------------------------


@settings(max_examples=60)
@given(spaces(), st.integers(0, 2**32), st.sampled_from([1e-4, 0.1, 1.0, 50.0]))
def test_every_draw_is_inside_the_space(space: MixtureSpace, seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    assert_inside(space, space.sample(rng, 5, strength=strength, temperature=0.5))
    assert_inside(space, space.sample_mixed(rng, 9))


@settings(max_examples=100)
@given(spaces(40), st.data())
def test_projection_lands_inside_the_space(space: MixtureSpace, data: st.DataObject) -> None:
    floats = st.floats(allow_nan=True, allow_infinity=True, width=64)
    weights = data.draw(hnp.arrays(float, (3, len(space)), elements=floats))
    projected = space.project(weights)
    assert_inside(space, projected)
    np.testing.assert_allclose(space.project(projected), projected, atol=1e-12)


@settings(max_examples=60)
@given(spaces(40), st.integers(0, 2**32))
def test_mixtures_inside_the_space_are_left_alone(space: MixtureSpace, seed: int) -> None:
    inside = space.sample(np.random.default_rng(seed), 4)
    np.testing.assert_allclose(space.project(inside), inside, atol=1e-12)


@settings(max_examples=30)
@given(st.permutations(range(6)), st.integers(0, 2**32))
def test_order_and_names_of_domains_change_nothing_but_names(order: list[int], seed: int) -> None:
    amounts = [31.0, 17.0, 9.0, 5.0, 3.0, 1.0]
    caps = [0.5, 0.6, 0.9, 0.4, 0.8, 0.7]
    plain = MixtureSpace(
        {f"d{i}": amounts[i] for i in range(6)}, upper={f"d{i}": caps[i] for i in range(6)}
    )
    renamed = MixtureSpace(
        {f"x{order[i]}{i}": amounts[i] for i in order},
        upper={f"x{order[i]}{i}": caps[i] for i in range(6)},
    )
    assert renamed.domains == tuple(f"x{order[i]}{i}" for i in range(6))
    draws = [s.sample_mixed(np.random.default_rng(seed), 20) for s in (plain, renamed)]
    np.testing.assert_array_equal(*draws)


@settings(max_examples=60)
@given(spaces(30), st.integers(0, 2**32))
def test_a_mixture_survives_a_trial_to_the_bit(space: MixtureSpace, seed: int) -> None:
    (weights,) = space.sample(np.random.default_rng(seed), 1)
    study = optuna.create_study()
    study.enqueue_trial(space.params(weights))
    trial = study.ask()
    assert space.suggest(trial) == space.mixture(weights)
    study.tell(trial, 1.0)
    read = space.weights_of(study.trials[0])
    assert read is not None
    np.testing.assert_array_equal(read, weights)


# --- rules -----------------------------------------------------------------------------------


def test_cap_and_redistribute_keeps_proportions_and_exact_zeros() -> None:
    space = MixtureSpace({"a": 5, "b": 3, "c": 2, "d": 1}, upper=0.5)
    projected = space.project(np.array([0.7, 0.2, 0.1, 0.0]))
    np.testing.assert_allclose(projected, [0.5, 1 / 3, 1 / 6, 0.0], atol=1e-12)
    rows = np.random.default_rng(0).dirichlet([5, 1, 1, 1], 100) * [1, 1, 1, 0]
    assert projected[3] == 0.0 and not space.project(rows)[:, 3].any()


def test_what_the_capped_domains_cannot_take_goes_to_the_others_by_prior() -> None:
    space = MixtureSpace({"a": 5, "b": 3, "c": 2}, upper=0.4)
    np.testing.assert_allclose(space.project(np.array([1.0, 0, 0])), [0.4, 0.36, 0.24], atol=1e-9)


@pytest.mark.parametrize("k", [5, 30, 300])
def test_a_dozen_looks_at_the_weights_find_the_scale_of_nearly_all_rows(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "STEPS", 12)  # a search by halves takes sixty
    rng = np.random.default_rng(k)
    prior = rng.dirichlet(np.ones(k))
    upper = np.minimum(1.0, 4 * prior + 0.02)
    lower = np.minimum(upper, rng.choice([0.0, 0.1]) * prior)
    rows = rng.dirichlet(np.full(k, 0.3), size=200)
    scales = bounds.scales(rows, lower, upper)
    missed = np.abs(np.clip(scales[:, None] * rows, lower, upper).sum(axis=1) - 1.0)
    assert np.mean(missed < 1e-13) > 0.95


def test_many_draws_of_many_domains_take_little_more_memory_than_they_are() -> None:
    space = MixtureSpace({f"d{i}": 1.0 + i for i in range(500)})
    rng = np.random.default_rng(0)
    tracemalloc.start()
    draws = space.sample_mixed(rng, 4000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.7 * draws.nbytes


def test_projection_takes_any_number_of_axes() -> None:
    space = MixtureSpace(AMOUNTS, upper=0.5)
    stacked = np.random.default_rng(0).random((2, 4, 3))
    flat = space.project(stacked.reshape(8, 3))
    np.testing.assert_array_equal(space.project(stacked), flat.reshape(2, 4, 3))


def test_max_epochs_caps_a_weight_by_its_domains_tokens() -> None:
    space = MixtureSpace(AMOUNTS, max_epochs=2, trial_tokens=50)
    assert (space.upper == MixtureSpace(AMOUNTS, max_epochs="2", trial_tokens="5e1").upper).all()
    np.testing.assert_allclose(space.upper, [1.0, 0.8, 0.4])
    draws = space.sample(np.random.default_rng(0), 500, strength=0.1)
    assert np.all(draws * 50 <= 2 * np.array([70.0, 20.0, 10.0]) + 1e-9)
    assert np.any(np.isclose(draws[:, 2], 0.4))


def test_the_mean_of_many_draws_is_the_prior() -> None:
    space = MixtureSpace(AMOUNTS)
    draws = space.sample(np.random.default_rng(0), 20_000)
    np.testing.assert_allclose(draws.mean(axis=0), space.prior, atol=0.01)


def test_tiny_concentrations_underflow_in_no_row() -> None:
    alpha = np.full((2000, 240), 0.01 / 240)
    draws = dirichlet(np.random.default_rng(0), alpha)
    np.testing.assert_allclose(draws.sum(axis=1), 1.0, atol=1e-12)
    winners = np.bincount(draws.argmax(axis=1), minlength=240)
    assert winners.max() < 40  # 8.3 expected; a redraw that favoured some domain would show


def test_a_domain_without_tokens_gets_no_weight() -> None:
    space = MixtureSpace({"full": 3.0, "half": 1.0, "empty": 0.0})
    draws = space.sample(np.random.default_rng(0), 50, temperature=0.0)
    assert np.all(draws[:, 2] == 0.0)


def test_amounts_may_be_of_any_size() -> None:
    np.testing.assert_array_equal(MixtureSpace({"a": 1e308, "b": 1e308}).prior, [0.5, 0.5])
    np.testing.assert_array_equal(MixtureSpace({"a": 5e-324, "b": 5e-324}).prior, [0.5, 0.5])


def test_one_domain_is_the_whole_mixture() -> None:
    space = MixtureSpace({"only": 5.0})
    np.testing.assert_array_equal(space.sample_mixed(np.random.default_rng(0), 3), np.ones((3, 1)))


def test_weights_reads_a_mixture_with_domains_left_out() -> None:
    space = MixtureSpace(AMOUNTS)
    np.testing.assert_array_equal(space.weights({"math": 0.25, "web": 0.75}), [0.75, 0.0, 0.25])
    np.testing.assert_allclose(space.weights({"web": 2, "code": 2}, normalise=True), [0.5, 0.5, 0])


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "options", "says"),
    [
        ({}, {}, "at least one domain"),
        ({"a": 0.0}, {}, "not all zero"),
        ({"a": -1.0, "b": 2.0}, {}, "none negative"),
        ({"a": float("nan")}, {}, "finite"),
        ({"a": "many"}, {}, "must be a number"),
        ([("a", 1.0), ("b", 1.0), ("a", 2.0)], {}, "'a' is named twice"),
        (["web", "code"], {}, "amount for each domain, but got 'web' alone"),
        ({"": 1.0}, {}, "non-empty"),
        (None, {}, "The prior: a mapping, domain: tokens, is wanted, not None"),
        (MixtureSpace(AMOUNTS), {}, "The prior: a mapping, .*, is wanted, not MixtureSpace"),
        (AMOUNTS, {"lower": {"web": -0.1}}, r"\[0, 1\]"),
        (AMOUNTS, {"upper": {"code": 1.5}}, r"\[0, 1\]"),
        (AMOUNTS, {"upper": {"code": None}}, "must be a number"),
        (AMOUNTS, {"upper": {"cod": 0.5}}, "unknown domain 'cod'.*web, code, math"),
        (AMOUNTS, {"upper": 0.2}, "upper bounds to 0.6"),
        (AMOUNTS, {"lower": 0.4}, "lower bounds sum to 1.2"),
        (AMOUNTS, {"lower": {"web": 0.5}, "upper": {"web": 0.3}}, "0.5 exceeds upper bound 0.3"),
        (AMOUNTS, {"max_epochs": 1, "trial_tokens": 200}, "raise max_epochs"),
        (AMOUNTS, {"max_epochs": 1}, "trial_tokens"),
        (AMOUNTS, {"trial_tokens": "many"}, "trial_tokens must be a number, but is 'many'"),
        (AMOUNTS, {"trial_tokens": "-1e3"}, "trial_tokens must be above 0"),
        (AMOUNTS, {"max_epochs": [4], "trial_tokens": 50}, r"max_epochs must be a number.*\[4\]"),
    ],
)
def test_an_impossible_space_is_an_error_that_says_why(prior, options, says) -> None:
    with pytest.raises(UserError, match=says):
        MixtureSpace(prior, **options)


class Column:
    """As pandas' Series: it has items, names and numbers, goes over numbers, and is no Mapping."""

    ndim = 1

    def __init__(self, numbers: dict[str, float]) -> None:
        self.items, self.numbers = numbers.items, numbers

    def __iter__(self) -> Iterator[float]:
        return iter(self.numbers.values())


def test_a_column_of_a_table_is_read_by_its_index() -> None:
    space = MixtureSpace(Column({"math": 10, "web": 70, "code": 20}))
    assert space.mixture(space.prior) == pytest.approx({"web": 0.7, "code": 0.2, "math": 0.1})
    given = Column({"math": 0.1, "web": 0.7, "code": 0.2})
    np.testing.assert_array_equal(space.weights(given), [0.7, 0.2, 0.1])
    given.ndim = 2  # the whole table
    with pytest.raises(UserError, match="a mapping, domain: tokens, is wanted, not <"):
        MixtureSpace(given)


@pytest.mark.parametrize(
    ("mixture", "says"),
    [
        ({"web": 0.5, "wiki": 0.5}, "Unknown domain 'wiki'"),
        ({"web": 0.5}, "sum to 0.5, not to 1"),
        ({"web": 1.5, "code": -0.5}, "not negative"),
        ({"web": float("nan")}, "finite"),
        ({"web": "all"}, "must be a number"),
        ([0.5, 0.5], r"a mapping, domain: weight, is wanted, not \[0\.5, 0\.5\]"),
    ],
)
def test_a_wrong_mixture_is_an_error_that_says_why(mixture, says) -> None:
    with pytest.raises(UserError, match=says):
        MixtureSpace(AMOUNTS).weights(mixture)


def test_a_sampler_that_does_not_know_the_simplex_is_told_what_to_use() -> None:
    space = MixtureSpace(AMOUNTS)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with pytest.raises(UserError, match="SimplexSampler around any Optuna sampler"):
        space.suggest(study.ask())


def test_a_weight_enqueued_without_the_others_is_told_how_all_are() -> None:
    space = MixtureSpace(AMOUNTS)
    study = optuna.create_study(sampler=ClimbSampler(space, rounds=(2,), seed=0))
    study.enqueue_trial({"w/web": 0.5})
    with pytest.raises(UserError, match="enqueue all weights or none"):
        space.suggest(study.ask())


def test_a_mixture_enqueued_without_its_parameters_names_is_told_how(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = MixtureSpace(AMOUNTS)
    study = optuna.create_study(sampler=ClimbSampler(space, rounds=(2,), seed=0))
    study.enqueue_trial({"web": 0.5, "code": 0.5})
    study.enqueue_trial({"lr": 0.1, **space.params(space.prior)})  # as it should be
    for _ in range(3):
        space.suggest(study.ask())
    said = [r.message for r in caplog.records if "was enqueued with" in r.message]
    assert len(said) == 1 and "Trial 0 was enqueued with 'web', 'code', and no weight" in said[0]


def test_an_enqueued_mixture_outside_the_bounds_is_refused() -> None:
    space = MixtureSpace(AMOUNTS, upper={"code": 0.3})
    study = optuna.create_study()
    study.enqueue_trial({"w/web": 0.5, "w/code": 0.5, "w/math": 0.0})
    with pytest.raises(UserError, match="'code' is outside"):
        space.suggest(study.ask())


def test_an_unknown_domain_of_thousands_names_what_is_near_and_a_dozen() -> None:
    space = MixtureSpace({f"topic {k:04d}": 1 for k in range(3000)})
    with pytest.raises(UserError) as error:
        space.weights({"Topic 2718": 1.0})
    said = str(error.value)
    assert "Did you mean 'topic 2718'?" in said and said.endswith("and 2,988 more.")
    assert said.count("topic") == 13
