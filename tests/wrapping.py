"""What the tests of stock samplers on the simplex share."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from climb_opt.samplers.encodings import make_encoding
from climbing import SPACE, TARGET


def loss(weights: np.ndarray) -> float:
    return float(np.abs(weights - TARGET).sum())


def stock_mixtures(
    base: BaseSampler, encoding: str, n: int, storage: BaseStorage | None = None
) -> np.ndarray:
    """What `base` proposes when it searches the free coordinates itself, without climb_opt."""
    coded = make_encoding(encoding, SPACE)
    free = coded.distributions()
    found = []

    def objective(trial: optuna.Trial) -> float:
        u = [trial.suggest_float(name, d.low, d.high) for name, d in free.items()]
        found.append(SPACE.project(coded.decode(np.array(u))))
        return loss(found[-1])

    study = optuna.create_study(sampler=base, storage=storage)
    study.optimize(objective, n_trials=n)
    return np.array(found)
