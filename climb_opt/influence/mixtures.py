"""TiKMiX-M: measure mixtures by themselves, learn from them, search what was learnt (Section 3.4).

At one model gradients add up, so what a mixture lowers a target by *is* S w, and where the two
measurements differ it is by the noise of their samples. Mixtures around the prior differ by less
than that, so that a correlation far below 1 says nothing against S: what noise alone leaves of it
is printed beside it. There is no interaction of domains to learn; this is here because the paper
has it.

The paper leaves the search's sizes open, and anneals the concentration of its Dirichlet draws from
large to small, calling large ones global; large ones are local, so here it rises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from climb_opt import lookup
from climb_opt.draws import dirichlet
from climb_opt.errors import UserError
from climb_opt.gains.program import units
from climb_opt.influence.measure import correlation
from climb_opt.simplex import MixtureSpace

REACH = (0.5, 2.0)  # times the prior: the box of the Latin hypercube
STEPS, DRAWS, TOP = 12, 2_000, 32
CONCENTRATION = (20.0, 5_000.0)  # of the first and last step's draws
MOST_TRIES = 200
FEWEST = 5  # mixtures below which no interval of a correlation is less than all of it
SURE = 1 - 1e-9


def candidates(space: MixtureSpace, n: int, seed: int) -> np.ndarray:
    """n mixtures (n, K) around the prior: a Latin hypercube of [.5, 2] times it, normalised.

    Those that normalising moves out of the box, or that the space does not allow, are drawn anew.

    Raises:
        UserError: the bounds allow hardly any.
    """
    prior = space.project(space.prior)
    low, high = prior * REACH[0], prior * REACH[1]
    draw = qmc.LatinHypercube(len(space), seed=np.random.default_rng([seed, 11]))
    kept = np.empty((0, len(space)))
    for _ in range(MOST_TRIES):
        rows = low + (high - low) * draw.random(n)
        rows /= rows.sum(axis=1, keepdims=True)
        inside = np.all((rows >= low) & (rows <= high), axis=1) & space.contains(rows)
        kept = np.concatenate([kept, rows[inside]])
        if len(kept) >= n:
            return kept[:n]
    raise UserError(
        f"influence.mixtures: of {MOST_TRIES * n} draws around the prior the space's bounds allow "
        f"{len(kept)}; leave mixtures out, or widen the bounds."
    )


@dataclass(frozen=True)
class Additivity:
    """Correlation of mixtures measured by themselves with what their domains add up to, and
    between what values it is in nine cases of ten where gradients add up exactly; None: too few.
    """

    correlation: float | None
    by_noise: tuple[float, float] | None


def added_up(rows: np.ndarray, domains: np.ndarray, mixed: np.ndarray) -> Additivity:
    """How far measurements of one target add up, and how far they can.

    What two halves of a sample differ by says how noisy their mean is; what that adds to the
    spread of the sums is no spread of mixtures.

    Args:
        rows: mixtures (m, K).
        domains: S of each domain, from both halves of its sample, (2, K); `mixed` (2, m) the same
            of the mixtures.

    >>> rows = np.array([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5], [0.4, 0.6], [0.3, 0.7]])
    >>> domains, noise = np.array([[0.0, 9.0], [0.0, 11.0]]), np.array([3.0, -1.0, -2.0, 0.0, 1.0])
    >>> found = added_up(rows, domains, np.stack([rows @ [0, 10] + noise, rows @ [0, 10]]))
    >>> round(found.correlation, 2), [round(end, 2) for end in found.by_noise]
    (0.82, [0.17, 0.99])
    """
    sums = rows @ domains.mean(axis=0)
    found, most = correlation(sums, mixed.mean(axis=0)), float(sums.var(ddof=1))
    if found is None or len(rows) < FEWEST:
        return Additivity(found, None)
    of_domains, of_mixtures = (np.diff(halves, axis=0)[0] ** 2 / 4 for halves in (domains, mixed))
    true = max(most - float(rows.var(axis=0, ddof=1) @ of_domains), 0.0)
    expected = true / np.sqrt(most * (true + float(of_mixtures.mean())))
    half = ndtri(0.95) / np.sqrt(len(rows) - 3)
    low, high = np.tanh(np.arctanh(min(expected, SURE)) + half * np.array([-1, 1])).tolist()
    return Additivity(found, (low, high))


def searched(
    space: MixtureSpace, gains: np.ndarray, rows: np.ndarray, measured: np.ndarray, seed: int
) -> np.ndarray:
    """The mixture (K,) with the largest learnt gain that serves every task as the prior does.

    Args:
        gains: S (n, K), oriented so that positive is better.
        rows: mixtures (m, K); `measured` (n, m) their gains, measured by themselves.
    """
    unit = units(gains)
    predictor = lookup.find("predictor", "lightgbm")()
    predictor.fit(rows, -(measured / unit[:, None]).sum(axis=0))  # predictors learn losses
    prior = space.project(space.prior)
    best, rng = prior, np.random.default_rng([seed, 12])
    for concentration in np.geomspace(*CONCENTRATION, STEPS):
        drawn = space.project(dirichlet(rng, np.tile(concentration * best + 1e-3, (DRAWS, 1))))
        drawn = drawn[np.all(gains @ (drawn - prior).T >= 0, axis=0)]
        if len(drawn):
            order = np.argsort(predictor.predict(drawn)[0], kind="stable")
            best = space.project(drawn[order[:TOP]].mean(axis=0))
    return best
