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
from climb_opt.emulator.ladders import LadderObjective
from climb_opt.errors import UserError
from climb_opt.ladder import Ladder
from climb_opt.ladder.recipe import BudgetRecipe
from climb_opt.recipes import Choice, StudyRecipe
from climb_opt.reports.planned.costs import with_rungs
from climb_opt.reports.planned.measured import Evidence
from climb_opt.selection import best_mixture
from climb_opt.simplex import MixtureSpace
from climb_opt.storages import study_lock
from climb_opt.study import build_sampler
from climb_opt.text import counted, number, pipe_table
from climb_opt.view import StudyView, store_space
from climb_opt.workers import Work, work

MOST = 32  # trials of the target: searches are emulated up to this budget
MOST_TRIALS = 80  # of one search: more mixtures teach little and take minutes
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
    """

    arm: str
    budgets: tuple[float, ...]
    runs: tuple[tuple[float, ...], ...]

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
    sources = [
        SimulatedLadder(
            MixingLaw(len(setting.space), seed=seed, space=setting.space),
            setting.ladder,
            correlation=setting.evidence.correlation,
            noise=setting.evidence.noise,
            seed=seed,
        )
        for seed in range(setting.seeds)
    ]
    found = []
    for arm, only_top in arms_of(recipe, setting.ladder):
        runs = []
        for budget in budgets:
            if only_top and budget != budgets[-1]:
                runs.append((math.nan,) * setting.seeds)
                continue
            of = []
            for seed, source in enumerate(sources):
                of.append(_regret(_arm(recipe, arm, budget, setting.ladder), source, seed))
                step()
            runs.append(tuple(of))
        found.append(Regret(arm, budgets, tuple(runs)))
    return tuple(found)


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
    without = [(_without(ladder, rung), True) for rung in used] if len(used) > 1 else []
    return [(PLANNED, False), (ONE, False), *without]


def regret_text(regrets: Sequence[Regret], setting: Setting) -> list[str]:
    """The regrets as lines of Markdown: a row for each budget."""
    told = setting.evidence
    rows = [
        [number(budget, 3), *(_cell(regret.runs[i]) for regret in regrets)]
        for i, budget in enumerate(regrets[0].budgets)
    ]
    correlations = ", ".join(f"{rho:.2f}" for rho in told.correlation)
    ranks = f"; rank correlation {correlations} ({told.correlation_from})" if correlations else ""
    return [
        *pipe_table(["budget, target trials", *(regret.arm for regret in regrets)], rows),
        "",
        f"Expected regret at the target in spreads of its scores over typical mixtures, mean ± "
        f"standard error over {counted(setting.seeds, 'seed')} of emulated searches, "
        f"{counted(len(setting.space), 'domain')}; noise {number(told.noise, 2)} of a spread "
        f"({told.noise_from}){ranks}. Baselines are not part of these budgets; a search is cut at "
        f"{MOST_TRIALS} trials, budgets at {MOST} trials of the target.",
    ]


def advice_of(regrets: Sequence[Regret], ladder: Ladder) -> str:
    """What to do, in one line."""
    arms = {regret.arm: regret for regret in regrets}
    one, top = arms[ONE], arms[ONE].budgets[-1]
    whole = arms.get(PLANNED) or arms.get(CHOSEN)
    if whole is None:
        return "There is one rung, and none cheaper can be made of it: nothing to choose."
    gain, error = _paired(one.runs[-1], whole.runs[-1])
    for rung in range(ladder.target):
        if (dropped := arms.get(_without(ladder, rung))) is not None:
            lost, _ = _paired(dropped.runs[-1], whole.runs[-1])
            if lost <= 0:
                return (
                    f"Trials at {ladder.rungs[rung].name} add nothing: spend them at "
                    f"{ladder.rungs[_heir(ladder, rung)].name}."
                )
    if gain <= 0:
        return "At this correlation the ladder gains nothing: drop it."
    if gain <= error:
        return (
            f"The ladder's gain is within chance at {number(top, 3)} target trials "
            f"({number(gain, 2)} ± {number(error, 2)} spreads); more --seeds would tell."
        )
    reached = _reached(whole, float(one.means[-1]))
    if reached < 0.9 * top:
        return (
            f"The ladder reaches at {number(reached, 2)} target trials what one rung reaches at "
            f"{number(top, 3)}."
        )
    return (
        f"At {number(top, 3)} target trials the ladder's regret is {whole.means[-1]:.2f}, that of "
        f"one rung {one.means[-1]:.2f}."
    )


# --- private -------------------------------------------------------------------------------------


def _without(ladder: Ladder, rung: int) -> str:
    return f"without {ladder.rungs[rung].name}"


def _heir(ladder: Ladder, rung: int) -> int:
    """The rung that gets what another one's trials cost: the cheapest other."""
    return 1 if rung == 0 else 0


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
        if arm == _without(ladder, rung):
            heir = _heir(ladder, rung)
            ratio = float(ladder.costs[rung] / ladder.costs[heir])
            sizes = [s * ratio if r == rung else s for s, r in zip(sizes, rungs, strict=True)]
            rungs = [heir if r == rung else r for r in rungs]
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


def _regret(recipe: StudyRecipe, source: SimulatedLadder, seed: int) -> float:
    recipe = replace(recipe, seed=seed)
    study = optuna.create_study(
        storage=InMemoryStorage(), sampler=build_sampler(recipe, source.space)
    )
    store_space(study, source.space)
    if recipe.ladder:
        study.set_user_attr(LADDER, source.ladder.to_data())
    study.set_user_attr(RECIPE, recipes.to_json(recipe))
    view = StudyView(study)
    wanted = Work(view.plan, space=source.space, stop=lambda: len(view.trials()) >= MOST_TRIALS)
    work(study, LadderObjective(source, seed=seed), study_lock(study), wanted)
    try:
        chosen = best_mixture(study, space=source.space, seed=seed)
    except UserError as error:
        raise UserError(f"an emulated search recommends nothing: {error}") from None
    weights = source.space.weights(chosen.mixture, normalise=True)
    lost = float(source.truth(weights[None])[0]) - source.optimum()[1]
    return lost / source.sigma


def _cell(runs: Sequence[float]) -> str:
    if any(map(math.isnan, runs)):
        return "-"
    mean = f"{np.mean(runs):.3f}"
    return mean if len(runs) < 2 else f"{mean} ± {np.std(runs, ddof=1) / math.sqrt(len(runs)):.3f}"


def _paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The mean of the differences and its standard error (0 of one seed)."""
    differences = np.subtract(ours, theirs)
    n = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return float(differences.mean()), error


def _reached(regret: Regret, level: float) -> float:
    """The budget at which an arm's regret is `level`, between those that were run; it reaches it at
    the last."""
    best = np.minimum.accumulate(regret.means)
    if best[0] <= level:
        return regret.budgets[0]
    logs = np.interp(-level, -best, np.log(regret.budgets))
    return float(np.exp(logs))
