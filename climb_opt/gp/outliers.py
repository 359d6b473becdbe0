"""Scores with a long bad tail, made fit for a Gaussian process.

A run that diverged scores several times as badly as the others. A Gaussian process takes such a
jump for the slope of the whole space and promises, on the far side, scores that nothing can have
(-5 bits per byte where the best of 112 trials had 1.2: docs/notes/searching.md#draws-under-noise).
So what lies far above the median counts for less: beyond `median + REACH x (median - lower decile)`
only the logarithm of the excess is kept. Ranks stay, and so does every score on the good side;
scores without a tail stay as they are (normal ones reach this limit once in 16,000 draws).

Once a search has concentrated, most scores are alike and the ordinary ones it began with lie "far
above": the prior's own, against which the gain is counted. A model that only proposes does well to
look away from them. One that says by how much a pick is better than another mixture must not, so
for it the limit is reckoned from the scores around that mixture, where these are worse. The rest of
the tail stays tamed: a process of all of it knows less of both
(docs/notes/searching.md#what-is-promised).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from climb_opt.history import History

REACH = 3.0  # times the distance from the median to the lower decile: 3.8 sigma of normal scores
ABSURD = 100.0  # the same: no noise reaches it, and no table of real runs
FEWEST = 8  # scores below which that distance is not well known: only the absurd is a tail
STRETCH = 16  # successive scores: as many as a search begins with
AROUND = 8  # mixtures nearest to one, of which at least half are taken for ordinary
COPY = 1e-6  # Hellinger distance, squared, of a mixture that is the same
NONE = 1e-200  # a spread so small divides no score without overflow
ENDLESS = 8.0  # logarithm of an excess beyond which its size says no more: 3,000 spreads


def tame(values: np.ndarray, beyond: float = REACH, ordinary: Sequence[float] = ()) -> np.ndarray:
    """`values` (n,), lower is better, with the excess of far outliers replaced by its logarithm.

    Args:
        beyond: how far the farthest must lie, for anything to be changed.
        ordinary: scores that are no outliers unless they are absurd: the limit is reckoned from the
            worst of them where that is wider.
    """
    if not len(values):
        return values
    middle, low = float(np.median(values)), float(np.quantile(values, 0.1))
    if len(ordinary):
        most = _absurd(values)
        middle = max([middle, *(level for level in ordinary if level <= most)])
    spread = middle - low
    beyond = max(beyond, ABSURD if len(values) < FEWEST else REACH)
    if spread <= NONE or float(values.max()) <= middle + beyond * spread:
        return values
    limit = middle + REACH * spread
    size = np.log1p(np.maximum(values - limit, 0.0) / spread)
    size = np.minimum(size, ENDLESS) + np.log1p(np.maximum(size - ENDLESS, 0.0))
    return np.minimum(values, limit) + spread * size


def tamed(history: History, beyond: float = REACH, against: np.ndarray | None = None) -> History:
    """`history` with the tails of its values, and of each component, tamed; see `tame`.

    Args:
        against: mixtures (m, K) whose own scores are no outliers.
    """
    if history.rungs is not None:
        return _tamed_by_rung(history, beyond, against)

    def each(columns: np.ndarray) -> np.ndarray:
        levels = [[float(np.median(c[rows])) for rows in around] for c in columns]
        found = [tame(c, beyond, level) for c, level in zip(columns, levels, strict=True)]
        return np.stack(found, axis=1)

    around = [] if against is None else _around(history.weights, against)
    values = each(history.values.reshape(len(history), -1).T)
    components = history.components
    if components is not None and history.coefficients is not None:
        signs = np.where(history.coefficients < 0, -1.0, 1.0)  # a component may be a gain
        components = signs * each((signs * components).T)
    return replace(history, values=values.reshape(history.values.shape), components=components)


def _tamed_by_rung(history: History, beyond: float, against: np.ndarray | None) -> History:
    """Each rung's scores by themselves.

    What is ordinary among the many of a cheap rung lies far above the few of the target, which are
    mostly near its optimum. Cut on one and not on the other, it would be a rung that misleads: for
    a model that says by how much a pick is better, no tail is cut that has no absurd score in it.
    """
    assert history.rungs is not None
    beyond = beyond if against is None else ABSURD
    values, components = history.values.copy(), history.components
    components = None if components is None else components.copy()
    for rung in np.unique(history.rungs):
        rows = np.flatnonzero(history.rungs == rung)
        own = tamed(replace(history.rows(rows), rungs=None), beyond, against)
        values[rows] = own.values
        if components is not None:
            components[rows] = own.components
    return replace(history, values=values, components=components)


def _absurd(values: np.ndarray) -> float:
    """Where scores are absurd by the spread of the stretch that spreads most, mostly the first."""
    last = max(len(values) - STRETCH, 0)
    found = []
    for i in {*range(0, last, STRETCH // 2), last}:
        middle, low = np.quantile(values[i : i + STRETCH], [0.5, 0.1])
        found.append(float(middle + ABSURD * (middle - low)))
    return max(found)


def _around(weights: np.ndarray, against: np.ndarray) -> list[np.ndarray]:
    """Rows of `weights` (n, K) for each mixture: its nearest, and its own where it was tried."""
    found = []
    for root in np.sqrt(against):
        gap = ((np.sqrt(weights) - root) ** 2).sum(axis=1)
        order = np.argsort(gap, kind="stable")
        found += [order[:AROUND], np.flatnonzero(gap < COPY)]
    return [rows for rows in found if len(rows)]
