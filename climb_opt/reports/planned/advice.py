"""What emulated searches say, in words: a table of regrets, and one line of advice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from climb_opt.ladder import Ladder
from climb_opt.phases import one_phase, shares_of
from climb_opt.reports.planned.measured import Evidence
from climb_opt.reports.planned.regret import (
    CHOSEN,
    MOST,
    MOST_TRIALS,
    ONE,
    PLANNED,
    Regret,
    Setting,
    heir,
    without,
)
from climb_opt.simplex import MixtureSpace
from climb_opt.text import counted, number, pipe_table


def regret_text(
    regrets: Sequence[Regret], setting: Setting, asked: float | None = None
) -> list[str]:
    """The regrets as lines of Markdown: a row for each budget.

    Args:
        asked: the budget that was asked about, in trials of the target without baselines.
    """
    last = regrets[0].budgets[-1]
    of = f", of {number(asked, 3)} that were asked about" if asked and asked > last else ""
    rows = [
        [number(budget, 3), *(_cell(r.runs[i]) + " *" * r.cut[i] for r in regrets)]
        for i, budget in enumerate(regrets[0].budgets)
    ]
    return [
        *pipe_table(["budget, target trials", *(regret.arm for regret in regrets)], rows),
        "",
        f"Expected regret at the target in spreads of its scores over typical mixtures, mean ± "
        f"standard error over {counted(setting.seeds, 'seed')} of emulated searches, "
        f"{_domains(setting.space)}; {evidence_text(setting.evidence)}. "
        f"Baselines are not part of these budgets; they end at {MOST} "
        f"trials of the target{of}.",
        *_said_cut(regrets),
    ]


def _domains(space: MixtureSpace) -> str:
    phases = len(shares_of(space))
    words = counted(len(one_phase(space)), "domain")
    return f"{words} in {counted(phases, 'phase')}" if phases else words


def evidence_text(told: Evidence) -> str:
    """How noisy scores are and how well rungs rank, each with where it is from."""
    correlations = ", ".join(f"{rho:.2f}" for rho in told.correlation)
    ranks = f"; rank correlation {correlations} ({told.correlation_from})" if correlations else ""
    return f"noise {number(told.noise, 2)} of a spread ({told.noise_from}){ranks}"


def advice_of(regrets: Sequence[Regret], ladder: Ladder) -> str:
    """What to do, in one line."""
    arms = {regret.arm: regret for regret in regrets}
    one, top = arms[ONE], arms[ONE].budgets[-1]
    whole = arms.get(PLANNED) or arms.get(CHOSEN)
    if whole is None:
        return "There is one rung, and none cheaper can be made of it: nothing to choose."
    gain, error = _paired(one.runs[-1], whole.runs[-1])
    for rung in range(ladder.target):
        if (dropped := arms.get(without(ladder, rung))) is not None:
            lost, _ = _paired(dropped.runs[-1], whole.runs[-1])
            if lost <= 0 and whole.cut[-1] <= dropped.cut[-1]:
                return (
                    f"Trials at {ladder.rungs[rung].name} add nothing: spend them at "
                    f"{ladder.rungs[heir(rung)].name}."
                )
    level = (
        f"At {number(top, 3)} target trials the ladder's regret is {whole.means[-1]:.2f}, that of "
        f"one rung {one.means[-1]:.2f}"
    )
    if len(one.runs[-1]) < 2:
        return f"{level}; one seed cannot tell a gain from chance, more --seeds would."
    if gain <= 0 and whole.cut[-1]:
        return (
            f"With {MOST_TRIALS} trials the ladder gains nothing yet; whether the rest of the "
            "search gains is not emulated."
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
    return f"{level}."


# --- private -------------------------------------------------------------------------------------


def _said_cut(regrets: Sequence[Regret]) -> list[str]:
    if not any(any(regret.cut) for regret in regrets):
        return []
    return [
        "",
        f"\\* emulated with {MOST_TRIALS} trials, which is less than the search: rounds below the "
        "target are smaller than planned, where a sampler chooses some of the budget is left.",
    ]


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
    return float(np.exp(np.interp(-level, -best, np.log(regret.budgets))))
