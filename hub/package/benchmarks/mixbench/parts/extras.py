# Written by hub/build.py from climb_opt: change it there.
"""Libraries of an extra, imported on use; how to install what is missing."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import UserError


def need(module: str, purpose: str, package: str = "climb-opt[corpus]") -> Any:
    """The module, or a UserError that says what it is needed for and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {module}, which cannot be imported ({error}). "
            f"Install it with: pip install '{package}'."
        ) from None
