"""How good predictions were, judged only on trials that had not been seen.

What the study stored of its expectation, before the trial ran, is taken as it is. Trials without a
forecast (the first few, imported ones, those of earlier versions) are predicted from the rounds
before theirs, as the search itself had to; those of the first round, which nothing comes before, by
cross-validation within it. So a point far off the diagonal is an error that the search could have
made, not a residual of a fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from climb_opt.attributes import FORECAST
from climb_opt.predictors.base import Predictor
from climb_opt.reports.effects import SURE
from climb_opt.reports.snapshot import Snapshot
from climb_opt.samplers.climb import fit_predictor
from climb_opt.statistics import spearman

FOLDS = 5
FEWEST = 4  # finished trials below which a prediction says nothing


@dataclass(frozen=True)
class Predictions:
    """Unseen trials with what was predicted for them, in the study's own units.

    Shapes (m,): `rows` of the snapshot's history, `mean`, `std`, `measured`, `rounds` (-1: outside
    the plan). `later` of them had no forecast and are predicted now.
    """

    rows: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    measured: np.ndarray
    rounds: np.ndarray
    later: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """All arrays, in their order."""
        return self.rows, self.mean, self.std, self.measured, self.rounds

    def where(self, keep: np.ndarray) -> Predictions:
        """The part that the mask `keep` (m,) picks."""
        return Predictions(*(column[keep] for column in self.columns))

    def rank_correlation(self) -> float:
        """Spearman's rank correlation; NaN below three points or for constant values."""
        return spearman(self.mean, self.measured) if len(self) > 2 else float("nan")

    def error(self) -> float:
        """Root mean squared error, in the score's unit."""
        return float(np.sqrt(np.mean((self.mean - self.measured) ** 2))) if len(self) else np.nan

    def held(self) -> int:
        """How many results lie inside their predicted 90 % interval."""
        return int(np.sum(np.abs(self.mean - self.measured) <= SURE * self.std))


def predict_unseen(snapshot: Snapshot, make: Callable[[], Predictor]) -> Predictions:
    """Predictions for every trial from trials before it, or at least before its round.

    Args:
        make: a fresh predictor, for each fit.
    """
    n = len(snapshot.judged)
    stored = [trial.system_attrs.get(FORECAST) for trial in snapshot.judged.trials]
    mean, std = np.full(n, np.nan), np.full(n, np.nan)
    for index in range(len(snapshot.plan.rounds)):
        rows = np.flatnonzero(snapshot.rounds == index)
        earlier = np.flatnonzero(snapshot.rounds < index)
        for train, held in _folds(earlier, rows) if index == 0 else [(earlier, rows)]:
            held = held[[stored[row] is None for row in held]]  # the others tell it themselves
            if len(held) and len(train) >= FEWEST:
                model = fit_predictor(snapshot.judged.rows(train), make)
                expected, std[held] = model.predict(snapshot.judged.weights[held])
                mean[held] = snapshot.sign * expected
    for row, forecast in enumerate(stored):
        if forecast is not None:
            mean[row], std[row] = forecast["mean"], forecast["measured"]
    every = Predictions(np.arange(n), mean, std, snapshot.measured, snapshot.rounds)
    found = every.where(np.isfinite(mean))
    return replace(found, later=sum(stored[row] is None for row in found.rows))


def _folds(always: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each fold of `rows`, what is learnt from and what is held out."""
    folds = min(FOLDS, len(rows))
    for fold in range(folds):
        held = rows[fold::folds]
        yield np.concatenate([always, np.setdiff1d(rows, held)]), held
