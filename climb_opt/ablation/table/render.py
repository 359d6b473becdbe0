"""Comparisons as Markdown, CSV and JSON."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import platform
from collections.abc import Sequence

from climb_opt import __version__
from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.run.results import RunResult
from climb_opt.ablation.table import coverage
from climb_opt.ablation.table.comparison import ArmRow, Comparison
from climb_opt.provenance import libraries
from climb_opt.statistics import Summary
from climb_opt.text import counted, csv_text, pipe_table, powers, strict_json

AUTO = "our rule"
COLUMNS = (
    "setting", "arm", "seed", "final", "best", "auto", "trials", "failed", "tokens", "flops",
    "seconds",
    "error", "mixtures",
)  # fmt: skip
CLEAR = 0.05  # a corrected p below it marks a difference in the overview


def markdown(
    name: str,
    recipe: AblationRecipe,
    tables: Sequence[Comparison],
    command: str = "",
    promised: Sequence[coverage.Row] = (),
) -> str:
    """The whole comparison as one Markdown text: figures first, how they came about below.

    Args:
        promised: what searches promised, a row for each recommendation.
    """
    lines = [f"# {name}", ""]
    lines += [f"Answers to: {recipe.answers}", ""] if recipe.answers else []
    lines += _coverage(promised) if promised else []
    lines += _overview(recipe, tables) if len(tables) > 1 else []
    for table in tables:
        lines += _table(recipe, table)
    lines += _legend(recipe)
    lines += [f"Command: `{command}`.", ""] if command else []
    lines += [f"{datetime.date.today():%Y-%m-%d}, {versions()}.", ""]
    return "\n".join(lines)


def as_csv(results: Sequence[RunResult]) -> str:
    """One line a run."""
    mixtures = [None if r.mixture is None else json.dumps(r.mixture) for r in results]
    rows = ([getattr(r, key) for key in COLUMNS] for r in results)
    both = ([*row, mixture] for row, mixture in zip(rows, mixtures, strict=True))
    return csv_text([*COLUMNS, "mixture"], both)


def as_json(
    name: str, recipe: AblationRecipe, tables: Sequence[Comparison], results: Sequence[RunResult]
) -> str:
    """Everything, for other programs: recipe, comparisons, runs."""
    data = {
        "name": name,
        "date": f"{datetime.date.today():%Y-%m-%d}",
        "versions": versions(),
        "recipe": dataclasses.asdict(recipe),
        "comparisons": [dataclasses.asdict(table) for table in tables],
        "runs": [dataclasses.asdict(result) for result in results],
    }
    return strict_json(data)


def versions() -> str:
    """What ran: Python and the packages that decide figures."""
    found = {"Python": platform.python_version(), "climb-opt": __version__, **libraries()}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def number(value: float) -> str:
    """Three significant digits without needless zeros; a dash for what is not there."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    digits = max(0, min(5, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:.{digits}f}"


# --- private -----------------------------------------------------------------------------------


def _table(recipe: AblationRecipe, table: Comparison) -> list[str]:
    lines = [f"## {table.setting}", ""] if table.setting else []
    lines += [f"{table.quality}.", ""] if table.quality else []
    against = recipe.reference is not None
    head = ["arm", "trials", "final mixture", "best measured"]
    head += [AUTO] if any(row.auto.n for row in table.rows) else []
    head += [f"minus {recipe.reference} [95 %]", "p", "wins"] if against else []
    head += ["predictor rho"] if any(row.ranks for row in table.rows) else []
    head += ["FLOPs"] if any(row.flops for row in table.rows) else []
    head += ["failed", "s/run"]
    lines += pipe_table(head, [_cells(row, head, table, against) for row in table.rows])
    lines += ["", *[f"- {remark}" for remark in table.remarks]]
    return [*lines, ""] if table.remarks else lines


def _coverage(promised: Sequence[coverage.Row]) -> list[str]:
    """Do the stated intervals hold: pooled by arm and noise, then by number of trials, too."""
    lines = ["## Do the intervals hold?", ""]
    for by in (("arm", "noise"), ("arm", "noise", "n")):
        head, *rows = coverage.lines_of(promised, by)
        lines += [*pipe_table(head, rows), ""]
    return [*lines, coverage.LEGEND, ""]


def _overview(recipe: AblationRecipe, tables: Sequence[Comparison]) -> list[str]:
    """Arms down, settings across: the medians, and which differ from the reference."""
    rows = [
        [row.arm, *(_median(table.rows[i], table.final_sign) for table in tables)]
        for i, row in enumerate(tables[0].rows)
    ]
    lines = ["## Final mixtures", ""]
    lines += pipe_table(["arm", *(table.setting for table in tables)], rows)
    lines += ["", "Medians over seeds; fewer seeds than planned in brackets."]
    if recipe.reference is not None:
        lines[-1] += f" + better and - worse than {recipe.reference} (corrected p below {CLEAR})."
    return [*lines, ""]


def _median(row: ArmRow, sign: float) -> str:
    if not row.final.n:
        return "-"
    text = number(sign * row.final.median)
    if row.against is not None and row.against.corrected < CLEAR:
        text += " +" if row.against.difference < 0 else " -"
    return f"{text} ({row.final.n})" if row.missing or row.lost else text


def _cells(row: ArmRow, head: list[str], table: Comparison, against: bool) -> list[str]:
    name = f"{row.arm} ({row.note})" if row.note else row.arm
    spreads = [_spread(row.final, table.final_sign), _spread(row.best, table.search_sign)]
    cells = [name, str(row.trials or "-"), *spreads]
    cells += [_spread(row.auto, table.final_sign)] if AUTO in head else []
    cells += _difference(row, table.final_sign) if against else []
    cells += [" ".join(number(r) for r in row.ranks) or "-"] if "predictor rho" in head else []
    cells += [powers(row.flops) if row.flops else "-"] if "FLOPs" in head else []
    return [*cells, f"{row.failed}/{row.attempts}" if row.failed else "0", number(row.seconds)]


def _spread(summary: Summary, sign: float) -> str:
    if not summary.n:
        return "-"
    low, high = sorted((sign * summary.lower, sign * summary.upper))
    if low == high:  # one seed, or nothing random
        return number(low)
    return f"{number(sign * summary.median)} [{number(low)}, {number(high)}]"


def _difference(row: ArmRow, sign: float) -> list[str]:
    paired = row.against
    if paired is None:
        return ["reference", "", ""]
    if not paired.n:
        return ["-", "-", "-"]
    text = number(sign * paired.difference)
    if paired.interval is not None:
        low, high = sorted(sign * end for end in paired.interval)
        text += f" [{number(low)}, {number(high)}]"
    return [text, number(paired.corrected), f"{paired.wins}/{paired.n}"]


def _legend(recipe: AblationRecipe) -> list[str]:
    what = (
        "Values: test scores of the final mixtures, retrained with fresh seeds; best measured: the "
        "search's own score."
        if recipe.live
        else "Values: regret of the true, noise-free score: 0 the best known mixture, 1 a typical "
        "random one (median of the sparse prior); negative where the best known was beaten."
    )
    lines = [
        what,
        f"Budget per arm and seed: {recipe.budget}; {counted(recipe.seeds, 'seed')}, paired, from "
        f"{recipe.first_seed}; random numbers shared by all arms of a seed. "
        "Cells: median [quartiles] over seeds. Final mixture: by the arm's own rule; our rule: "
        "`auto` of climb_opt.selection on the same trials.",
    ]
    if recipe.reference is not None:
        lines.append(
            "Differences: mean over seeds with a studentised bootstrap interval; p: two-sided "
            "sign-flip test, Holm-corrected over the arms of the table; wins: seeds in which the "
            "arm was better."
        )
    return [*lines, ""]
