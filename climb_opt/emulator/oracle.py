"""`Emulator`: a function fitted on a table of real runs, to search on instead of training.

The mean of four unlike models, so that no sampler's own model is the truth it is judged by: a
Gaussian process and a mixing law on square roots of the weights, small neural networks, extremely
randomised boosted trees. Its quality is cross-validated and stays attached.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import logging
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from climb_opt.emulator.lowest import lowest
from climb_opt.emulator.models import Model, ensemble, fit_models
from climb_opt.emulator.tables import Table, coefficients_of
from climb_opt.errors import UserError
from climb_opt.simplex import MixtureSpace
from climb_opt.statistics import spearman
from climb_opt.threads import one_blas_thread

logger = logging.getLogger(__name__)

# What a cached emulator is made of: one that other code or other libraries made is fitted anew.
CODE = ("gp.fit", "gp.model", "gp.views", "emulator.models", "emulator.oracle", "simplex")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "lightgbm")
FOLDS = 4


@dataclass(frozen=True)
class Quality:
    """Cross-validated on rows the models did not see: rank correlation and explained variance."""

    rho: float
    r2: float
    rows: int

    def __str__(self) -> str:
        return f"{FOLDS}-fold rho {self.rho:.3f}, R2 {self.r2:.3f} on {self.rows} runs"


class Emulator:
    """Scores of mixtures, from models fitted on a table; lower is better. Made by `fit`."""

    def __init__(
        self,
        space: MixtureSpace,
        names: Sequence[str],
        coefficients: np.ndarray,
        models: Sequence[Sequence[Model]],
        known: np.ndarray,
        cross_validated: Quality,
    ) -> None:
        self.space, self.names, self.coefficients = space, tuple(names), coefficients
        self.cross_validated = cross_validated
        self._models, self._known = models, known
        self._reach = float(np.quantile(_nearest(known, known, skip_self=True), 0.99))
        self._optimum: np.ndarray | None = None

    @classmethod
    @one_blas_thread()
    def fit(
        cls,
        table: Table,
        score: Mapping[str, float] | Sequence[str],
        *,
        prior: Mapping[str, float] | None = None,
        components: bool = False,
        seed: int = 0,
        cache: Path | str | None = None,
    ) -> Emulator:
        """Fit on every row of `table`, and on four folds for the quality.

        Args:
            score: result -> coefficient (negative where higher is better), or results to average.
            prior: domain -> amount; by default the mean of the table's mixtures.
            components: one model per result, so that `components` gives them all; otherwise one
                model of the score.
            cache: a folder for fitted emulators (pickles: open only your own).

        Raises:
            UserError: an unknown result or domain, too few rows, or scikit-learn is missing.
        """
        names, coefficients = coefficients_of(table.names, score)
        parts = np.stack([table.result(name) for name in names], axis=1)
        if not components:
            parts, names = (parts @ coefficients)[:, None], ("score",)
            coefficients = np.ones(1)
        if len(table) < 4 * FOLDS:
            raise UserError(f"A table of {len(table)} runs is too small: give {4 * FOLDS} or more.")
        space = MixtureSpace(prior if prior is not None else table.mean_weights())
        if set(space.domains) != set(table.domains):
            odd = sorted(set(space.domains) ^ set(table.domains))[0]
            raise UserError(f"The prior and the table must have the same domains, unlike {odd!r}.")
        weights = table.weights[:, [table.domains.index(domain) for domain in space.domains]]
        path = _cache_path(cache, space, weights, parts, coefficients, seed)
        if path is not None and path.is_file():
            return pickle.loads(path.read_bytes())
        quality = _cross_validate(weights, parts, coefficients, seed)
        models = [fit_models(weights, column, seed) for column in parts.T]
        emulator = cls(space, names, coefficients, models, weights, quality)
        logger.info("Fitted an emulator: %s.", emulator.quality())  # finds the optimum, too
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(emulator))
        return emulator

    def components(self, weights: np.ndarray) -> np.ndarray:
        """The results (n, C) of mixtures (n, K)."""
        return np.stack([ensemble(models, weights) for models in self._models], axis=1)

    def score(self, weights: np.ndarray) -> np.ndarray:
        """The score (n,) of mixtures (n, K)."""
        return np.asarray(self.components(weights) @ self.coefficients)

    def extrapolates(self, weights: np.ndarray) -> np.ndarray:
        """Which mixtures (n,) are farther from every row than rows are from each other.

        Hellinger distance to the nearest row, against the 99th percentile of the rows' own.
        """
        return np.asarray(_nearest(weights, self._known) > self._reach)

    def quality(self) -> str:
        """One line that goes with every result."""
        weights, _ = self.optimum()
        beyond = bool(self.extrapolates(weights[None])[0])
        where = "beyond the rows: extrapolated" if beyond else "among the rows"
        return f"emulator, {self.cross_validated}; optimum {where}"

    def optimum(self) -> tuple[np.ndarray, float]:
        """The best mixture (K,) that a long search of the emulator found, and its score."""
        if self._optimum is None:
            self._optimum = lowest(self.score, self.space, self._known)
        return self._optimum, float(self.score(self._optimum[None])[0])


# --- quality and optimum -------------------------------------------------------------------------


def _cross_validate(
    weights: np.ndarray, parts: np.ndarray, coefficients: np.ndarray, seed: int
) -> Quality:
    y = parts @ coefficients
    fold = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    predicted = np.empty(len(y))
    for f in range(FOLDS):
        seen, unseen = fold != f, fold == f
        columns = [
            ensemble(fit_models(weights[seen], c[seen], seed), weights[unseen]) for c in parts.T
        ]
        predicted[unseen] = np.stack(columns, axis=1) @ coefficients
    r2 = 1.0 - float(((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return Quality(spearman(y, predicted), r2, len(y))


def _nearest(weights: np.ndarray, known: np.ndarray, skip_self: bool = False) -> np.ndarray:
    a, b = np.sqrt(np.atleast_2d(weights)), np.sqrt(known)
    distance = np.sqrt(np.maximum(2.0 - 2.0 * a @ b.T, 0.0))
    if skip_self:
        np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.min(axis=1))


def _cache_path(
    cache: Path | str | None, space: MixtureSpace, *parts: np.ndarray | int
) -> Path | None:
    if cache is None:
        return None
    digest = hashlib.sha256(repr((_made_by(), space.domains)).encode())
    for part in (space.prior, *parts):
        digest.update(np.round(np.asarray(part, dtype=float), 10).tobytes())  # not the last bits
    return Path(cache) / f"emulator-{digest.hexdigest()[:16]}.pickle"


@functools.cache
def _made_by() -> str:
    sources = [inspect.getsource(sys.modules[f"climb_opt.{name}"]) for name in CODE]
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    return hashlib.sha256(repr((sources, versions)).encode()).hexdigest()
