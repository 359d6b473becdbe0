# Written by hub/build.py from climb_opt: change it there.
"""Numbers as people write them."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from decimal import Decimal
from numbers import Integral
from typing import Any

from .errors import UserError

_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?%?")


def number(value: object, what: str) -> float:
    """A number as it is typed: 0.3, 3e-3, 1_000, or 30% for 0.3.

    Args:
        what: names the value in the error: "weight of 'web'".

    Raises:
        UserError: it is no number.
    """
    try:
        if isinstance(value, str):
            text = value.strip()
            percent = text.endswith("%")
            exact = Decimal(text.removesuffix("%").strip())
            return float(exact / 100 if percent else exact)  # as decimals: 12.3% is 0.123
        if not isinstance(value, bool):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        pass
    raise UserError(f"{what} must be a number, but is {value!r}{with_point(value)}.")


def whole_number(value: object, what: str, least: int = 1, most: float = math.inf) -> int:
    """A whole number of a call, as Python's own: numpy's cannot be stored in a study.

    Raises:
        UserError: it is none, or outside its bounds.
    """
    counts = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if counts and not isinstance(value, bool) and least <= value <= most:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload, no-any-return]
    allowed = f"at least {least}" if most == math.inf else f"in [{least}, {most}]"
    raise UserError(f"{what} must be a whole number, {allowed}, but is {value!r}.")


def flag(value: object, what: str) -> bool:
    """True or False of a call, also numpy's, or 1 and 0.

    Raises:
        UserError: it is neither: the text "no" would count as true.
    """
    with suppress(ValueError):  # of an array: it has no truth of its own
        if value in (True, False):
            return bool(value)
    raise UserError(f"{what} must be True or False, but is {value!r:.100}.")


def float_or_nan(value: Any) -> float:
    """A number as a program writes it; NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def with_point(value: object) -> str:
    """What is said of a number that was written with a decimal comma, or nothing."""
    text = str(value).strip()
    if not _COMMA.fullmatch(text):
        return ""
    return f" (with a decimal point: {text.replace(',', '.')})"
