"""Fields by name, wherever a field is named: top-level ones, and nested ones by dotted path.

text          a top-level field; one that is called `meta.set`, dot and all, is meant first
meta.set      `set` inside `meta`
tags.0        the first of the list `tags`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from climb_opt.errors import UserError, listed
from climb_opt.text import storable

MOST_LISTED = 40
DEPTH = 8  # of nested fields that are listed
LONGEST_INDEX = 9  # digits


class Absent:
    """The type of `ABSENT`: no value, not even null."""


ABSENT = Absent()


def value_at(record: Any, name: str) -> Any:
    """The value of the field `name`, or `ABSENT`."""
    if type(record) is dict and name in record:  # nearly always; half the time of what follows
        return record[name]
    if isinstance(record, list) and record and isinstance(record[0], tuple):
        record = dict(record)  # an Arrow map
    for head, rest in _splits(name):
        found = _child(record, head)
        if rest is not None and found is not ABSENT:
            found = value_at(found, rest)
        if found is not ABSENT:
            return found
    return ABSENT


def _splits(name: str) -> Iterator[tuple[str, str | None]]:
    """A name whole, then cut at each dot from the right: names may hold dots themselves."""
    yield name, None
    cut = name.rfind(".")
    while cut >= 0:
        yield name[:cut], name[cut + 1 :]
        cut = name.rfind(".", 0, cut)


def _child(record: Any, name: str) -> Any:
    if isinstance(record, Mapping):
        return record.get(name, ABSENT)
    if isinstance(record, Sequence) and not isinstance(record, (str, bytes)):
        index = int(name) if name.isdecimal() and len(name) <= LONGEST_INDEX else len(record)
        return record[index] if index < len(record) else ABSENT
    return ABSENT


def label_of(value: Any) -> str:
    """A field's value as a label, and as a target's FIELD:VALUE is compared with it."""
    return storable(str(value))


def names_in(record: Mapping[Any, Any], depth: int = DEPTH) -> Iterator[str]:
    """The names of all fields, nested ones by their dotted path."""
    for key, value in record.items():
        if isinstance(value, Mapping) and value and depth > 1:
            yield from (f"{key}.{name}" for name in names_in(value, depth - 1))
        else:
            yield str(key)


def columns_of(schema: Any, names: Iterable[str], where: str) -> list[str]:
    """The columns of an Arrow schema to read for these fields, as pyarrow names them: no more of a
    struct than its part that is asked for. Fields that are not there are left out.

    Raises:
        UserError: a column is there twice, in the file `where`.
    """
    found = [_column(schema, "", name, where) for name in names]
    return list(dict.fromkeys(column for column in found if column))


def _column(parent: Any, path: str, name: str, where: str) -> str:
    """The column of the field `name` below a schema or struct type; "": there is none."""
    for head, rest in _splits(name):
        index = parent.get_field_index(head)
        if index < 0 and (twins := len(parent.get_all_field_indices(head))):
            raise repeated(where, path + head, twins)
        kind = parent.field(index).type if index >= 0 else None
        if kind is not None and rest is None:
            return path + head
        if rest is not None and _is_struct(kind):
            if column := _column(kind, f"{path}{head}.", rest, where):
                return column
        elif kind is not None and kind.num_fields:  # a list or a map: no part of it can be read
            return path + head
    return ""


def _is_struct(kind: Any) -> bool:
    return hasattr(kind, "get_field_index")


def column_names(parent: Any, depth: int = DEPTH) -> Iterator[str]:
    """The names of all fields of an Arrow schema or struct type, as `names_in` has them."""
    for field in parent:
        if _is_struct(field.type) and field.type.num_fields and depth > 1:
            yield from (f"{field.name}.{name}" for name in column_names(field.type, depth - 1))
        else:
            yield str(field.name)


def repeated(where: str, name: str, count: int) -> UserError:
    """That a column is there so many times in the file `where`."""
    return UserError(f"{where} has {count} columns {name!r}; rename or drop all but one.")


def no_text(where: str, name: str, there: Iterable[str]) -> UserError:
    """That the file `where` has other columns, but not the text's."""
    return UserError(
        f"{where} has no column {name!r}. {hint(name, there)} Name the text's with --text-field."
    )


def hint(name: str, there: Iterable[str]) -> str:
    """What fields there are, for messages about one that is not: the nearest first."""
    names = list(dict.fromkeys(map(storable, there)))
    if not names:
        return "These documents have no fields."
    near = difflib.get_close_matches(name, names, n=1)
    ends = [n for n in names if n.rpartition(".")[2] == name]  # `set`, where it is in `meta`
    mean = f"Did you mean {(near or ends)[0]!r}? " if near or ends else ""
    return f"{mean}Fields there are: {listed(names, MOST_LISTED)}."
