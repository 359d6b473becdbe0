"""The four models an emulator averages: weights (n, K) -> values (n,)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from climb_opt.extras import need
from climb_opt.gp.fit import fit
from climb_opt.gp.model import GaussianProcess

NETWORKS = 3
FOREST = 3
Model = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class GaussianModel:
    process: GaussianProcess

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        return self.process.mean(np.sqrt(weights))


@dataclass(frozen=True)
class Law:
    """floor + exp(level + slopes . sqrt(w))"""

    floor: float
    level: float
    slopes: np.ndarray

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        return np.asarray(self.floor + np.exp(self.level + np.sqrt(weights) @ self.slopes))


@dataclass(frozen=True)
class AveragedModel:
    members: Sequence[object]  # with predict(features)
    centre: float
    spread: float
    root: bool

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        features = np.sqrt(weights) if self.root else weights
        values = [m.predict(features) for m in self.members]  # type: ignore[attr-defined]
        return np.asarray(self.centre + self.spread * np.mean(values, axis=0))


def ensemble(models: Sequence[Model], weights: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean([model(weights) for model in models], axis=0))


def fit_models(weights: np.ndarray, y: np.ndarray, seed: int) -> list[Model]:
    return [
        GaussianModel(fit(np.sqrt(weights), y)),
        _fit_law(weights, y),
        _fit_networks(weights, y, seed),
        _fit_forest(weights, y, seed),
    ]


def _fit_law(weights: np.ndarray, y: np.ndarray) -> Law:
    roots, low, spread = np.sqrt(weights), float(y.min()), float(np.ptp(y)) or 1.0
    z = (y - low) / spread
    start = np.concatenate([[-0.5, 0.0], np.full(roots.shape[1], 0.0)])

    def residuals(theta: np.ndarray) -> np.ndarray:
        fitted = theta[0] + np.exp(np.minimum(theta[1] + roots @ theta[2:], 30.0))
        return np.concatenate([fitted - z, 0.01 * theta[2:]])  # a ridge for domains rarely drawn

    theta = least_squares(residuals, start, method="trf", max_nfev=300).x
    return Law(low + spread * theta[0], theta[1] + float(np.log(spread)), theta[2:])


def _fit_networks(weights: np.ndarray, y: np.ndarray, seed: int) -> AveragedModel:
    regressor = need("sklearn.neural_network", "Fitting an emulator").MLPRegressor
    from sklearn.exceptions import ConvergenceWarning

    centre, spread = float(y.mean()), float(y.std()) or 1.0
    members = []
    for member in range(NETWORKS):
        network = regressor(
            hidden_layer_sizes=(64, 64), solver="lbfgs", alpha=0.3, max_iter=400, tol=1e-4,
            max_fun=20_000, random_state=seed + member, activation="tanh",
        )  # fmt: skip
        # `max_iter` is meant as early stopping: that it was reached is no news.
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            members.append(network.fit(np.sqrt(weights), (y - centre) / spread))
    return AveragedModel(members, centre, spread, root=True)


def _fit_forest(weights: np.ndarray, y: np.ndarray, seed: int) -> AveragedModel:
    import lightgbm

    centre, spread = float(y.mean()), float(y.std()) or 1.0
    members = []
    for member in range(FOREST):
        options = {
            "objective": "regression", "learning_rate": 0.03, "num_leaves": 15,
            "min_data_in_leaf": 3, "extra_trees": True, "verbosity": -1, "num_threads": 1,
            "seed": seed + member, "feature_fraction": 0.8, "deterministic": True,
            "force_row_wise": True,
        }  # fmt: skip
        data = lightgbm.Dataset(weights, (y - centre) / spread, params={"verbosity": -1})
        members.append(lightgbm.train(options, data, num_boost_round=600))
    return AveragedModel(members, centre, spread, root=False)
