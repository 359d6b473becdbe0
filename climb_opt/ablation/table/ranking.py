"""Ranks of arms over problems and budgets, from the runs of `objective: mixbench`.

A *cell* is a problem at a level of noise with one seed; in it the arms that took part are ranked by
the true regret of what they recommended after a part of the budget, 1 the best, equal ones sharing.
An arm without a mixture there ranks last; one that was skipped (something is not installed, a
problem without rungs) is not ranked, and counts against nobody. A cell that an arm has still to do
is not ranked at all, so that a comparison may be looked at while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import rankdata

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import arms, settings
from climb_opt.ablation.run.benched import SKIPPED, problem_of
from climb_opt.ablation.run.results import RunResult
from climb_opt.statistics import MIN_SEEDS, Summary, bootstrap_interval, summarise
from climb_opt.text import csv_text

CSV = (
    "problem", "arm", "seed", "spent", "regret", "excess", "score held", "score error",
    "score half", "score winkler",
)  # fmt: skip
LEVEL = 0.9  # of intervals of mean ranks


@dataclass(frozen=True)
class Mean:
    """A mean with its interval; None where there are too few cells."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Ranking:
    """All ranks of a comparison.

    Args:
        recipe: what was compared.
        results: of the runs that finished.
    """

    recipe: AblationRecipe
    results: Sequence[RunResult]

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Arms that took part anywhere, in the recipe's order."""
        took = {r.arm for r in self.counted}
        return tuple(arm.name for arm in arms(self.recipe) if arm.name in took)

    @cached_property
    def everywhere(self) -> tuple[str, ...]:
        """Arms that took part in every problem: those an overall rank compares."""
        return tuple(a for a in self.arms if all(self.took(a, s) for s in self.settings))

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """Problems with their noise, in the recipe's order."""
        have = {r.setting for r in self.counted}
        return tuple(name for name, _ in settings(self.recipe) if name in have)

    @cached_property
    def seen(self) -> dict[str, bool]:
        """Whether constants of climb_opt were chosen on the shape of a setting's problem."""
        found = dict(settings(self.recipe))
        first = self.recipe.first_seed
        return {name: problem_of(found[name].options, first).seen for name in self.settings}

    @cached_property
    def counted(self) -> list[RunResult]:
        """The runs that count: of cells that all arms have done."""
        have: dict[tuple[str, int], set[str]] = {}
        for r in self.results:
            have.setdefault((r.setting, r.seed), set()).add(r.arm)
        planned = {arm.name for arm in arms(self.recipe)}
        return [
            r
            for r in self.results
            if have[r.setting, r.seed] >= planned and not r.error.startswith(SKIPPED)
        ]

    @cached_property
    def unfinished(self) -> str:
        """How much is done, in words; "" where all is."""
        recipe = self.recipe
        whole = recipe.seeds * len(settings(recipe)) * len(arms(recipe))
        if len(self.results) >= whole:
            return ""
        cells = len({(r.setting, r.seed) for r in self.counted})
        return (
            f"{len(self.results)} of {whole} runs are done; ranked are those of the {cells} of "
            f"{whole // len(arms(recipe))} cells (problem, noise, seed) that every method has done."
        )

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Parts of the budget after which recommendations were judged."""
        return tuple(sorted({part for r in self.counted for part in r.promises}, key=float))

    def took(self, arm: str, setting: str) -> bool:
        """Whether an arm took part in a setting."""
        return (arm, setting) in self._runs

    def here(self, setting: str) -> list[str]:
        """The arms that took part in a setting."""
        return [arm for arm in self.arms if self.took(arm, setting)]

    def values(self, arm: str, setting: str, part: str, what: str = "regret") -> dict[int, float]:
        """Seed -> a figure of the recommendation; a run without one has none."""
        runs = self._runs.get((arm, setting), ())
        found = {r.seed: r.promises.get(part, {}).get(what) for r in runs}
        return {seed: float(value) for seed, value in found.items() if value is not None}

    def every(self, arm: str, what: str) -> list[float]:
        """A figure of all recommendations of an arm."""
        each = (self.values(arm, s, part, what) for s in self.settings for part in self.parts)
        return [value for found in each for value in found.values()]

    def facts(self, arm: str, what: str) -> list[float]:
        """A fact of all runs of an arm."""
        mine = [r.facts.get(what) for r in self.counted if r.arm == arm]
        return [float(v) for v in mine if v is not None]

    def ranks(self, part: str, names: Sequence[str], setting: str) -> dict[str, np.ndarray]:
        """Ranks (seeds,) of each of these arms in a setting."""
        of = {name: self.values(name, setting, part) for name in names}
        seeds = sorted({r.seed for r in self.counted if r.setting == setting})
        table = np.array([[of[n].get(s, math.inf) for n in names] for s in seeds])
        # Digits that rounding decides are no difference.
        ranked = rankdata(np.round(table, 9), axis=1)
        return {name: ranked[:, i] for i, name in enumerate(names)}

    def mean_rank(self, arm: str, part: str, among: Sequence[str] | None = None) -> Mean:
        """The mean rank of an arm over the settings (by default all), among `everywhere`."""
        chosen = self.settings if among is None else among
        found = [self.ranks(part, self.everywhere, s)[arm] for s in chosen]
        return _mean_of(np.concatenate(found) if found else np.zeros(0), len(self.everywhere))

    def rank_in(self, arm: str, setting: str, part: str) -> Mean:
        """The mean rank of an arm over the seeds of a setting, among all that took part there."""
        here = self.here(setting)
        return _mean_of(self.ranks(part, here, setting)[arm], len(here))

    def summary(self, arm: str, setting: str, part: str) -> Summary:
        """Regrets over seeds."""
        return summarise(list(self.values(arm, setting, part).values()))

    def place(self, arm: str, setting: str, part: str) -> int:
        """The place of an arm by its median regret in a setting, 1 the best."""
        medians = {a: self._median(a, setting, part) for a in self.here(setting)}
        return 1 + sum(m < medians[arm] for m in medians.values())

    def ratio(self, arm: str, setting: str) -> float:
        """FLOPs after which an arm's median regret is that of the reference after all of its, as a
        share of those; infinite where it never is, NaN without a reference there."""
        reference, last = self.recipe.reference, self.parts[-1]
        if reference is None or not self.took(reference, setting):
            return math.nan
        goal = self._median(reference, setting, last)
        before: tuple[float, float] | None = None
        for part in self.parts:
            at, regret = float(part), self._median(arm, setting, part)
            if regret <= goal:
                if before is None or not before[1] > regret:
                    return at / float(last)
                share = (before[1] - goal) / (before[1] - regret)
                return (before[0] + share * (at - before[0])) / float(last)
            before = (at, regret)
        return math.inf

    def as_csv(self) -> str:
        """One line for each recommendation: no times, no dates, the same from the same seeds."""
        rows = []
        for r in self.results:
            counts = [r.facts.get("off", ""), r.facts.get("repeated", ""), r.failed, r.error]
            for part, found in (r.promises or {"": {}}).items():
                figures = [None if found.get(k) is None else f"{found[k]:.8g}" for k in CSV[3:]]
                rows.append([r.setting, r.arm, r.seed, part, *figures, *counts])
        return csv_text([*CSV[:3], "budget", *CSV[3:], "off", "repeated", "failed", "error"], rows)

    # --- private -----------------------------------------------------------------------------

    @cached_property
    def _runs(self) -> dict[tuple[str, str], list[RunResult]]:
        found: dict[tuple[str, str], list[RunResult]] = {}
        for r in self.counted:
            found.setdefault((r.arm, r.setting), []).append(r)
        return found

    def _median(self, arm: str, setting: str, part: str) -> float:
        found = list(self.values(arm, setting, part).values())
        return float(np.median(found)) if found else math.inf


def _mean_of(ranks: np.ndarray, most: int) -> Mean:
    if not len(ranks):
        return Mean(math.nan)
    if len(ranks) < MIN_SEEDS:
        return Mean(float(ranks.mean()))
    low, high = bootstrap_interval(ranks, level=LEVEL)
    return Mean(float(ranks.mean()), (max(1.0, low), min(most, high)))
