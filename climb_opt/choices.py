"""A short name or "module:Name", with options: how recipes name what can be exchanged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from climb_opt.errors import UserError

# Of a key that says nothing when it is empty: not stored then, as before there was such a key.
SPARE = {"spare": True}


@dataclass(frozen=True)
class Choice:
    """A sampler, predictor, evaluator, pruner or reweighter: its name and the options it takes."""

    name: str  # a short name (`climb-opt ls`), or "my_package.module:Name"
    options: dict[str, Any] = field(default_factory=dict)  # what it is called with, by name

    RANGES: ClassVar = {"options": (-math.inf, math.inf)}  # whoever takes them judges them


def choice_data(value: Any, where: str) -> dict[str, Any]:
    """`name` or `{name: ..., option: ...}` as the plain data of a `Choice`."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping) or "name" not in value:
        raise UserError(f"{where}: expected a name or {{name: ..., option: ...}}.")
    if set(value) == {"name", "options"}:  # as stored
        return dict(value)
    return {"name": value["name"], "options": {k: v for k, v in value.items() if k != "name"}}
