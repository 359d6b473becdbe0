# Written by hub/build.py from climb_opt: change it there.
"""Libraries of an extra, imported on use; how to install what is missing."""

from __future__ import annotations

import importlib.util
from typing import Any

from .errors import UserError


def installed(module: str) -> bool:
    """Whether a module is there, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # it lies in a package that is not there, or is blocked
        return False
    except ValueError:  # imported, as a lazy module without a spec: optuna_integration
        return True


def need(module: str, purpose: str, package: str = "climb-opt[corpus]") -> Any:
    """The module, or a UserError that says what it is needed for and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {module}, which cannot be imported ({error}). "
            f"Install it with: pip install '{package}'."
        ) from None


def in_font(text: str) -> str:
    """A text as matplotlib's font can draw it: a box for whatever it lacks, or it would warn."""
    fonts = need("matplotlib.font_manager", "Drawing text", "climb-opt[dashboard]")
    drawn = fonts.get_font(fonts.findfont(fonts.FontProperties())).get_charmap()
    return "".join(c if ord(c) in drawn and c.isprintable() else "□" for c in text)
