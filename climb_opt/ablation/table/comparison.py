"""Results of runs -> one comparison per setting: every arm summed up and set against the reference.

Nothing is dropped silently: runs that gave no mixture, failed trials and missing runs are counted
in the arm's row, and `remarks` says what the numbers cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import arms, judged_study, settings
from climb_opt.ablation.run.results import RunResult
from climb_opt.statistics import MIN_SEEDS, Paired, Summary, compare, holm, summarise

MANY_FAILURES = 0.5  # share of failed trials from which an arm's figures are called unsound


@dataclass(frozen=True)
class ArmRow:
    """One arm over its seeds. `against` is None for the reference itself and without one.

    `lost` runs ended without a mixture, `missing` ones have not finished; `ranks` is the mean rank
    correlation by round.
    """

    arm: str
    final: Summary
    best: Summary
    auto: Summary
    against: Paired | None
    trials: int
    failed: int
    attempts: int
    lost: int
    missing: int
    tokens: float
    flops: float
    seconds: float
    ranks: tuple[float, ...]
    note: str
    values: dict[int, float]  # seed -> value of the final mixture
    curves: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Comparison:
    """All arms in one setting, lower being better. `quality` is the objective's own line.

    `final_sign` and `search_sign` are -1 where higher is better, in the test and in the search: a
    table shows such scores with their own sign.
    """

    setting: str
    quality: str
    rows: tuple[ArmRow, ...]
    remarks: tuple[str, ...]
    final_sign: float = 1.0
    search_sign: float = 1.0


def comparisons(recipe: AblationRecipe, results: Sequence[RunResult]) -> list[Comparison]:
    """One comparison for each setting, arms in the recipe's order."""
    return [_comparison(recipe, name, results) for name, _ in settings(recipe)]


# --- private -----------------------------------------------------------------------------------


def _comparison(recipe: AblationRecipe, setting: str, results: Sequence[RunResult]) -> Comparison:
    here = [r for r in results if r.setting == setting]
    rows = [
        _row(recipe, arm.name, arm.options.note, [r for r in here if r.arm == arm.name])
        for arm in arms(recipe)
    ]
    rows = _against(rows, recipe.reference)
    quality = next((str(r.facts["quality"]) for r in here if r.facts.get("quality")), "")
    remarks = (*_qualities(here, quality), *_remarks(recipe, rows, here))
    if not recipe.live:
        return Comparison(setting, quality, tuple(rows), remarks)
    search = arms(recipe)[0].study
    signs = judged_study(recipe, search).sign, search.sign
    return Comparison(setting, quality, tuple(rows), remarks, *signs)


def _row(recipe: AblationRecipe, arm: str, note: str, results: list[RunResult]) -> ArmRow:
    values = {r.seed: r.final for r in results if r.final is not None}
    notes = [n for n in dict.fromkeys([note, *(r.note for r in results)]) if n]
    ranks = [[np.nan if v is None else v for v in r.ranks] for r in results if r.ranks]
    return ArmRow(
        arm=arm,
        final=summarise(list(values.values())),
        best=summarise([r.best for r in results if r.best is not None]),
        auto=summarise([r.auto for r in results if r.auto is not None]),
        against=None,
        trials=max((r.trials for r in results), default=0),
        failed=sum(r.failed for r in results),
        attempts=sum(r.trials + r.failed for r in results),
        lost=sum(r.final is None for r in results),
        missing=recipe.seeds - len(results),
        tokens=float(np.mean([r.tokens for r in results])) if results else 0.0,
        flops=float(np.mean([r.flops for r in results])) if results else 0.0,
        seconds=float(np.mean([r.seconds for r in results])) if results else 0.0,
        ranks=_column_means(ranks),
        note="; ".join(notes),
        values=values,
        curves=tuple(
            tuple(np.nan if v is None else v for v in r.curve) for r in results if r.curve
        ),
    )


def _column_means(rows: list[list[float]]) -> tuple[float, ...]:
    columns = ([v for v in c if np.isfinite(v)] for c in zip_longest(*rows, fillvalue=np.nan))
    return tuple(float(np.mean(c)) if c else float("nan") for c in columns)


def _against(rows: list[ArmRow], reference: str | None) -> list[ArmRow]:
    other = next((row for row in rows if row.arm == reference), None)
    if other is None:
        return rows
    paired = {row.arm: compare(row.values, other.values) for row in rows if row.arm != reference}
    corrected = holm([p.p for p in paired.values()])
    final = {
        name: replace(p, corrected=c)
        for (name, p), c in zip(paired.items(), corrected, strict=True)
    }
    return [replace(row, against=final.get(row.arm)) for row in rows]


def _qualities(results: list[RunResult], shown: str) -> list[str]:
    """A line for the arms that searched on something else than the comparison's first line says."""
    arms_of: dict[str, list[str]] = {}
    for arm, text in {r.arm: str(r.facts.get("quality", "")) for r in results}.items():
        arms_of.setdefault(text, []).append(arm)
    return [f"{', '.join(own)}: {t}." for t, own in arms_of.items() if t and t != shown]


def _remarks(recipe: AblationRecipe, rows: list[ArmRow], results: list[RunResult]) -> list[str]:
    remarks = []
    if recipe.seeds < MIN_SEEDS:
        remarks.append(
            f"With {recipe.seeds} of at least {MIN_SEEDS} seeds no interval can be given: "
            "differences are shown without one."
        )
    for row in rows:
        broken = [r for r in results if r.arm == row.arm and r.error]
        if row.missing:
            remarks.append(f"{row.arm}: {row.missing} of {recipe.seeds} runs have not finished.")
        if row.lost:
            why = f": {min(r.error for r in broken)}" if broken else ""
            remarks.append(f"{row.arm}: {row.lost} of {recipe.seeds} runs gave no mixture{why}")
        if cut := sorted(r.error for r in broken if r.final is not None):
            remarks.append(
                f"{row.arm}: {len(cut)} of {recipe.seeds} searches were given up: {cut[0]}"
            )
        if row.trials and row.failed / row.attempts >= MANY_FAILURES:
            remarks.append(
                f"{row.arm}: {row.failed} of {row.attempts} trials failed; its figures rest on "
                "what was left."
            )
    beyond = {r.arm for r in results if r.facts.get("final_extrapolates")}
    if beyond:
        remarks.append(
            f"The final mixtures of {', '.join(sorted(beyond))} lie, in some runs, beyond the "
            "table's rows: their values are extrapolated."
        )
    return remarks
