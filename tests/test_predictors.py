"""Predictors: rank unseen mixtures, know how far off they are, survive any data."""

from __future__ import annotations

import builtins
import csv
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from scipy.stats import spearmanr

from climb_opt import UserError, lookup
from climb_opt.predictors.base import Predictor, expected
from climb_opt.predictors.components import ComponentPredictor
from climb_opt.predictors.forest import Forest, regions
from climb_opt.predictors.lgbm import LightGBMPredictor
from climb_opt.predictors.spread import Spread, nearest

NAMES = ("lightgbm", "extra-trees", "loglinear", "epochs", "gp")
CHEAP = ("lightgbm", "extra-trees", "loglinear", "epochs")


def mixtures(n: int, k: int = 6, seed: int = 0, alpha: float = 0.7) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(k, alpha), n)


def law(w: np.ndarray) -> np.ndarray:
    """A loss with diminishing returns, as published mixing laws have it."""
    pull = np.linspace(3.0, 0.0, w.shape[1])
    return 2.0 + 0.8 * np.exp(-np.sqrt(w) @ pull)


def make(name: str, **options: Any) -> Predictor:
    return lookup.find("predictor", name)(**options)


def rank(predictor: Predictor, w: np.ndarray, y: np.ndarray) -> float:
    return float(spearmanr(expected(predictor, w), y)[0])


# --- every predictor -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "least"), [(16, 0.55), (64, 0.85)])
def test_it_ranks_unseen_mixtures(name: str, n: int, least: float) -> None:
    w, new = mixtures(n), mixtures(300, seed=1)
    predictor = make(name)
    predictor.fit(w, law(w))
    assert rank(predictor, new, law(new)) > least


@pytest.mark.parametrize("name", NAMES)
def test_its_direction_is_that_of_the_scores(name: str) -> None:
    w, new = mixtures(48), mixtures(200, seed=1)
    up, down = make(name), make(name)
    up.fit(w, law(w))
    down.fit(w, -law(w))
    assert rank(up, new, law(new)) > 0.7 and rank(down, new, law(new)) < -0.7


@pytest.mark.parametrize("name", NAMES)
def test_one_standard_deviation_covers_about_two_thirds_of_new_scores(name: str) -> None:
    rng = np.random.default_rng(3)
    w, new = mixtures(64), mixtures(400, seed=1)
    scores = law(w) + 0.05 * rng.normal(size=64)
    predictor = make(name)
    predictor.fit(w, scores)
    mean, std = predictor.predict(new)
    covered = np.mean(np.abs(law(new) + 0.05 * rng.normal(size=400) - mean) <= std)
    assert 0.5 < covered < 0.93


@pytest.mark.parametrize("name", NAMES)
def test_the_same_data_gives_the_same_predictions(name: str) -> None:
    w, new = mixtures(64), mixtures(50, seed=1)
    answers = []
    for _ in range(2):
        predictor = make(name)
        predictor.fit(w, law(w))
        answers.append(np.stack(predictor.predict(new)))
        np.testing.assert_allclose(expected(predictor, new), answers[-1][0], atol=1e-9)
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("name", NAMES)
def test_shift_and_scale_of_the_scores_change_nothing_else(name: str) -> None:
    w, new = mixtures(40), mixtures(50, seed=1)
    plain, moved = make(name), make(name)
    plain.fit(w, law(w))
    moved.fit(w, 100.0 + 1e-3 * law(w))
    (mean, std), (mean_moved, std_moved) = plain.predict(new), moved.predict(new)
    assert spearmanr(mean, mean_moved)[0] > 0.999
    np.testing.assert_allclose(std_moved, 1e-3 * std, rtol=0.1)


ODD = {
    "one score": (mixtures(1), np.array([2.0])),
    "two scores": (mixtures(2), np.array([2.0, 3.0])),
    "three scores, two equal": (mixtures(3), np.array([2.0, 3.0, 3.0])),
    "equal scores": (mixtures(20), np.full(20, 7.0)),
    "a thousand identical mixtures": (
        np.tile(mixtures(1), (1000, 1)),
        np.random.default_rng(0).normal(size=1000),
    ),
    "a single domain": (np.ones((4, 1)), np.arange(4.0)),
    "vertices": (np.eye(6), np.arange(6.0)),
    "more domains than runs": (mixtures(12, k=120), np.arange(12.0)),
    "an outlier": (mixtures(30), np.append(np.zeros(29), 1e6)),
    "tiny differences": (mixtures(20), 1e6 + 1e-4 * np.arange(20.0)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("odd", ODD)
def test_odd_data_give_finite_means_and_a_spread(name: str, odd: str) -> None:
    w, y = ODD[odd]
    predictor = make(name)
    predictor.fit(w, y)
    new = mixtures(5, k=w.shape[1], seed=1)
    mean, std = predictor.predict(new)
    assert mean.shape == std.shape == (5,)
    assert np.all(np.isfinite(mean)) and np.all(std >= 0)
    assert np.all(np.isinf(std)) == (odd == "one score")
    if odd in ("one score", "equal scores"):
        np.testing.assert_allclose(mean, y[0])


def test_an_unknown_predictor_is_told_the_known_ones() -> None:
    with pytest.raises(UserError, match="Did you mean 'lightgbm'"):
        lookup.find("predictor", "lightgmb")


def test_a_predictor_of_ones_own_is_named_by_its_module() -> None:
    assert lookup.find("predictor", "climb_opt.predictors.lgbm:LightGBMPredictor") is (
        LightGBMPredictor
    )


def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def no_botorch(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in ("gpytorch", "botorch"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "climb_opt.predictors.gp", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_botorch)
    with pytest.raises(UserError, match=r'pip install "climb-opt\[gp\]"'):
        lookup.find("predictor", "gp")


# --- on published runs -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sixteen_published_runs_do_not_collapse_to_a_constant(name: str, tables: Path) -> None:
    w, y = pile_cc(tables)
    predictor = make(name)
    predictor.fit(w[:16], y[:16])
    assert rank(predictor, w[16:], y[16:]) > 0.6


@pytest.mark.parametrize(
    ("name", "least"),
    [("lightgbm", 0.90), ("extra-trees", 0.96), ("loglinear", 0.97), ("gp", 0.96)],
)
def test_ranks_of_published_runs_are_as_good_as_measured(
    name: str, least: float, tables: Path
) -> None:
    w, y = pile_cc(tables)
    predictor = make(name)
    predictor.fit(w[:64], y[:64])
    assert rank(predictor, w[64:], y[64:]) > least


def pile_cc(tables: Path) -> tuple[np.ndarray, np.ndarray]:
    """RegMix's 512 runs at 1M: weights (512, 17), Pile-CC loss (512,)."""
    with open(tables / "regmix" / "train_mixture_1m.csv") as file:
        weights = np.array([row[1:] for row in list(csv.reader(file))[1:]], dtype=float)
    with open(tables / "regmix" / "train_pile_loss_1m.csv") as file:
        loss = [float(row["metric/the_pile_pile_cc_val_loss"]) for row in csv.DictReader(file)]
    return weights / weights.sum(axis=1, keepdims=True), np.array(loss)


# --- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("lightgbm", "extra-trees", "loglinear"))
def test_one_predictor_per_component_ranks_their_sum_better(name: str) -> None:
    # Each of eight losses falls with its own domain, steeply: their mean is nearly flat.
    w, new = mixtures(40, k=8, alpha=0.3), mixtures(300, k=8, seed=1, alpha=0.3)
    losses, new_losses = np.exp(-6 * np.sqrt(w)), np.exp(-6 * np.sqrt(new))
    whole, parts = make(name), ComponentPredictor(lambda: make(name), np.full(8, 1 / 8))
    whole.fit(w, losses.mean(axis=1))
    parts.fit(w, losses)
    truth = new_losses.mean(axis=1)
    assert rank(parts, new, truth) > rank(whole, new, truth) + 0.02


def test_the_spread_of_a_sum_counts_how_its_components_move_together() -> None:
    rng = np.random.default_rng(0)
    w, noise = mixtures(60), 0.1 * rng.normal(size=60)
    make_part = lambda: make("loglinear")  # noqa: E731
    same = np.stack([law(w) + noise] * 2, axis=1)
    both, one = ComponentPredictor(make_part, np.array([0.5, 0.5])), make("loglinear")
    both.fit(w, same)
    one.fit(w, same[:, 0])
    np.testing.assert_allclose(both.predict(w)[1], one.predict(w)[1], rtol=1e-6)
    opposed = ComponentPredictor(make_part, np.array([1.0, -1.0]))
    opposed.fit(w, same)
    np.testing.assert_allclose(opposed.predict(w)[1], 0.0, atol=1e-6)


def test_components_with_coefficient_zero_are_not_fitted() -> None:
    made = []

    class Counting(LightGBMPredictor):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    predictor = ComponentPredictor(Counting, np.array([1.0, 0.0]))
    predictor.fit(mixtures(20), np.random.default_rng(0).normal(size=(20, 2)))
    assert len(made) == 1


def test_a_single_run_of_components_leaves_the_spread_open() -> None:
    predictor = ComponentPredictor(lambda: make("lightgbm"), np.array([0.5, -0.5]))
    predictor.fit(mixtures(1), np.array([[4.0, 2.0]]))
    mean, std = predictor.predict(mixtures(3, seed=1))
    np.testing.assert_array_equal(mean, 1.0)
    assert np.all(np.isinf(std))


def test_the_spread_grows_with_the_distance_to_what_was_seen() -> None:
    w = np.vstack([mixtures(60, alpha=30.0), mixtures(20, alpha=0.3)])
    predictor = make("lightgbm")
    predictor.fit(w, law(w))
    near, far = predictor.predict(w[:1])[1], predictor.predict(np.eye(6)[5:])[1]
    assert far > near


def test_distance_is_that_of_the_roots() -> None:
    a, b = mixtures(4), mixtures(7, seed=1)
    direct = np.linalg.norm(np.sqrt(a)[:, None] - np.sqrt(b)[None], axis=2).min(axis=1)
    np.testing.assert_allclose(nearest(np.sqrt(a), np.sqrt(b)), direct, atol=1e-7)


def test_a_spread_matches_the_errors_it_was_fitted_to() -> None:
    rng = np.random.default_rng(0)
    w, y = mixtures(200), rng.normal(size=200)
    spread = Spread(lambda a, b: lambda c: np.full(len(c), b.mean()), w, y)
    assert 0.9 < np.sqrt(np.mean(spread(w) ** 2)) < 1.1


@pytest.mark.parametrize("options", [{}, {"extra_trees": True}])
def test_merged_regions_predict_what_the_trees_predict(options: dict[str, Any]) -> None:
    w = mixtures(80)
    predictor = LightGBMPredictor(iterations=200, stop_after=0, **options)
    predictor.fit(w, law(w))
    booster = predictor._boost(w, law(w))
    forest = Forest(booster)
    forest._regions = regions(booster)
    pool = np.vstack([mixtures(300, seed=1), w])  # on both sides of, and at, the thresholds
    np.testing.assert_allclose(forest._sum(pool), booster.predict(pool), atol=1e-12)


def test_no_fit_is_written_as_text_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(lightgbm.Booster, "model_from_string")
    predictor = LightGBMPredictor(iterations=30)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    predictor.fit(weights, weights @ [1.0, 2.0, 3.0])
    assert np.isfinite(predictor.predict(weights)).all()


def test_a_large_pool_is_ranked_as_a_small_one() -> None:
    w, pool = mixtures(80), mixtures(6000, seed=1)
    predictor = make("lightgbm")
    predictor.fit(w, law(w))
    parts = [expected(predictor, pool[i : i + 1000]) for i in range(0, 6000, 1000)]
    np.testing.assert_allclose(expected(predictor, pool), np.concatenate(parts), atol=1e-12)


def test_the_mixing_law_goes_straight_on_beyond_what_it_was_fitted_on() -> None:
    """Sixteen runs may bend it; at a vertex it must not promise a million standard deviations."""
    vertices = np.eye(17)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights = rng.dirichlet(np.full(17, 2.0), 16)
        scores = np.exp(3 * weights[:, 0]) + 0.3 * rng.standard_normal(16)
        predictor = make("loglinear")
        predictor.fit(weights, scores)
        far = np.abs(predictor.predict(vertices)[0] - scores.mean()) / scores.std()
        assert far.max() < 50
        np.testing.assert_allclose(predictor.predict(vertices)[0], predictor.mean(vertices))


@pytest.mark.parametrize("failing", [1, 3])
def test_a_gp_whose_fit_leaves_the_possible_still_ranks(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gp = pytest.importorskip("climb_opt.predictors.gp")
    real, calls = gp.fit_gpytorch_mll_scipy, 0

    def sometimes(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= failing:
            raise gp.NotPSDError("Matrix not positive definite")
        return real(*args, **options)

    monkeypatch.setattr(gp, "fit_gpytorch_mll_scipy", sometimes)
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), 60)
    scores = np.exp(-3.0 * np.sqrt(weights[:, 0])) + weights[:, 1]
    model = gp.GPPredictor()
    model.fit(weights[:40], scores[:40])
    assert calls == min(failing + 1, 3)
    assert spearmanr(model.mean(weights[40:]), scores[40:]).statistic > 0.9


def test_the_gp_fits_the_run_that_once_stopped_a_study(tables: Path) -> None:
    gp = pytest.importorskip("climb_opt.predictors.gp")
    rows = np.sort(np.random.default_rng([4, 64]).permutation(512)[:64])
    weights = np.loadtxt(tables / "regmix/train_mixture_1m.csv", delimiter=",", skiprows=1)[:, 1:]
    with (tables / "regmix/train_pile_loss_1m.csv").open(newline="") as file:
        losses = np.array(
            [float(r["metric/the_pile_ubuntu_irc_val_loss"]) for r in csv.DictReader(file)]
        )
    model = gp.GPPredictor()
    model.fit(weights[rows], losses[rows])
    held = np.setdiff1d(np.arange(512), rows)
    assert spearmanr(model.mean(weights[held]), losses[held]).statistic > 0.9
