"""A format by name: the text it makes of a handover, and what is said with it."""

from __future__ import annotations

import dataclasses
import glob
import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from climb_opt import lookup
from climb_opt.errors import UserError, listed, running
from climb_opt.exports.handover import Handover
from climb_opt.text import amount, counted, printable, times

logger = logging.getLogger(__name__)

MATERIALISE = "materialise"  # writes data, not text: materialise.py
MODEL = "model"  # writes a trunk or branches: branches.py


@dataclass(frozen=True)
class Format:
    """How to write a handover as text, and what its writer says of it by `lookup.facts`.

    Args:
        places: the paths that the text names; None where it is read by no trainer.
        needs: what must lie there, from such a path; `*` is any file.
        layout: of `climb-opt corpus export`, that makes what the text names by itself.
        budget: how the trainer is told its tokens, from the handover.
        check: more that may go wrong in this trainer.
        phases: whether the text says a schedule; of another, each phase has a text of its own.
        goes_on: whether the trainer reads a domain on from where the phase before left it.
        known: whether a file's text is an earlier one, which may be replaced; None: where they have
            a line in common, numbers apart.
    """

    write: Callable[[Handover], str]
    places: Callable[[Handover], list[str]] | None = None
    needs: tuple[str, ...] = ("{}",)
    layout: str = ""
    budget: Callable[[Handover], str] | None = None
    check: Callable[[Handover], list[str]] = lambda handover: []
    phases: bool = False
    goes_on: bool = False
    known: Callable[[str], bool] | None = None

    def replaces(self, earlier: str, text: str) -> bool:
        """Whether `text` may be written over another, `earlier`."""
        if self.known is not None:
            return self.known(earlier)
        return bool(_worded(earlier) & _worded(text))


def format_of(name: str) -> Format:
    """The format of a short name, or of "module:Name": a function from a `Handover` to text.

    Raises:
        UserError: there is none of that name (all are listed), or it writes data, not text.
    """
    write = lookup.find("format", name)
    if name == MATERIALISE:
        raise UserError(f"{name} writes data, not text: use climb_opt.materialise(study, FOLDER).")
    if name == MODEL:
        raise UserError(f"{name} writes a folder: use climb_opt.export_model(study, FOLDER).")
    said = {f.name: getattr(write, f.name) for f in dataclasses.fields(Format)[1:]
            if hasattr(write, f.name)}  # fmt: skip
    return Format(write, **said)


def texts() -> list[str]:
    """The short names of the formats that are texts."""
    return [name for name in lookup.KINDS["format"] if name not in (MATERIALISE, MODEL)]


def render(name: str, handover: Handover) -> str:
    """The handover in the named format. What the reader must know is in the text, where the format
    has comments, and logged as warnings.

    Raises:
        UserError: an unknown format (all are listed), one that needs what is not known, or one
            that says one mixture only, of a schedule.
    """
    found = render_phases(name, handover)
    if len(found) > 1:
        able = ", ".join(known for known in texts() if format_of(known).phases)
        raise UserError(
            f"{name} says one mixture, but this is a schedule of {len(found)} phases: give "
            f"--output FILE, and each phase gets a file; or choose one that says phases: {able}."
        )
    return found[0]


def render_phases(
    name: str, handover: Handover, take: Callable[[list[str]], object] = lambda texts: None
) -> list[str]:
    """As `render`; of a schedule, in a format that says one mixture only, a text a phase.

    Args:
        take: called with the texts before anything is said of them.
    """
    chosen = format_of(name)
    with running("format", name):
        whole = notes_of(chosen, handover)
        if not handover.phases or chosen.phases:
            said = [(handover, whole)]
        else:
            said = [(phase, notes_of(chosen, phase)) for phase in handover.phases]
        # Written before anything is said: what cannot be written ends with its reason alone.
        texts = [chosen.write(replace(order, notes=tuple(notes))) for order, notes in said]
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"format {name!r} must return text, but returned {text!r:.100}.")
    take(texts)
    every = [*handover.first, *whole, *(note for _, notes in said for note in notes)]
    for note in dict.fromkeys(every):
        logger.warning("%s", note)
    return texts


# --- what is said with it: what was left out, where the data is, how long a run is ---------------


def notes_of(chosen: Format, handover: Handover) -> list[str]:
    """What a reader of the text must know, a line each."""
    apart = bool(handover.phases) and not chosen.phases  # each phase is told of by itself
    notes = [*handover.notes]
    notes += [] if apart else losses(handover)
    if chosen.places is not None:
        notes += [] if handover.span is not None else _repeated(handover)
        notes += _begun_anew(chosen, handover)
        if not apart:
            notes += [*_short(handover), *_missing(chosen, handover, chosen.places(handover))]
            if handover.tokens is not None and chosen.budget is not None:
                notes.append(f"For {handover.tokens} tokens: {chosen.budget(handover)}.")
    return [printable(note) for note in [*notes, *([] if apart else chosen.check(handover))]]


def losses(handover: Handover) -> list[str]:
    """Which domains are not written though they are in the mixture or in the corpus."""
    notes = []
    for part in handover.phases or (handover,):
        if not part.left_out:
            continue
        total = sum(part.left_out.values())
        names = listed([f"{name} ({share:.4g})" for name, share in part.left_out.items()])
        run = "the run" if part.span is None else part.span.name
        notes.append(
            f"{counted(len(part.left_out), 'domain')} left out, together {total:.4g} of "
            f"{run}, for shares below half a millionth are too small to be written: {names}."
        )
    if handover.absent:
        notes.append(
            f"{counted(len(handover.absent), 'domain')} of the corpus not in the mixture, which "
            f"weigh nothing: {listed(handover.absent)}."
        )
    return notes


def _short(handover: Handover) -> Iterator[str]:
    short = [
        f"{s.name} ({s.weight * part.tokens:.4g} tokens{_of_phase(part)})"
        for part in handover.phases or (handover,)
        if part.tokens is not None
        for s in part.sources
        if s.weight * part.tokens < part.sequence
    ]
    if short:
        yield (
            f"{counted(len(short), 'domain')} with less than one sequence of {handover.sequence} "
            f"tokens, which a trainer may leave out: {listed(short)}."
        )


def _repeated(handover: Handover) -> Iterator[str]:
    often = [(s.name, e) for s in handover.sources if (e := handover.epochs(s) or 0.0) > 1]
    often.sort(key=lambda pair: -pair[1])
    if often:
        names = listed([f"{name} {times(epochs)} times" for name, epochs in often])
        yield f"Read more than once in {amount(handover.tokens or 0)} tokens: {names}."


def _worded(text: str) -> set[str]:
    """A text's lines without what numbers are made of, those that then say something."""
    lines = (re.sub(r"[\d.]+", "", line).strip() for line in text.splitlines())
    return {line for line in lines if any(c.isalpha() for c in line)}


def _of_phase(part: Handover) -> str:
    return "" if part.span is None else f" in phase {part.span.number}"


def _begun_anew(chosen: Format, handover: Handover) -> Iterator[str]:
    """Say which domains a trainer reads from their beginning again, though more of them is left."""
    seen = Counter(s.name for phase in handover.phases for s in phase.sources)
    again = [name for name, times_read in seen.items() if times_read > 1]
    if again and not chosen.goes_on:
        yield (
            f"Every phase begins {listed(again)} anew: what was read in one phase comes first in "
            "the next, which proxies did not do. `--format materialise` writes data that go on."
        )


def _missing(chosen: Format, handover: Handover, places: Sequence[str]) -> list[str]:
    """Say which paths are not there, and what makes them."""
    gone = [p for p in places if not all(_there(p, need) for need in chosen.needs)]
    if not gone:
        return []
    note = f"{len(gone)} of {len(places)} paths not found here ({listed(gone)})."
    if any(s.path for s in handover.sources):
        return [f"{note} They are as --path says; the data must lie there before the run."]
    if not chosen.layout:
        return [f"{note} Say with --path where the data is."]
    made = f"climb-opt corpus export {shlex.quote(handover.corpus_path)} --format {chosen.layout}"
    return [f"{note} Made by: {made} --output data; or say with --path where the data is."]


def _there(place: str, need: str) -> bool:
    if "://" in place:
        return True  # of another machine's: its reader says
    if os.path.exists(need.format(place)):
        return True
    start = place if need == "{}" else glob.escape(place)
    return next(glob.iglob(need.format(start)), None) is not None
