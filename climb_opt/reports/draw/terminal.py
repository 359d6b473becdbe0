"""Tables for a terminal: aligned whatever the script, at most as wide as asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from climb_opt.commands import command
from climb_opt.phases import PhasedSpace, one_phase, side_by_side
from climb_opt.reports.parts.mixture import rules_table
from climb_opt.reports.parts.objectives import trade_offs
from climb_opt.reports.section import Table, Words
from climb_opt.reports.snapshot import Snapshot
from climb_opt.retrain.paired import Confirmation, another, first_line
from climb_opt.selection import Advice
from climb_opt.simplex import MixtureSpace
from climb_opt.text import pad, percent, plus_minus, printable, shorten, width

WIDTH = 98
NAME = 34  # columns that a domain's name may take
ROWS = 40  # domains listed one by one
STEADY = 5e-5  # weights that differ less from phase to phase print alike


def recommended(snapshot: Snapshot, advice: Advice, confirmation: Confirmation | None) -> str:
    """The mixture found, all rules side by side or the Pareto set, and what is known of the gain.

    Args:
        confirmation: of the study, if it has one.
    """
    space, chosen, name = snapshot.space, advice.chosen, snapshot.name
    uniform = np.full(len(snapshot.domains), 1 / len(snapshot.domains))
    arrays = side_by_side(space, "found", snapshot.weights(chosen.mixture))
    if chosen.phases:
        arrays = {"whole run": arrays.pop("found"), **arrays}
    arrays |= {"prior": snapshot.prior, "uniform": uniform}
    first = printable(first_line(chosen, confirmation))
    parts = [*([first] if first else []), mixtures(snapshot.domains, arrays)]
    found = trade_offs(snapshot)
    if found is not None:
        export = command("export", name, "--trial", "N", "--format", "FORMAT")
        parts += [listing(*found), f"Another of them: `{export}`."]
    else:
        rules = rules_table(snapshot, advice.recommended, advice.followed)
        note = "± is half a 90 % interval; * marks the rule that is followed."
        note += f" Judged at {chosen.rung}." if chosen.rung else ""
        parts.append(f"{table(rules.head, _cells(rules))}\n{note}")
        parts += [f"{printable(text)}." for text in snapshot.told_of_methods()]
        if confirmation is not None and any(confirmation.scores.values()):
            lines = verdicts(confirmation)
            if earlier := another(chosen, confirmation):
                again = command("confirm", name, "--as", "NAME")
                lines.insert(0, f"{earlier}; `{again}` retrains it.")
            parts.append("\n".join(lines))
        else:
            parts.append(f"Predicted, not yet retrained: `{command('confirm', name)}`.")
    return "\n\n".join([*parts, *(f"Caution: {warning}." for warning in chosen.warnings)])


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, foot: Sequence[Sequence[str]] = ()
) -> str:
    """Aligned columns: the first one text, cut to `NAME` columns, the others numbers.

    Args:
        foot: rows below a second rule.
    """
    every = [[shorten(r[0], NAME), *(printable(c) for c in r[1:])] for r in (head, *rows, *foot)]
    columns = [max(width(row[k]) for row in every) for k in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, columns, strict=True)
        return "  ".join([pad(*first), *(pad(c, w, right=True) for c, w in rest)]).rstrip()

    rule = "  ".join("-" * w for w in columns)
    body = [line(row) for row in every[1 : 1 + len(rows)]]
    bottom = [rule, *(line(row) for row in every[1 + len(rows) :])] if foot else []
    return "\n".join([line(every[0]), rule, *body, *bottom])


def mixtures(
    domains: Sequence[str], columns: Mapping[str, np.ndarray], *, foot: Sequence[Sequence[str]] = ()
) -> str:
    """Mixtures side by side in per cent, by the first one's weights; small ones summed up."""
    stack = np.array(list(columns.values()))
    order = np.argsort(-stack[0], kind="stable")
    cut = len(order) if len(order) <= ROWS + 1 else ROWS
    lines = [[domains[k], *(percent(float(w)) for w in stack[:, k])] for k in order[:cut]]
    if cut < len(order):
        rest = stack[:, order[cut:]].sum(axis=1)
        lines.append([f"({len(order) - cut} more domains)", *(percent(float(w)) for w in rest)])
    return table(["domain, %", *columns], lines, foot=foot)


def listing(*blocks: Words | Table) -> str:
    """Sentences and tables, one below the other."""
    return "\n\n".join(
        textwrap.fill(printable(block.text), WIDTH, break_on_hyphens=False)
        if isinstance(block, Words)
        else table(block.head, _cells(block))
        for block in blocks
    )


def _cells(found: Table) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in found.rows]


def confirmed(confirmation: Confirmation, space: MixtureSpace) -> str:
    """The mixture found beside the baselines, their scores over seeds below, then the verdict.

    Of schedules a column for the whole run, then one for each phase where they differ.
    """
    names = [n for n in confirmation.scores if confirmation.scores[n]]
    columns, unit = _columns(confirmation, names, space), confirmation.unit
    means = {n: plus_minus(confirmation.mean(n), confirmation.spread(n)) for n in names}
    scores = [means.get(n, "") for n in columns]
    seeds = [str(len(confirmation.scores[n])) if n in means else "" for n in columns]
    foot = [[f"{unit} (± sd over seeds)", *scores], ["seeds", *seeds]]
    if not names:
        return "Nothing has been retrained yet."
    first = printable(first_line(None, confirmation))
    shown = [mixtures(one_phase(space).domains, columns, foot=foot), "", *verdicts(confirmation)]
    return "\n".join([*([first, ""] if first else []), *shown])


def _columns(
    confirmation: Confirmation, names: Sequence[str], space: MixtureSpace
) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for name in names:
        mixture = confirmation.mixtures[name]
        if not isinstance(space, PhasedSpace):
            columns[name] = np.array([mixture.get(d, 0.0) for d in space.domains])
            continue
        weights = space.weights(mixture)
        found = side_by_side(space, name, weights)
        steady = float(np.ptp(space.blocks(weights), axis=0).max()) < STEADY
        columns |= {name: found.pop(name)}
        columns |= {} if steady else {f"{name}, {phase}": w for phase, w in found.items()}
    return columns


def verdicts(confirmation: Confirmation) -> list[str]:
    """One plain line for each finalist and baseline, then what to know about them."""
    lines = [printable(d.sentence(confirmation.unit)) + "." for d in confirmation.differences()]
    lines += map(printable, confirmation.remarks())
    if confirmation.dropped:
        lines.append(f"Left behind in the race: {', '.join(confirmation.dropped)}.")
    return lines
