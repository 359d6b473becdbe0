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
        own = [_text(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for place, name in enumerate(own):
            if name in own[:place]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name!r} is there twice", node.start_mark
                )
        self.flatten_mapping(node)
        return {_text(key): self.construct_object(value, deep=True) for key, value in node.value}


class _AllText(_TextKeys):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - as PyYAML declares it


def _text(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(
            None, None, "a key must be text, not a list or a mapping", key.start_mark
        )
    return str(key.value)


def load(text: str, *, text_values: bool = False) -> Any:
    """What a YAML text holds; all its keys are text.

    Args:
        text_values: leave plain values text too, for files that hold names; nothing is then "".

    Raises:
        yaml.YAMLError: the text is not YAML, or has a key twice.
    """
    return yaml.load(text, Loader=_AllText if text_values else _TextKeys)


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
