"""YAML as people write it -> plain data.

Keys are text, whatever YAML would take them for: a domain may be called `no`, `null`, `1.50`,
`12:30` or `010`. A key that is there twice is an error, where YAML would keep the last. 1e-3 and
150e6 are numbers, as in YAML 1.2; PyYAML, which reads 1.1, wants 1.0e-3 and 150.0e+6.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from climb_opt.errors import UserError
from climb_opt.reading import MARK, read_text


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


# Numbers that PyYAML takes for text, as climb_opt did before.
POWER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d{1,2}$")
_TextKeys.add_implicit_resolver("tag:yaml.org,2002:float", POWER, list("+-.0123456789"))


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


def parse_yaml(text: str, where: str, *, text_values: bool = False, any_tags: bool = False) -> Any:
    """The plain data of a YAML text; all its keys are text, whatever YAML takes them for.

    Args:
        where: its file, for messages.
        text_values: leave plain values text too, for files that hold names; nothing is then "".
        any_tags: take values with the tags of another program for nothing.

    Raises:
        UserError: the text is not YAML, has a key twice or a date that is none, or is nested too
            deeply; with the place.
    """
    text = text.removeprefix(MARK)
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


def read_yaml(path: Path | str, *, text_values: bool = False, any_tags: bool = False) -> Any:
    """The plain data of a YAML file; see `parse_yaml`.

    Raises:
        UserError: as `read_text`, or the text is not YAML.
    """
    return parse_yaml(read_text(path), str(path), text_values=text_values, any_tags=any_tags)
