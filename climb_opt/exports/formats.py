"""A format by name: the text it makes of a handover, and what is said with it."""

from __future__ import annotations

import dataclasses
import glob
import logging
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from climb_opt import lookup
from climb_opt.errors import UserError, listed
from climb_opt.exports.handover import Handover
from climb_opt.text import amount, counted, printable, times

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
    for note in [*handover.first, *notes]:
        logger.warning("%s", note)
    return chosen.write(replace(handover, notes=tuple(notes)))


# --- what is said with it: what was left out, where the data is, how long a run is ---------------


def notes_of(chosen: Format, handover: Handover) -> list[str]:
    """What a reader of the text must know, a line each."""
    notes = [*handover.notes, *losses(handover)]
    if chosen.places is not None:
        notes += _short(handover) + _repeated(handover)
        notes += _missing(chosen, handover, chosen.places(handover))
        if handover.tokens is not None and chosen.budget is not None:
            notes.append(f"For {handover.tokens} tokens: {chosen.budget(handover)}.")
    return [printable(note) for note in notes + chosen.check(handover)]


def losses(handover: Handover) -> list[str]:
    """Which domains are not written though they are in the mixture or in the corpus."""
    notes = []
    if handover.left_out:
        total = sum(handover.left_out.values())
        names = listed([f"{name} ({share:.4g})" for name, share in handover.left_out.items()])
        notes.append(
            f"{counted(len(handover.left_out), 'domain')} left out, together {total:.4g} of the "
            f"run, for shares below half a millionth are too small to be written: {names}."
        )
    if handover.absent:
        notes.append(
            f"{counted(len(handover.absent), 'domain')} of the corpus not in the mixture, which "
            f"weigh nothing: {listed(handover.absent)}."
        )
    return notes


def _short(handover: Handover) -> list[str]:
    if handover.tokens is None:
        return []
    short = [
        f"{s.name} ({s.weight * handover.tokens:.4g} tokens)"
        for s in handover.sources
        if s.weight * handover.tokens < handover.sequence
    ]
    if not short:
        return []
    return [
        f"{counted(len(short), 'domain')} with less than one sequence of {handover.sequence} "
        f"tokens, which a trainer may leave out: {listed(short)}."
    ]


def _repeated(handover: Handover) -> list[str]:
    often = [(s.name, e) for s in handover.sources if (e := handover.epochs(s) or 0.0) > 1]
    if not often:
        return []
    often.sort(key=lambda pair: -pair[1])
    names = listed([f"{name} {times(epochs)} times" for name, epochs in often])
    return [f"Read more than once in {amount(handover.tokens or 0)} tokens: {names}."]


def _missing(chosen: Format, handover: Handover, places: Sequence[str]) -> list[str]:
    """Say which paths are not there, and what makes them."""
    gone = [p for p in places if not all(_there(p, need) for need in chosen.needs)]
    if not gone:
        return []
    note = f"{len(gone)} of {len(places)} paths not found here ({listed(gone)})."
    if any(s.path for s in handover.sources):
        return [f"{note} They are as --path says; the data must lie there before the run."]
    made = f"climb-opt corpus export {shlex.quote(handover.corpus_path)} --format {chosen.layout}"
    return [f"{note} Made by: {made} --output data; or say with --path where the data is."]


def _there(place: str, need: str) -> bool:
    if "://" in place:
        return True  # of another machine's: its reader says
    if os.path.exists(need.format(place)):
        return True
    start = place if need == "{}" else glob.escape(place)
    return next(glob.iglob(need.format(start)), None) is not None
