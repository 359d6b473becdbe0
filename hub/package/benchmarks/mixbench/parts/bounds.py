# Written by hub/build.py from climb_opt: change it there.
"""Bounds of a mixture's weights: read, checked, and met by scaling.

Notation: K domains, `w` weights (n, K), `lower <= w <= upper`, `p` the prior (K,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .errors import UserError, misnamed
from .written import number

SUM_TOLERANCE = 1e-9
ROUNDING = 1e-6  # of one weight, in single precision
SUMMED = 4e-15  # so near to 1 a sum of weights is solved: rounding misses it by as much
STEPS = 200


def read_bound(
    what: str, given: Mapping[str, float] | float | None, default: float, domains: Sequence[str]
) -> np.ndarray:
    """The bound (K,) that is `given` for some domains, or as one number for all.

    Raises:
        UserError: an unknown domain, or a bound outside [0, 1].
    """
    if given is None:
        return np.full(len(domains), default)
    if isinstance(given, Mapping):
        if unknown := sorted(set(given) - set(domains)):
            raise UserError(f"{what}: unknown {misnamed('domain', unknown[0], domains)}")
        bound = np.array([number(given.get(d, default), what) for d in domains])
    else:
        bound = np.full(len(domains), number(given, what))
    for domain, value in zip(domains, bound, strict=True):
        if not 0.0 <= value <= 1.0:
            raise UserError(
                f"{what}: the bound of domain {domain!r} must lie in [0, 1], but is {value}. "
                "Write 30% or 0.3 for 30 percent."
            )
    return bound


def check_weights(domains: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """The weights (K,) as an array; a `UserError` where one is not in [0, 1], rounding aside."""
    if isinstance(weights, Mapping):
        raise UserError(
            f"Weights must be an array ({len(domains)},), one a domain, but are a mapping: "
            "space.weights(mixture) makes them of one."
        )
    given = np.asarray(weights, dtype=float)
    if given.shape != (len(domains),):
        raise UserError(
            f"Weights must be an array ({len(domains)},), one a domain, but are {given.shape}."
        )
    bad = np.flatnonzero(~((given >= -ROUNDING) & (given <= 1 + ROUNDING)))
    if bad.size:
        raise UserError(
            f"Weights must be from 0 to 1, but that of {domains[bad[0]]!r} is {given[bad[0]]:.6g}. "
            "space.project(weights) moves them into the space."
        )
    return given


def check_bounds(
    domains: Sequence[str], lower: np.ndarray, upper: np.ndarray, max_epochs: float | None
) -> None:
    """Raise a `UserError` where no mixture meets the bounds; it gives the sums."""
    for domain, low, high in zip(domains, lower, upper, strict=True):
        if low > high:
            raise UserError(
                f"Domain {domain!r}: lower bound {low:.6g} exceeds upper bound {high:.6g}"
                f"{f' (max_epochs={max_epochs})' if max_epochs else ''}."
            )
    low_sum, high_sum = float(lower.sum()), float(upper.sum())
    if low_sum > 1 + SUM_TOLERANCE or high_sum < 1 - SUM_TOLERANCE:
        raise UserError(
            f"No mixture meets the bounds: lower bounds sum to {low_sum:.6g} (at most 1), "
            f"upper bounds to {high_sum:.6g} (at least 1). Widen the bounds"
            f"{', raise max_epochs or train on fewer tokens' if max_epochs else ''}."
        )


def scale_into(w: np.ndarray, lower: np.ndarray, upper: np.ndarray, p: np.ndarray) -> np.ndarray:
    """clip(s w, lower, upper) with the s per row that makes the sum 1, exact up to rounding."""
    # Where all non-zero weights together cannot reach 1, a hint of prior, then of uniform, opens
    # the other domains; elsewhere zeros stay exact.
    stuck = np.where(w > 1e-20, upper, lower).sum(axis=1) < 1.0
    w = np.where(stuck[:, None], w + 1e-13 * p + 1e-22, w)
    scaled = np.clip(scales(w, lower, upper)[:, None] * w, lower, upper)
    # That leaves ~1e-15; give the rest to weights with room on the right side.
    gap = 1.0 - scaled.sum(1, keepdims=True)
    room = np.where(gap > 0, np.where(w > 0, upper - scaled, 0.0), scaled - lower)
    total = room.sum(1, keepdims=True)
    scaled += gap * room / np.where(total > 0, total, 1.0)
    return np.clip(scaled, lower, upper)


def scales(w: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The s (n,) with which clip(s w, lower, upper) sums to 1; bounds of all rows, or of each.

    Between two weights that meet their bounds the sum is linear in s: Newton's steps find s in
    about six. A step that leaves the range or gains little is one that halves the range instead.
    """
    s, low, high = np.ones(len(w)), np.full(len(w), np.exp(-60.0)), np.full(len(w), np.exp(60.0))
    missed, rows = np.full(len(w), np.inf), np.arange(len(w))  # not solved yet
    for _ in range(STEPS):
        at, some = s[rows], w[rows]
        scaled = at[:, None] * some
        limits = (b if b.ndim == 1 else b[rows] for b in (lower, upper))
        clipped = np.clip(scaled, *limits)
        gap, slope = 1.0 - clipped.sum(1), np.where(clipped == scaled, some, 0.0).sum(1)
        low[rows] = np.where(gap > 0, at, low[rows])
        high[rows] = np.where(gap > 0, high[rows], at)
        newton = at + gap / np.where(slope > 0, slope, 1.0)
        good = (slope > 0) & (newton > low[rows]) & (newton < high[rows])
        good &= np.abs(gap) < 0.9 * missed[rows]
        missed[rows] = np.abs(gap)
        wrong = (np.abs(gap) > SUMMED) & (high[rows] > (1 + SUMMED) * low[rows])
        s[rows] = np.where(wrong, np.where(good, newton, np.sqrt(low[rows] * high[rows])), at)
        rows = rows[wrong]
        if not rows.size:
            break
    return s
