"""The options of an ablation's objective: keys and types, and what leaves something to search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from climb_opt import lookup
from climb_opt.errors import UserError
from climb_opt.phases import PhasedSpace
from climb_opt.simplex import MixtureSpace
from climb_opt.strict import arguments


def prepared(name: str, options: Mapping[str, Any]) -> Callable[[], Any]:
    """What makes the surface of an objective, once keys and types of its options are checked.

    Raises:
        UserError: an unknown objective or option, an option that is missing or of another type.
    """
    lookup.check_options("objective", name, options, set())
    made = lookup.find("objective", name)
    if name in lookup.KINDS["objective"]:  # one's own may be annotated as it likes
        options = arguments(made, options, "objective")
    return partial(made, **options)


def check_domains(space: MixtureSpace) -> None:
    """Refuse a space that holds a single mixture.

    Raises:
        UserError: it has one domain.
    """
    count = len(space.base if isinstance(space, PhasedSpace) else space)
    if count < 2:
        raise UserError(f"objective: a search needs at least 2 domains, but there is {count}.")
