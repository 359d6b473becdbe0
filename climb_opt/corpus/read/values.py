"""Values of every type that a column can have -> what JSON holds, and so a block's fields.

    text, numbers, true, false, null, lists, mappings    as they are
    not a number                null
    infinite                    "inf", "-inf"
    bytes                       text; a byte that is no UTF-8 is escaped (climb_opt/text.py)
    dates, times, timestamps    2021-05-04, 12:30:00.5, 2021-05-04 12:30:00; with a zone, that of
                                the instant in UTC, 2021-05-04 10:30:00+00:00
    durations                   seconds: 90.5
    decimals                    all their digits: 1.50

What Arrow holds becomes text by Arrow, so that no value is too early, late or fine for Python's own
types, and the same whatever libraries are installed beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID

from climb_opt.extras import need
from climb_opt.text import storable

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}  # of a duration's fraction of a second


class Spelled(str):
    """What is no text, spelled out: a date as kept field or label. `kind` is its type."""

    kind: str = ""


class Unreadable:
    """A value that its library cannot give out. It costs its row."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def plain(value: Any) -> Any:
    """A value as JSON holds it.

    Raises:
        TypeError: it has no such form.
        RecursionError: it is nested too deeply.
    """
    if isinstance(value, str):
        return storable(str(value))
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {_key(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return storable(value.decode("utf-8", "surrogateescape"))
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, timedelta):
        return _seconds(value // timedelta(microseconds=1), 6)
    if isinstance(value, (date, time, UUID)):
        return _moment(value) if isinstance(value, (datetime, time)) else str(value)
    raise TypeError(value.kind if isinstance(value, Unreadable) else type(value).__name__)


def is_nothing(value: Any) -> bool:
    """Whether a value says no more than that there is none: null, or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def rows_of(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow record batch or table."""
    names = batch.schema.names
    for part in getattr(batch, "to_batches", lambda: [batch])():
        for row in zip(*map(_values, part.columns), strict=True):
            yield dict(zip(names, row, strict=True))


# --- Arrow ------------------------------------------------------------------------------------


def _values(array: Any) -> list[Any]:
    arrow = need("pyarrow", "Reading columns")
    kind, types = array.type, arrow.types
    if isinstance(kind, arrow.BaseExtensionType):
        stored = array.storage
        if kind.extension_name != "arrow.uuid":
            return _values(stored)
        return [None if v is None else str(UUID(bytes=v)) for v in stored.to_pylist()]
    if types.is_dictionary(kind):
        known = _values(array.dictionary)
        return [None if i is None else known[i] for i in array.indices.to_pylist()]
    if types.is_run_end_encoded(kind):
        return _values(need("pyarrow.compute", "Reading columns").run_end_decode(array))
    if types.is_struct(kind):
        return _structs(array)
    if types.is_map(kind):
        return _maps(array)
    if types.is_nested(kind) and not types.is_union(kind):
        return _lists(array)
    if types.is_temporal(kind) and not types.is_interval(kind):
        return _spelled(str(kind), _times(array, arrow))
    found = _readable(array)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return found
    if types.is_decimal(kind):
        return _spelled(str(kind), [v if v is None else format(v, "f") for v in found])
    return [v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else v for v in found]


def _structs(array: Any) -> list[Any]:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    columns = [_values(part) for part in array.flatten()]
    rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
    both = zip(array.is_valid().to_pylist(), rows, strict=True)
    return [dict(zip(names, row, strict=True)) if there else None for there, row in both]


def _maps(array: Any) -> list[Any]:
    ends = array.offsets.to_pylist()
    first, count = ends[0], ends[-1] - ends[0]
    keys = _values(array.keys.slice(first, count))
    items = _values(array.items.slice(first, count))
    pairs = list(zip(keys, items, strict=True))
    bounds = zip(array.is_valid().to_pylist(), ends, ends[1:], strict=False)
    return [pairs[low - first : high - first] if there else None for there, low, high in bounds]


def _lists(array: Any) -> list[Any]:
    lengths = need("pyarrow.compute", "Reading columns").list_value_length(array).to_pylist()
    inner = _values(array.flatten())
    ends = list(accumulate(n or 0 for n in lengths))
    return [None if n is None else inner[e - n : e] for n, e in zip(lengths, ends, strict=True)]


def _times(array: Any, arrow: Any) -> list[str | None]:
    kind = array.type
    if arrow.types.is_duration(kind):
        counts = array.cast(arrow.int64()).to_pylist()
        return [None if n is None else _seconds(n, _DIGITS[kind.unit]) for n in counts]
    zone = ""
    if arrow.types.is_timestamp(kind) and kind.tz is not None:
        array, zone = array.cast(arrow.timestamp(kind.unit)), "+00:00"
    texts = array.cast(arrow.string()).to_pylist()
    return [None if text is None else _short(text) + zone for text in texts]


def _readable(array: Any) -> list[Any]:
    """The values as Python's, bytes where a text is not UTF-8."""
    try:
        return array.to_pylist()
    except UnicodeDecodeError:  # a text column may hold any bytes
        kind = {"string": "binary", "large_string": "large_binary"}.get(str(array.type))
        return array.cast(kind or "binary_view").to_pylist()
    except (ValueError, OverflowError, NotImplementedError):
        return [_one(value) for value in array]


def _one(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, NotImplementedError):
        return Unreadable(str(scalar.type))


def _spelled(kind: str, texts: list[str | None]) -> list[Any]:
    # One class a column, so that a value needs no attribute of its own.
    of_kind = type("Spelled", (Spelled,), {"kind": kind})
    return [None if text is None else of_kind(text) for text in texts]


def _moment(value: datetime | time) -> str:
    if isinstance(value, time) or value.tzinfo is None:
        return _short(str(value)) if value.tzinfo is None else str(value)
    return _short(str(value.astimezone(UTC).replace(tzinfo=None))) + "+00:00"


def _short(text: str) -> str:
    """A time without zeros at the end of its seconds' fraction."""
    return text.rstrip("0").removesuffix(".") if "." in text else text


def _seconds(count: int, digits: int) -> str:
    whole, rest = divmod(abs(count), 10**digits)
    return ("-" if count < 0 else "") + _short(f"{whole}.{rest:0{digits}d}")


def _key(key: Any) -> str:
    found = plain(key)
    return found if isinstance(found, str) else str(found)
