"""Expected regret against budget: the recipe's search, emulated on simulated ladders.

Regret is how much worse than the best mixture the recommended one is at the target, in spreads of
the target's scores over typical mixtures. All arms of a seed share its law and its noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import optuna
from optuna.storages import InMemoryStorage

from climb_opt import lookup, recipes
from climb_opt.attributes import LADDER, RECIPE
from climb_opt.emulator import MixingLaw, SimulatedLadder
from climb_opt.emulator.ladders import LadderObjective, LadderSource
from climb_opt.errors import within
from climb_opt.ladder import Ladder
from climb_opt.recipes import BudgetRecipe, Choice, StudyRecipe
from climb_opt.reports.planned.costs import with_rungs
from climb_opt.reports.planned.measured import Evidence
from climb_opt.selection import best_mixture
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import study_lock
from climb_opt.study import build_sampler
from climb_opt.view import StudyView, store_space
from climb_opt.workers import Work, work

MOST = 32  # trials of the target: searches are emulated up to this budget
MOST_TRIALS = 80  # of one search: more mixtures teach little and take minutes; the target's always
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the largest budget
PLANNED, CHOSEN, ONE = "as planned", "rungs chosen", "target only"


class Setting(NamedTuple):
    """What is searched: mixtures, rungs, and how noisy and how alike they are."""

    space: MixtureSpace
    ladder: Ladder
    evidence: Evidence
    seeds: int


@dataclass(frozen=True)
class Regret:
    """Of one arm: regret of each budget and seed; NaN where the arm was not run.

    Attributes:
        budgets: in trials of the target, (B,).
        runs: regrets (B, S).
        cut: of each budget, whether a search had to make do with `MOST_TRIALS` trials, (B,).
    """

    arm: str
    budgets: tuple[float, ...]
    runs: tuple[tuple[float, ...], ...]
    cut: tuple[bool, ...]

    @property
    def means(self) -> np.ndarray:
        """The expected regret at each budget, (B,)."""
        return np.array(self.runs).mean(axis=1)


def budgets_for(target_trials: float) -> tuple[float, ...]:
    """Four budgets up to this one, or up to MOST, none below one trial of the target."""
    top = min(target_trials, float(MOST))
    return tuple(sorted({max(1.0, share * top) for share in SHARES}))


def emulated(
    recipe: StudyRecipe,
    setting: Setting,
    target_trials: float,
    step: Callable[[], object] = lambda: None,
) -> tuple[Regret, ...]:
    """The regret of each arm at four budgets.

    Args:
        target_trials: the largest budget.
        step: called after each of `searches(...)` searches.

    Raises:
        UserError: an unknown sampler, rank correlations that no law has.
    """
    budgets = budgets_for(target_trials)
    sources = [searched_on(setting, seed) for seed in range(setting.seeds)]
    found = []
    for arm, only_top in arms_of(recipe, setting.ladder):
        runs, cut = [], []
        for budget in budgets:
            of = [(math.nan, False)] * setting.seeds
            if not only_top or budget == budgets[-1]:
                for seed, source in enumerate(sources):
                    of[seed] = search(recipe, arm, budget, source, seed)
                    step()
            runs.append(tuple(regret for regret, _ in of))
            cut.append(any(ended for _, ended in of))
        found.append(Regret(arm, budgets, tuple(runs), tuple(cut)))
    return tuple(found)


def searched_on(setting: Setting, seed: int) -> SimulatedLadder:
    """The ladder on which the searches of a seed are emulated."""
    return SimulatedLadder(
        MixingLaw(len(setting.space), seed=seed, space=setting.space),
        setting.ladder,
        correlation=setting.evidence.correlation,
        noise=setting.evidence.noise,
        seed=seed,
    )


def search(
    recipe: StudyRecipe, arm: str, budget: float, source: LadderSource, seed: int
) -> tuple[float, bool]:
    """The regret of one emulated search of an arm, and whether it was cut to `MOST_TRIALS`.

    Args:
        budget: in trials of the target.
    """
    wanted = _arm(recipe, arm, budget, source.ladder)
    fitting = _fitting(wanted, source.ladder.target)
    regret, ended = _search(fitting, source, seed)
    return regret, ended or fitting.rounds != wanted.rounds


def searches(recipe: StudyRecipe, setting: Setting, target_trials: float) -> int:
    """How many searches `emulated` runs."""
    budgets = len(budgets_for(target_trials))
    arms = arms_of(recipe, setting.ladder)
    return setting.seeds * sum(1 if only_top else budgets for _, only_top in arms)


def arms_of(recipe: StudyRecipe, ladder: Ladder) -> list[tuple[str, bool]]:
    """What is compared, and whether at the largest budget only."""
    if not ladder.target:
        return [(ONE, False)]
    if not recipe.rungs:
        return [(CHOSEN, False), (ONE, False)]
    used = sorted(set(recipe.rungs) - {ladder.target})
    dropped = [(without(ladder, rung), True) for rung in used] if len(used) > 1 else []
    return [(PLANNED, False), (ONE, False), *dropped]


def without(ladder: Ladder, rung: int) -> str:
    """The name of the arm that goes without a rung."""
    return f"without {ladder.rungs[rung].name}"


def heir(rung: int) -> int:
    """The rung that gets what another one's trials cost: the cheapest other."""
    return 1 if rung == 0 else 0


# --- private -------------------------------------------------------------------------------------


def _arm(recipe: StudyRecipe, arm: str, budget: float, ladder: Ladder) -> StudyRecipe:
    """The recipe of an arm whose trials cost `budget` trials of the target."""
    proxies, _ = with_rungs(recipe)
    plain = replace(
        recipe,
        also={}, verify=0, constraints={}, baselines=(), pruner=None, direction="minimize",
        score={"score": 1.0}, ladder=(), rungs=(), budget=None,
    )  # fmt: skip
    chooses = getattr(lookup.find("sampler", recipe.sampler.name), "chooses_rung", False)
    ours = recipe.sampler if chooses else Choice("simplex-gp")
    if arm == CHOSEN:
        flops = budget * float(ladder.costs[-1])
        return replace(plain, ladder=proxies, budget=BudgetRecipe(flops), rounds=(), sampler=ours)
    if arm == ONE:
        own = recipe.rounds if recipe.rungs else (1,)
        sampler = recipe.sampler if recipe.rungs else ours
        rounds = tuple(size for size, _ in _scaled(own, (1.0,) * len(own), budget))
        return replace(plain, rounds=rounds, sampler=sampler)
    sizes, rungs = [float(size) for size in recipe.rounds], list(recipe.rungs)
    for rung in range(ladder.target):
        if arm == without(ladder, rung):
            to = heir(rung)
            ratio = float(ladder.costs[rung] / ladder.costs[to])
            sizes = [s * ratio if r == rung else s for s, r in zip(sizes, rungs, strict=True)]
            rungs = [to if r == rung else r for r in rungs]
    kept = _scaled(sizes, [float(ladder.shares[r]) for r in rungs], budget)
    return replace(
        plain,
        ladder=proxies,
        rounds=tuple(size for size, _ in kept),
        rungs=tuple(rungs[i] for _, i in kept),
    )


def _scaled(
    sizes: Sequence[float], shares: Sequence[float], budget: float
) -> list[tuple[int, int]]:
    """Whole sizes in the same proportions that cost about `budget`, each with its round; the last
    round keeps a trial."""
    factor = budget / sum(s * c for s, c in zip(sizes, shares, strict=True))
    whole = [round(size * factor) for size in sizes]
    whole[-1] = max(1, whole[-1])
    return [(size, index) for index, size in enumerate(whole) if size]


def _fitting(recipe: StudyRecipe, target: int) -> StudyRecipe:
    """Rounds of no more than `MOST_TRIALS`, those below the target smaller in proportion: a search
    that ended before its last round would say nothing of the plan."""
    pairs = list(zip(recipe.rounds, recipe.rungs, strict=False))
    below = sum(size for size, rung in pairs if rung < target)
    room = MOST_TRIALS - sum(recipe.rounds) + below
    if below <= room:
        return recipe
    fitting = (size if rung == target else max(1, size * room // below) for size, rung in pairs)
    return replace(recipe, rounds=tuple(fitting))


def _search(recipe: StudyRecipe, source: LadderSource, seed: int) -> tuple[float, bool]:
    """The regret of one search, and whether some of a budget was left."""
    recipe = replace(recipe, seed=seed)
    study = optuna.create_study(
        storage=InMemoryStorage(), sampler=build_sampler(recipe, source.space)
    )
    store_space(study, source.space)
    if recipe.ladder:
        study.set_user_attr(LADDER, source.ladder.to_data())
    study.set_user_attr(RECIPE, recipes.to_json(recipe))
    view = StudyView(study)

    def enough() -> bool:
        return recipe.budget is not None and len(view.trials()) >= MOST_TRIALS

    wanted = Work(view.plan, space=source.space, stop=enough)
    work(study, LadderObjective(source, seed=seed), study_lock(study), wanted)
    with within("an emulated search recommends nothing"):
        chosen = best_mixture(study, space=source.space, seed=seed)
    weights = source.space.weights(chosen.mixture, normalise=True)
    lost = float(source.truth(weights[None])[0]) - source.optimum()[1]
    return lost / source.sigma, view.plan.next(view.trials()).kind != "done"
