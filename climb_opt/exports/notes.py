"""What is said with an export: what was left out, where the data is, how long a run is."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from climb_opt.exports.handover import Handover
from climb_opt.text import amount, counted, printable, times

if TYPE_CHECKING:
    from climb_opt.exports.formats import Format

SHOWN = 10  # names in a note


def notes_of(chosen: Format, handover: Handover) -> list[str]:
    """What a reader of the text must know, a line each."""
    notes = losses(handover)
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
        names = _listed([f"{name} ({share:.4g})" for name, share in handover.left_out.items()])
        notes.append(
            f"{counted(len(handover.left_out), 'domain')} left out, together {total:.4g} of the "
            f"run, for shares below half a millionth are too small to be written: {names}."
        )
    if handover.absent:
        notes.append(
            f"{counted(len(handover.absent), 'domain')} of the corpus not in the mixture, which "
            f"weigh nothing: {_listed(handover.absent)}."
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
        f"tokens, which a trainer may leave out: {_listed(short)}."
    ]


def _repeated(handover: Handover) -> list[str]:
    often = [(s.name, e) for s in handover.sources if (e := handover.epochs(s) or 0.0) > 1]
    if not often:
        return []
    often.sort(key=lambda pair: -pair[1])
    names = _listed([f"{name} {times(epochs)} times" for name, epochs in often])
    return [f"Read more than once in {amount(handover.tokens or 0)} tokens: {names}."]


def _missing(chosen: Format, handover: Handover, places: Sequence[str]) -> list[str]:
    """Say which paths are not there, and what makes them."""
    gone = [p for p in places if not all(_there(p, need) for need in chosen.needs)]
    if not gone:
        return []
    note = f"{len(gone)} of {len(places)} paths not found here ({_listed(gone)})."
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


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
