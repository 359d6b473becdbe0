# Written by hub/build.py from climb_opt: change it there.
"""Amounts and weights of domains: what a prior may be, and one rule for sums.

Decimals as they are printed seldom sum to exactly 1. A sum that the rounding of the printed digits
explains, or that is within half a percent, is taken and scaled to 1, and that is said; any other is
a mistake (a domain left out, percentages, counts) and refused.
"""

from __future__ import annotations

import functools
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from .errors import UserError, listed
from .written import number

logger = logging.getLogger(__name__)

SLACK = 0.005  # a sum this near to 1 is taken whatever the digits: published tables are no better
MOST = 0.05  # and one this far is not, however few the digits
EXACT = 1e-6  # what single precision loses is not worth a word

Parts = tuple[str, str]  # what one of the numbers is called, and what has one
WEIGHTS: Parts = ("weight", "domain")
Amounts = Mapping[str, float] | Iterable[tuple[str, float]]  # domain -> amount


def read_amounts(prior: Amounts) -> tuple[list[str], np.ndarray]:
    """The domains of a prior and their amounts (K,).

    Raises:
        UserError: no amounts, no domain, a name twice, or an amount that is negative or no number.
    """
    listed_pairs = isinstance(prior, Iterable) and not hasattr(prior, "items")
    pairs = list(prior if listed_pairs else by_name(prior, "The prior", "domain: tokens"))
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise UserError(
                f"The prior needs an amount for each domain, but got {pair!r} alone; give "
                "{domain: tokens}, or 1 for each domain to start from the uniform mixture."
            )
    names = [name for name, _ in pairs]
    for name in names:
        if not isinstance(name, str) or not name:
            raise UserError(f"A domain's name must be a non-empty string, but got {name!r}.")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"Domain {name!r} is named twice; give each domain one name.")
    amounts = np.array([number(amount, f"The amount of domain {name!r}") for name, amount in pairs])
    if not names or not np.all(np.isfinite(amounts)) or np.any(amounts < 0) or not np.any(amounts):
        raise UserError(
            "The prior needs at least one domain and finite amounts, none negative, "
            f"not all zero, but got {listed(f'{n}: {a}' for n, a in pairs)}."
        )
    return names, amounts


def by_name(given: Any, what: str, wanted: str = "domain: weight") -> Iterable[tuple[Any, Any]]:
    """The pairs of a mapping, or of a column of a table whose index are names.

    Raises:
        UserError: it is neither.
    """
    if not hasattr(given, "items") or getattr(given, "ndim", 1) > 1:  # as a whole table
        shown = " ".join(repr(given).split())
        raise UserError(f"{what}: a mapping, {wanted}, is wanted, not {shown:.60}.")
    pairs: Iterable[tuple[Any, Any]] = given.items()
    return pairs


def checked_sum(weights: Iterable[float], what: str, parts: Parts = WEIGHTS) -> float:
    """The sum of `weights`, by which they are to be divided; says so where it is not 1.

    Args:
        what: they are of, for messages.

    Raises:
        UserError: it is further from 1 than rounding explains.
    """
    weights = tuple(weights)
    if problem := sum_problem(weights, parts):
        raise UserError(f"{what}: the {parts[0]}s {problem}")
    total = math.fsum(weights)
    if abs(total - 1.0) > EXACT:
        _say(f"{what}: the {parts[0]}s", f"{total:.6g}")
    return total


def sum_problem(weights: Iterable[float], parts: Parts = WEIGHTS) -> str | None:
    """What is wrong with the sum of `weights`, and what to do: "sum to 0.8, not to 1: ..."."""
    weights = tuple(weights)
    total = math.fsum(weights)
    if abs(total - 1.0) <= tolerance(weights) + 1e-12:
        return None
    said = f"sum to {total:.6g}, not to 1."
    if not 0 < total < math.inf:
        return said
    if abs(total / 100 - 1.0) <= tolerance([w / 100 for w in weights]):
        return f"{said} Percentages? Write 30% or 0.3 for 30."
    return f"{said} Is a {parts[1]} missing? Else divide each {parts[0]} by {total:.6g}."


def tolerance(weights: Iterable[float]) -> float:
    """How far from 1 the sum of weights may be that were rounded to the digits they have.

    Half a unit of the last digit for each weight, whether all were printed with the same decimals
    (0.25, 0.07) or with the same significant digits (0.25, 0.068), between `SLACK` and `MOST`. A
    zero may have been a weight below half a unit of the last decimal.
    """
    weights = tuple(weights)
    exact = [Decimal(repr(float(w))).normalize() for w in weights if w > 0 and math.isfinite(w)]
    if not exact:
        return SLACK
    decimals = max(max(0, -int(w.as_tuple().exponent)) for w in exact)
    significant = max(len(w.as_tuple().digits) for w in exact)
    units = (max(-decimals, w.adjusted() + 1 - significant) for w in exact)
    zeros = 0.5 * 10.0**-decimals * sum(w == 0 for w in weights)
    return min(MOST, max(SLACK, zeros + math.fsum(0.5 * 10.0**unit for unit in units)))


@functools.cache  # once a process: an arm's mixture is read for every seed
def _say(what: str, total: str) -> None:
    logger.warning("%s sum to %s, scaled to 1.", what, total)
