"""A format by name: what is said of it, and the text it makes of a handover."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from climb_opt import lookup
from climb_opt.errors import UserError
from climb_opt.exports.handover import Handover
from climb_opt.exports.notes import notes_of

logger = logging.getLogger(__name__)

MATERIALISE = "materialise"  # writes data, not text: materialise.py


@dataclass(frozen=True)
class Format:
    """How to write a handover as text, and what its writer says of it by `lookup.facts`.

    Args:
        places: the paths that the text names; None where it is read by no trainer.
        needs: what must lie there, from such a path; `*` is any file.
        layout: of `climb-opt corpus export`, that makes what the text names by itself.
        budget: how the trainer is told its tokens, from the handover.
        check: more that may go wrong in this trainer.
    """

    write: Callable[[Handover], str]
    places: Callable[[Handover], list[str]] | None = None
    needs: tuple[str, ...] = ("{}",)
    layout: str = ""
    budget: Callable[[Handover], str] | None = None
    check: Callable[[Handover], list[str]] = lambda handover: []


def format_of(name: str) -> Format:
    """The format of a short name, or of "module:Name": a function from a `Handover` to text.

    Raises:
        UserError: there is none of that name (all are listed), or it writes data, not text.
    """
    write = lookup.find("format", name)
    if name == MATERIALISE:
        raise UserError(f"{name} writes data, not text: use climb_opt.materialise(study, FOLDER).")
    said = {f.name: getattr(write, f.name) for f in dataclasses.fields(Format)[1:]
            if hasattr(write, f.name)}  # fmt: skip
    return Format(write, **said)


def texts() -> list[str]:
    """The short names of the formats that are texts."""
    return [name for name in lookup.KINDS["format"] if name != MATERIALISE]


def render(name: str, handover: Handover) -> str:
    """The handover in the named format. What the reader must know is in the text, where the format
    has comments, and logged as warnings.

    Raises:
        UserError: an unknown format (all are listed), or one that needs what is not known.
    """
    chosen = format_of(name)
    notes = notes_of(chosen, handover)
    for note in notes:
        logger.warning("%s", note)
    return chosen.write(replace(handover, notes=tuple(notes)))
