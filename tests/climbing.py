"""A small CLIMB search that the tests of ClimbSampler share."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.trial import create_trial

from climb_opt import (
    ClimbSampler,
    MixtureSpace,
)
from climb_opt.attributes import SLOT
from climb_opt.gp.hypervolume import improvement
from climb_opt.history import History
from climb_opt.view import read_history

SPACE = MixtureSpace({"web": 50.0, "code": 20.0, "math": 15.0, "wiki": 10.0, "law": 5.0})
TARGET = np.array([0.1, 0.5, 0.3, 0.05, 0.05])
ROUNDS = (8, 6, 4)
QUICK: dict[str, Any] = {"rounds": ROUNDS, "pool_size": 400, "predictor": "loglinear", "seed": 0}


def distance(trial: optuna.Trial) -> float:
    weights = SPACE.weights(SPACE.suggest(trial))
    return float(np.abs(weights - TARGET).sum())


def search(n: int = 18, study: optuna.Study | None = None, **options: Any) -> optuna.Study:
    study = study or optuna.create_study()
    study.sampler = ClimbSampler(SPACE, **{**QUICK, **options})
    study.optimize(distance, n_trials=n)
    return study


def mixtures(study: optuna.Study) -> np.ndarray:
    found = [SPACE.weights_of(t) for t in study.trials]
    return np.array([w for w in found if w is not None])


def slots(study: optuna.Study) -> list[Any]:
    return [t.user_attrs.get(SLOT) for t in study.trials]


def history_of(weights: np.ndarray, values: np.ndarray) -> History:
    study = optuna.create_study()
    for w, value in zip(weights, values, strict=True):
        study.add_trial(
            create_trial(
                params=SPACE.params(w), distributions=SPACE.distributions(), value=float(value)
            )
        )
    return read_history(study, SPACE)


class Exact:
    """A predictor that knows the truth."""

    def fit(self, weights: np.ndarray, scores: np.ndarray) -> None:
        self.sign = 1.0 if np.corrcoef(scores, self._true(weights))[0, 1] > 0 else -1.0

    def predict(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.sign * self._true(weights), np.zeros(len(weights))

    def _true(self, weights: np.ndarray) -> np.ndarray:
        return np.abs(weights - TARGET).sum(axis=1)


def volume_below(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume below `reference` (m,) that `points` (n, m) dominate."""
    total, seen = 0.0, np.empty((0, points.shape[1]))
    for point in points:
        total += float(improvement(point[None], seen, reference)[0])
        seen = np.concatenate([seen, point[None]])
    return total
