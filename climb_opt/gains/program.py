"""TiKMiX-D: from the influence of domains to a mixture (arXiv 2508.17677, Section 3.3).

    minimise   spread * std(q) - gain * sum_i q_i - entropy * H(w)
    such that  S w >= S p  for every task, and w is a mixture of the space

with q_i = (S w)_i / max_j S_ij and p the mixture that S was measured at. The program is convex: a
norm of an affine map, a linear term and the negative entropy over a polytope, so SLSQP's answer
does not hang on where it starts. It starts at p, which keeps every constraint; the paper's uniform
mixture may not.

Notation: n tasks, K domains, S (n, K), w (K,).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from climb_opt.simplex import MixtureSpace

log = logging.getLogger(__name__)

TINY = 1e-8  # of the largest gain: below it none divides (the paper's guard, made relative)
SLACK = 1e-6  # of a task's largest gain: by as much a constraint may be missed by rounding
STEPS = 500


@dataclass(frozen=True)
class Program:
    """The paper's weights: all are 1 there, and none was varied."""

    spread: float = 1.0  # of the standard deviation over the tasks: gain all alike
    gain: float = 1.0  # of the tasks' sum
    entropy: float = 1.0  # of the mixture's entropy: stay diverse

    RANGES: ClassVar = dict.fromkeys(("spread", "gain", "entropy"), (0,))


@dataclass(frozen=True)
class Solved:
    """The mixture (K,), and what the program says of it.

    `uniform` is whether the uniform mixture would have kept the constraints.
    """

    weights: np.ndarray
    uniform: bool
    failed: str = ""


def solve(
    space: MixtureSpace,
    gains: np.ndarray,
    *,
    shares: np.ndarray | None = None,
    prior: np.ndarray | None = None,
    program: Program = Program(),
) -> Solved:
    """The program's mixture: every task gains at least what it does at the prior.

    Args:
        gains: S (n, K), positive where a domain helps a task.
        shares: of the tasks (n,) in the score; alike where none are given.
        prior: the mixture (K,) that S was measured at; the space's own.
    """
    from scipy.optimize import minimize  # 60 ms, for those who have gains

    start = space.project(space.prior if prior is None else prior)
    scaled = gains / units(gains)[:, None]
    weights = np.ones(len(gains)) if shares is None else shares * len(gains) / shares.sum()
    floor = scaled @ start
    found = minimize(
        _cost,
        start,
        (scaled, weights, program),
        method="SLSQP",
        jac=True,
        bounds=list(zip(space.lower, space.upper, strict=True)),
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones_like(w)},
            {"type": "ineq", "fun": lambda w: scaled @ w - floor, "jac": lambda w: scaled},
        ],
        options={"maxiter": STEPS, "ftol": 1e-10},
    )
    best = _feasible(space, found.x, start, scaled)
    failed = "" if found.success else str(found.message)
    if _cost(best, scaled, weights, program)[0] > _cost(start, scaled, weights, program)[0]:
        best, failed = start, failed or "nothing is better than the prior"
    if failed:
        log.warning("TiKMiX's program ended early (%s); its best mixture is kept.", failed)
    uniform = space.project(np.full(len(space), 1.0 / len(space)))
    kept = bool(np.all(scaled @ uniform >= floor - SLACK))
    if not kept:
        log.info("The uniform mixture serves some task worse than the prior: it is no start.")
    return Solved(best, kept, failed)


def units(gains: np.ndarray) -> np.ndarray:
    """What each task's gains (n, K) are divided by (n,); tasks that no domain helps are said.

    The paper divides by max_j S_ij, which is negative where every domain harms the task and would
    turn harm into gain.
    """
    largest = gains.max(axis=1)
    if unhelped := int(np.sum(largest <= 0)):
        log.warning(
            "No domain helps %d of %d tasks: their gains are divided by the least harm.",
            *(unhelped, len(gains)),
        )
    least = TINY * max(float(np.abs(gains).max(initial=0.0)), 1e-300)
    return np.maximum(np.abs(largest), least)


def _cost(
    w: np.ndarray, scaled: np.ndarray, weights: np.ndarray, program: Program
) -> tuple[float, np.ndarray]:
    """The program's objective and its gradient (K,)."""
    q = scaled @ w
    centred = q - q.mean()
    spread = float(np.sqrt((centred**2).mean()))
    logs = np.log(np.maximum(w, 1e-12))
    value = program.spread * spread - program.gain * weights @ q + program.entropy * (w @ logs)
    # At equal gains the standard deviation has a kink; its sub-gradient 0 is taken.
    by_spread = scaled.T @ centred / (len(q) * spread) if spread > 1e-12 else np.zeros_like(w)
    slope = program.spread * by_spread - program.gain * (scaled.T @ weights)
    return float(value), slope + program.entropy * (logs + 1.0)


def _feasible(
    space: MixtureSpace, found: np.ndarray, start: np.ndarray, scaled: np.ndarray
) -> np.ndarray:
    """The last mixture on the way from the start to what was found that keeps the constraints.

    All are linear and the start keeps them, so those that do are the beginning of the way.
    """
    end = space.project(np.where(np.isfinite(found), found, start))
    short = scaled @ (start - end)  # of each task, at the end of the way
    over = short > SLACK
    reach = float((SLACK / short[over]).min()) if over.any() else 1.0
    return np.asarray(space.project(start + reach * (end - start)))
