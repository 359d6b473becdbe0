"""YAML and numbers as people write them.

Keys are text, whatever YAML would take them for: a domain may be called `no`, `null`, `1.50`,
`12:30` or `010`. A key that is there twice is an error, where YAML would keep the last.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import yaml

from climb_opt.errors import UserError

_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?%?")


class _TextKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if (name := _text(key)) in lines:
                raise _fault(f"key {name!r} is there twice, first in line {lines[name]}", key)
            lines[name] = key.start_mark.line + 1
        self.flatten_mapping(node)
        return {_text(key): self.construct_object(value, deep=True) for key, value in node.value}

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, OverflowError) as error:
            # A date that is none, too many digits, a tag that does not fit.
            raise _fault(f"{str(node.value)[:40]!r}: {error}", node) from None


class _AllText(_TextKeys):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - as PyYAML declares it


class _AnyTags(_TextKeys):
    """For files of other programs, whose own tags say nothing to us."""


_AnyTags.add_multi_constructor("!", lambda loader, tag, node: None)


def _text(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise _fault("a key must be text, not a list or a mapping", key)
    return str(key.value)


def _fault(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def load(text: str, where: str, *, text_values: bool = False, any_tags: bool = False) -> Any:
    """What a YAML text holds; all its keys are text.

    Args:
        where: its file, for messages.
        text_values: leave plain values text too, for files that hold names; nothing is then "".
        any_tags: take values with the tags of another program for nothing.

    Raises:
        UserError: the text is not YAML, has a key twice, or is nested too deeply; with the place.
    """
    try:
        kind = _AllText if text_values else _AnyTags if any_tags else _TextKeys
        return yaml.load(text, Loader=kind)
    except RecursionError:
        raise UserError(f"{where}: not readable as YAML: nested too deeply") from None
    except yaml.reader.ReaderError as error:
        lines = (text[: error.position] + ".").splitlines()
        place = (len(lines), len(lines[-1]))
        problem = f"the character {chr(error.character)!a} is not allowed in YAML"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        assert mark is not None  # every fault of a text has its place
        place = (mark.line + 1, mark.column + 1)
        problem = " ".join(filter(None, (error.context, error.problem)))
        if "'\\t'" in problem:
            problem += " (indent with spaces, not tabs)"
    line, column = place
    raise UserError(
        f"{where}, line {line}, column {column}: not readable as YAML: {problem}"
    ) from None


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


def with_point(value: object) -> str:
    """What is said of a number that was written with a decimal comma, or nothing."""
    text = str(value).strip()
    if not _COMMA.fullmatch(text):
        return ""
    return f" (with a decimal point: {text.replace(',', '.')})"
