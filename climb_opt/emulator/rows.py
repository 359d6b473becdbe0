"""A pool: searching the rows of a table of real runs, with no emulator and so no bias of one.

`RowSpace` is a space whose every draw and every projection is a row, so that any sampler searches
the rows unchanged; `RowLadder` scores them, on each rung of a ladder of real model sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from climb_opt.emulator.ladders import LadderSource
from climb_opt.emulator.tables import Runs, coefficients_of
from climb_opt.errors import UserError
from climb_opt.ladder import Ladder, Rung
from climb_opt.simplex import MixtureSpace
from climb_opt.text import amount

TOKENS = 0.1  # how far, of the tokens asked for, a run may have been stopped from them
SIZES = 0.01  # the same of parameters
DECIMALS = 6  # of weights: mixtures equal up to them are one
PER_PARAMETER = 6  # FLOPs of a token for each parameter, forward and backward


class RowSpace(MixtureSpace):
    """A space of n mixtures: whatever is projected goes to the nearest, draws are any of them.

    Nearest by Hellinger distance, the first where several are as near.

    Args:
        mixtures: the rows, domain -> weight; a domain left out weighs 0.
        prior: domain -> amount; by default the rows' mean.

    Raises:
        UserError: no row, a row twice, a row that is no mixture of the prior's domains.

    >>> space = RowSpace([{"web": 1.0}, {"web": 0.5, "code": 0.5}, {"code": 1.0}])
    >>> space.mixture(space.project([0.6, 0.4]))
    {'code': 0.5, 'web': 0.5}
    >>> space.sample_mixed(np.random.default_rng(0), 4).shape
    (4, 2)
    """

    def __init__(
        self, mixtures: Sequence[Mapping[str, float]], *, prior: Mapping[str, float] | None = None
    ) -> None:
        if not mixtures:
            raise UserError("A space of rows needs at least one mixture.")
        if prior is None:
            domains = dict.fromkeys(d for row in mixtures for d in row)
            prior = {d: float(np.mean([row.get(d, 0.0) for row in mixtures])) for d in domains}
        super().__init__(prior)
        rows = [self.weights(row, what=f"Row {i}") for i, row in enumerate(mixtures)]
        self.rows: np.ndarray = np.array(rows)
        self._roots = np.sqrt(self.rows)
        _, first = np.unique(np.round(self.rows, DECIMALS), axis=0, return_index=True)
        if len(first) < len(rows):
            twice = sorted(set(range(len(rows))) - set(first.tolist()))[0]
            raise UserError(f"Row {twice} is a mixture that an earlier row holds, too.")

    def __repr__(self) -> str:
        return f"{super().__repr__()} of {len(self.rows)} rows"

    def nearest(self, weights: np.ndarray) -> np.ndarray:
        """The number of the row nearest to each mixture (..., K), shape (...)."""
        w = np.asarray(weights, dtype=float)
        flat = np.sqrt(np.maximum(w, 0.0)).reshape(-1, len(self))
        parts = [  # in parts, for pools of a hundred thousand candidates
            np.argmax(part @ self._roots.T, axis=1)
            for part in np.array_split(flat, 1 + len(flat) * len(self.rows) // 2**22)
        ]
        return np.concatenate(parts).reshape(w.shape[:-1])

    def project(self, weights: np.ndarray) -> np.ndarray:
        """The row (..., K) nearest to each mixture of `weights` (..., K)."""
        return self.rows[self.nearest(super().project(weights))]

    def sample(self, rng: np.random.Generator, n: int, **concentration: Any) -> np.ndarray:
        """n rows (n, K), each as likely as any other, whatever the concentration."""
        return self.rows[rng.integers(len(self.rows), size=n)]

    def sample_mixed(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n rows (n, K), each as likely as any other."""
        return self.sample(rng, n)

    def capped(self, upper: np.ndarray) -> MixtureSpace:
        """The rows within `upper` (K,); all, where none is."""
        within = self.rows[np.all(self.rows <= upper + 10.0**-DECIMALS, axis=1)]
        rows = within if len(within) else self.rows
        return RowSpace([self.mixture(row) for row in rows], prior=self.mixture(self.prior))


@dataclass(frozen=True, eq=False)
class RowLadder(LadderSource):
    """What each row of a `RowSpace` scored on each rung; made by `pool`.

    Args:
        space: the rows.
        ladder: the rungs.
        values: scores (R, n), lower is better.
        noise: further noise in standard deviations of the rows' scores at the target, one number or
            one for each rung; the table's own is in its values.
        label: what the score is, in words.
    """

    space: RowSpace
    ladder: Ladder
    values: np.ndarray
    noise: float | tuple[float, ...] = 0.0
    label: str = "score"

    def truth(self, weights: np.ndarray, rung: int | None = None) -> np.ndarray:
        """See `LadderSource`; of the nearest rows."""
        own = self.values[self.ladder.target if rung is None else rung]
        return np.asarray(own[self.space.nearest(weights)])

    def reference(self) -> np.ndarray:
        """All rows (n, K)."""
        return self.space.rows

    def optimum(self) -> tuple[np.ndarray, float]:
        """The best row (K,) at the target, and its score there."""
        best = int(np.argmin(self.values[-1]))
        return self.space.rows[best], float(self.values[-1, best])

    def quality(self) -> str:
        """How many rows, and the rungs."""
        rungs = f"; {self.described()}" if len(self.ladder) > 1 else ""
        return f"{self.label} of {len(self.space.rows)} real runs{rungs}"


def pool(
    runs: Runs,
    rungs: Sequence[tuple[float, float]],
    score: Mapping[str, float] | Sequence[str] | None = None,
    noise: float | tuple[float, ...] = 0.0,
) -> RowLadder:
    """The mixtures that were run on every rung, to be searched row by row.

    Args:
        runs: of `read_runs`.
        rungs: (parameters, tokens) of each, cheapest first; the last is the target. A run counts
            that has this size within 1 % and, of its points, the nearest within 10 % of the tokens.
            A run costs 6 x parameters x tokens.
        score: result -> coefficient (negative where higher is better), or results to average;
            by default all. A point that lacks one of them counts for nothing.
        noise: as in `RowLadder`.

    Raises:
        UserError: an unknown result, a rung of which there is no run, fewer than two mixtures on
            every rung, rungs out of order of cost.
    """
    names, coefficients = coefficients_of(runs.names, score)
    scores = runs.results[:, [runs.names.index(name) for name in names]] @ coefficients
    steps, found = [], []
    for parameters, tokens in rungs:
        rows = _runs_at(runs, np.isfinite(scores), parameters, tokens)
        means = [float(np.mean(part[list(rows.values())])) for part in (runs.sizes, runs.tokens)]
        name = f"{amount(means[0])} on {amount(means[1])} tokens"
        flops = PER_PARAMETER * means[0] * means[1]
        steps.append(Rung(name, flops, round(means[1]), round(means[0])))
        found.append(rows)
    shared = [key for key in found[-1] if all(key in rows for rows in found)]
    if len(shared) < 2:
        raise UserError(f"{len(shared)} mixtures were run on every rung; at least 2 are needed.")
    mixtures = [dict(zip(runs.domains, runs.weights[found[-1][k]], strict=True)) for k in shared]
    values = np.array([[scores[rows[key]] for key in shared] for rows in found])
    label = names[0] if len(names) == 1 else f"{len(names)} results"
    return RowLadder(RowSpace(mixtures), Ladder(tuple(steps)), values, noise, label)


def _runs_at(
    runs: Runs, scored: np.ndarray, parameters: float, tokens: float
) -> dict[tuple[float, ...], int]:
    """Mixture -> of the `scored` (n,) points of its run of this size, the nearest to so many
    tokens."""
    sized = scored & (np.abs(runs.sizes / parameters - 1.0) <= SIZES)
    near = sized & (np.abs(runs.tokens / tokens - 1.0) <= TOKENS)
    if not near.any():
        have = runs.tokens[sized] if sized.any() else runs.sizes
        listed = ", ".join(amount(x) for x in np.unique(np.round(have, -6)))
        what = f"{amount(tokens)} tokens" if sized.any() else f"{amount(parameters)} parameters"
        raise UserError(f"No run of {what} in the table; it has {listed}.")
    best: dict[tuple[float, ...], int] = {}
    gap = np.abs(runs.tokens - tokens)
    for row in np.flatnonzero(near).tolist():
        key = tuple(np.round(runs.weights[row], DECIMALS).tolist())
        if key not in best or gap[row] <= gap[best[key]]:
            best[key] = row
    return best
