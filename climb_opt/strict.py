"""Plain data (YAML, JSON) -> frozen dataclasses, strictly: every mistake is named.

Types come from the fields' annotations; whatever does not fit one is an error with its key, what is
allowed there and, for a misspelt key, the one that was meant.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from climb_opt.errors import UserError, did_you_mean
from climb_opt.written import number

T = TypeVar("T")


def build(cls: type[T], data: Any, where: str) -> T:
    """A dataclass from plain data; unknown keys and wrong types are errors that name them."""
    hints, keys = typing.get_type_hints(cls), dataclasses.fields(typing.cast(Any, cls))
    needed = (k.name for k in keys if k.default is k.default_factory is dataclasses.MISSING)
    check_keys(data, [key.name for key in keys], needed, where)
    return cls(**{key: convert(data[key], hints[key], f"{where}.{key}") for key in data})


def arguments(function: Callable[..., Any], data: Any, where: str) -> dict[str, Any]:
    """A function's keyword arguments from plain data, as `build` makes a dataclass's fields."""
    hints, known = _hints(function), inspect.signature(function).parameters
    needed = (name for name, parameter in known.items() if parameter.default is parameter.empty)
    check_keys(data, sorted(known), needed, where)
    return {key: convert(data[key], hints[key], f"{where}.{key}") for key in data}


def typed(function: Callable[..., Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Some keyword arguments of a function, those that YAML can hold as they are annotated: 3e-3 is
    text there, and what a library takes for its own mistake is named."""
    hints = {name: hint for name, hint in _hints(function).items() if _is_plain(hint)}
    return {
        key: bool(value)
        if hints.get(key) in (bool, bool | None) and value in (0, 1)
        else convert(value, hints.get(key, Any), f"{where}: {key}")
        for key, value in options.items()
    }


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    made = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    return typing.get_type_hints(made)


def _is_plain(hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union, tuple, list, dict, Sequence, Mapping):
        return all(_is_plain(each) for each in args if each is not Ellipsis)
    return origin is Literal or hint in (int, float, bool, str, type(None))


def check_keys(data: Any, known: Sequence[str], needed: Iterable[str], where: str) -> None:
    """Raise a `UserError` for data without keys, or a key that is not known or is missing."""
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected a mapping of keys, but got {data!r}.")
    for key in data:
        if key not in known:
            hint = did_you_mean(str(key), known)
            keys = ", ".join(known) or "none"
            raise UserError(f"{where}: unknown key {key!r}.{hint} Known keys: {keys}.")
    for key in needed:
        if key not in data:
            raise UserError(f"{where}: missing key {key!r}.")


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type `hint`, or an error that names `where`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(value, args, where)
    if origin is Literal:
        if value not in args:
            raise UserError(f"{where}: must be one of {', '.join(args)}, but is {value!r}.")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin in (tuple, list, Sequence):
        items, each = as_list(value), args
        if origin is not tuple or args[1:] == (Ellipsis,):
            each = args[:1] * len(items)
        if len(items) != len(each):
            raise UserError(f"{where}: needs {len(each)} values, but got {value!r}.")
        pairs = enumerate(zip(items, each, strict=True))
        found = [convert(v, a, f"{where}[{i}]") for i, (v, a) in pairs]
        return tuple(found) if origin is tuple else found
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected a mapping, but got {value!r}.")
        return {str(k): convert(v, args[1], f"{where}.{k}") for k, v in value.items()}
    if hint is Any:
        return value
    return _convert_plain(value, hint, where)


def _convert_union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in args:
        return None
    errors = []
    if isinstance(value, Mapping):  # then what a mapping can be says what is wrong with it
        kinds = (dict, Mapping)
        mappings = (a for a in args if dataclasses.is_dataclass(a) or typing.get_origin(a) in kinds)
        args = tuple(mappings) or args
    elif isinstance(value, (list, tuple)):  # and what a list can be
        args = tuple(a for a in args if typing.get_origin(a) in (list, tuple, Sequence)) or args
    for arg in args:
        if arg is not type(None):
            try:
                return convert(value, arg, where)
            except UserError as error:
                errors.append(str(error))
    raise UserError(errors[0])


def _convert_plain(value: Any, hint: type, where: str) -> Any:
    # YAML 1.1 reads 3e-3 and 30% as text; both are meant as numbers.
    if hint in (int, float) and isinstance(value, str):
        try:
            value = number(value, where)
        except UserError:
            raise UserError(f"{where}: expected a number, but got {value!r}.") from None
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where}: expected a number, but got nan.")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{where}: expected {hint.__name__}, but got {value!r}.")
    return value


HUGE = 2**53  # for whole numbers: beyond it a float cannot tell them apart


class Range(NamedTuple):
    """The numbers that a key of a recipe may hold: both ends are among them, unless `without`."""

    least: float
    most: float = HUGE
    without: str = ""  # "most", or "least" where that is 0

    def problem(self, value: float) -> str:
        """What is wrong with a number: "must be in [0, 1], but is 2.0"; "": nothing."""
        limit = sys.float_info.max if isinstance(value, float) else HUGE
        least = -limit if self.least == -HUGE else self.least
        most = limit if self.most == HUGE else self.most
        low = value > least if self.without == "least" else value >= least
        high = value < most if self.without == "most" else value <= most
        if low and high:
            return ""
        if least <= -limit and most >= limit and not math.isfinite(value):
            return f"must be a finite number, but is {value!r}"
        if self.most == HUGE and not low:
            allowed = "positive" if self.without == "least" else f"at least {least:.16g}"
        else:
            left, right = "[("[self.without == "least"], "])"[self.without == "most"]
            allowed = f"in {left}{least:.16g}, {most:.16g}{right}"
        return f"must be {allowed}, but is {value!r}"


ANY, ONE = Range(-HUGE), Range(1)
POSITIVE, SHARE = Range(0, without="least"), Range(0, 1)


def check_ranges(recipe: T, where: str) -> T:
    """The recipe, after a check of every number in it by the `RANGES` of its class, key -> `Range`,
    and so in the recipes it holds; numbers without a range must be finite.

    Raises:
        UserError: the key, what it may be, and what it is.
    """
    ranges = getattr(type(recipe), "RANGES", {})
    for key in dataclasses.fields(typing.cast(Any, recipe)):
        for path, value in _leaves(getattr(recipe, key.name), f"{where}.{key.name}"):
            if dataclasses.is_dataclass(value):
                check_ranges(value, path)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and (problem := Range(*ranges.get(key.name, ANY)).problem(value)):
                raise UserError(f"{path} {problem}.")
    return recipe


def _leaves(held: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(held, Mapping):
        for key, value in held.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(held, (list, tuple)):
        for i, value in enumerate(held):
            yield from _leaves(value, f"{path}[{i}]")
    else:
        yield path, held


def as_list(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
