"""What noise runs say: each component's signal and noise, and what to search on."""

from __future__ import annotations

import math

from climb_opt.commands import command
from climb_opt.history import MOST as HUGE
from climb_opt.recipes import MAIN
from climb_opt.reports.contents import Contents
from climb_opt.reports.section import Cell, Section, Table, Words
from climb_opt.retrain.noise import TRIALS, Noise
from climb_opt.retrain.repeats import CORNER, DRAW, PRIOR
from climb_opt.selection.signal import Part
from climb_opt.text import counted, number

HEAD = ("component", "noise [90 %]", "prior", "corner", "signal", "ratio", "weight", "best")
MOST = TRIALS[-1][1]


def noise(contents: Contents) -> Section | None:
    """The study's noise runs, where it has some."""
    if contents.noise is None:
        return None
    return Section("noise", "What can be searched on", blocks(contents.noise))


def blocks(found: Noise) -> list[Words | Table]:
    """What was run, a row a component, and what follows."""
    rows: list[list[Cell]] = [
        _row(part, found.score.get(part.name), found.weights.get(part.name, 0.0))
        for part in found.parts
    ]
    rows += [
        _row(found.before, None, None, "the score"),
        _row(found.after, None, None, "reweighed"),
    ]
    return [
        Words(_runs(found)),
        Table(HEAD, rows),
        *(Words(text, "caution") for text in _hopeless(found)),
        *(Words(text) for text in (*_stated(found), *_advice(found), *_uneven(found))),
    ]


def _row(part: Part, now: float | None, best: float | None, name: str | None = None) -> list[Cell]:
    interval = f" [{number(part.low, 2)}, {number(part.high, 2)}]" if part.freedom else ""
    return [
        name or part.name,
        f"{number(part.noise, 3)}{interval}",
        number(part.by_mixture.get(PRIOR), 3),
        number(part.by_mixture.get(CORNER), 3),
        number(part.signal, 3),
        "∞" if math.isinf(part.relative) else number(part.relative, 2),
        number(now, 3),
        "–" if now is None else number(best, 3),
    ]


def _runs(found: Noise) -> str:
    draws = sum(n for name, n in found.runs.items() if name.startswith(DRAW))
    text = (
        f"{counted(found.runs.get(PRIOR, 0), 'run')} of the prior, {found.runs.get(CORNER, 0)} of "
        f"the corner (as much of {found.corner} as is allowed), {draws} of other mixtures. Noise: "
        "the standard deviation of runs of one mixture, with "
        f"{counted(found.before.freedom, 'degree')} of freedom; signal: that of {found.tried} "
        "mixtures, less the noise; ratio: noise / signal."
    )
    if found.diverged:
        numbers = counted(found.diverged, "number")
        text += f" Of runs that diverged: {numbers}, which count as {HUGE:.0e}."
    if found.missing:
        text += (
            f" Without a result: {', '.join(found.missing)}; "
            f"`{command('status', found.study)}` says why."
        )
    return text


def _hopeless(found: Noise) -> list[str]:
    """A line for each reason, with the components that cannot be searched on for it."""
    reasons: dict[str, list[str]] = {}
    for part in found.parts:
        reasons.setdefault(part.doubt, []).append(part.name)
    return [
        f"Not to be searched on here, {why}: {', '.join(names)}."
        for why, names in reasons.items()
        if why
    ]


def _stated(found: Noise) -> list[str]:
    """What evaluators say of their own error, beside the noise where that is known."""
    parts = {part.name: part for part in found.parts}
    shown = []
    for name, error in found.stated.items():
        if name not in found.score and MAIN not in found.score:
            continue  # a dozen metrics that are reported only
        noise = parts[name].noise if name in parts else math.nan
        times = f", {number(error / noise, 2)} times the noise" if noise > 0 else ""
        shown.append(f"{name} {number(error, 3)}{times}")
    if not shown:
        return []
    return [
        f"Standard error over the evaluation's documents: {'; '.join(shown)}. Every run reads the "
        "same ones, so it is no part of the noise: it says how far another set's scores may differ."
    ]


def _advice(found: Noise) -> list[str]:
    before, after = found.before, found.after
    if not after.shown and found.weights == found.score:
        return [f"The score cannot be weighed: {before.doubt}. Its weights stay as they are."]
    change = "no other weights do better"
    if found.weights != found.score:
        change = (
            f"{number(after.relative, 2)} with the best weights, which these runs chose and so "
            "flatter"
        )
    lines = [f"Noise / signal of the score: {number(before.relative, 2)} as it is; {change}."]
    if found.seeds is not None:
        quick = f"`simplex-gp` was after {found.trials} trials where CLIMB is after {MOST}"
        slow = f"no sampler needs fewer trials than CLIMB's {MOST}, and longer proxies buy more"
        trials = f"At this noise {slow if found.trials == MOST else quick}"
        lines.append(
            "To see a gain of a quarter of the signal four times in five, `climb-opt confirm` "
            f"needs at most {counted(found.seeds, 'seed')}. {trials} (docs/simplex-gp.md)."
        )
    return lines


def _uneven(found: Noise) -> list[str]:
    """How noise differs between mixtures, where runs say so."""
    times = math.exp(found.repeated.growth / 2)
    if found.repeated.growth == 0:
        return []
    return [
        f"Noise is taken to be {number(times, 2)} times the prior's where all tokens differ from "
        f"it, by {found.runs[PRIOR]} runs of the prior and {found.runs[CORNER]} of the corner (few "
        "runs say little, and are drawn to 1): `best` and report weigh trials so, and promise by "
        "the noise that a mixture has."
    ]
