"""The rules that turn a finished search into one mixture: functions (Evidence) -> weights (K,).

`auto` loses least over noise levels and tables (`tests/bench/bench_search.py --rules`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from climb_opt import lookup, paths
from climb_opt.attributes import PATH, PICK
from climb_opt.errors import UserError, running
from climb_opt.gp.model import Surrogate
from climb_opt.gp.optima import lowest_mean, mean_of_top, mean_optimum
from climb_opt.gp.outliers import tamed
from climb_opt.gp.proposal import Problem
from climb_opt.gp.uneven import OtherSeeds, Uneven
from climb_opt.history import History, kept
from climb_opt.phases import one_phase, over_run, throughout
from climb_opt.samplers.climb import climb_picks
from climb_opt.samplers.levels import on_one_scale
from climb_opt.samplers.presets import ClimbOptions
from climb_opt.selection.promise import Promise, paying
from climb_opt.simplex import MixtureSpace
from climb_opt.strict import build

# The rules of searches by a proxy with `reweight`: what they keep of the best trial's path.
PATH_RULES = {"path-mean": paths.path_mean, "path-end": paths.path_end}
AUTO = "auto"  # the rule that loses least for the noise a study shows
QUIET = 0.05  # relative noise below which the minimum of the posterior mean can be trusted, and
# below which what looks like noise is mostly what a process cannot follow
EARLY = 16  # results whose spread the noise is compared with: before a search narrows down


@dataclass(frozen=True)
class Evidence:
    """What a rule may look at: the history, what is believed from it, and a seed for its draws.

    `promise` says what to expect of what a rule takes, where `problem` says what to try next.
    `compared` (m, K) are the mixtures to be beaten, the prior first. `climb` is what the study's
    own `ClimbSampler` stored of its pick, if it had one. `verified`: what a model finds best was
    measured: the recommendation and its rivals in the last slots of the plan, or the optimum of
    branches. `learnt` is what the beliefs rest on: the trials of every rung, where the history
    holds those of the target alone.
    """

    history: History
    learnt: History
    problem: Problem
    promise: Surrogate
    compared: np.ndarray
    seed: int = 0
    climb: Mapping[str, Any] = field(default_factory=dict)
    verified: bool = False
    _taken: dict[str, np.ndarray] = field(default_factory=dict, init=False, compare=False)

    def taken_by(self, rule: str) -> np.ndarray:
        """What a rule takes, worked out once: `auto` and `guarded` take what others do."""
        if rule not in self._taken:
            take = lookup.find("rule", rule)
            with running("rule", rule):
                self._taken[rule] = take(self)
        return self._taken[rule]

    def promised(self, weights: np.ndarray) -> Promise:
        """What to expect of weights (K,) that were picked."""
        rungs, tried = self.learnt.rungs, self.history.weights
        below = rungs is not None and len(rungs) > len(tried)
        learnt, space, seeds = self.learnt, self.problem.space, None
        if learnt.other_seeds:
            prior = over_run(space, self.compared[0])
            seeds = OtherSeeds(learnt.other_seeds, Uneven(prior, learnt.growth))
        return Promise(self.promise, weights, tried, self.misfit, below, seeds)

    def chance(self, weights: np.ndarray) -> float:
        """How likely weights (K,) keep every guard-rail; 1 where there is none."""
        return float(np.exp(self.problem.feasible(np.sqrt(weights[None]))[0]))

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator: rules do not depend on which of them ran before."""
        return np.random.default_rng([self.seed, len(self.history)])

    @cached_property
    def pays(self) -> str:
        """Which components of the score would gain by a mixture of their own."""
        seeds = self.learnt.other_seeds > 0
        return paying(self.problem.space, self.history, self.compared, seeds=seeds)

    @cached_property
    def climb_picks(self) -> Mapping[str, np.ndarray]:
        """What CLIMB's own rules take, by name, of one fit of its predictor."""
        stored = dict(self.climb)
        seed = int(stored.pop("seed", self.seed))
        options = build(ClimbOptions, stored, PICK)
        return climb_picks(self.problem.space, on_one_scale(self.learnt), options, seed=seed)

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the first results, before a search narrows down; where it has, what
        a mixture to be beaten scores is no outlier."""
        return float(tamed(self.history, against=self.compared).values[:EARLY].std())

    @property
    def relative_noise(self) -> float:
        """Noise of one evaluation against the spread of the first results, as a rule sees it."""
        return self.problem.objectives[0].noise / self.spread if self.spread > 0 else 0.0

    @property
    def misfit(self) -> float:
        """What looks like noise, as standard deviation, where hardly anything can be; else 0."""
        return self.promise.noise if self.promise.noise < QUIET * self.spread else 0.0


def observed(evidence: Evidence) -> np.ndarray:
    """The best score measured: under noise the luckiest, not the best.

    It is of the trials that kept every guard-rail, if any did.
    """
    return observed_row(evidence.history)


def observed_row(history: History) -> np.ndarray:
    """The weights (K,) of the best score measured; the history is not empty."""
    return np.asarray(history.weights[_best_row(history, range(len(history)))])


def _best_row(history: History, rows: Sequence[int]) -> int:
    values = history.values.reshape(len(history), -1).mean(axis=1)[rows]
    fine = kept([history.trials[row] for row in rows])
    values = np.where(fine, values, np.inf) if fine.any() else values
    return rows[int(np.argmin(values))]


def fitting_rules(history: History) -> list[str]:
    """The names of all rules that a history has something for."""
    moved = bool(history.methods) or any(PATH in trial.user_attrs for trial in history.trials)
    return [rule for rule in lookup.KINDS["rule"] if moved or rule not in PATH_RULES]


def path_mean(evidence: Evidence) -> np.ndarray:
    """The mean of the path that a method's weights took in the trial of the best score."""
    return path_row("path-mean", evidence.history, evidence.problem.space)


def path_end(evidence: Evidence) -> np.ndarray:
    """What the path of the best score ends with: the mixture a method would go on with."""
    return path_row("path-end", evidence.history, evidence.problem.space)


def path_row(rule: str, history: History, space: MixtureSpace) -> np.ndarray:
    """What a rule of `PATH_RULES` keeps: weights (K,), within the bounds.

    Raises:
        UserError: no trial has a path.
    """
    return within(space, PATH_RULES[rule](best_path(history)[1]))


def within(space: MixtureSpace, mixture: Mapping[str, float]) -> np.ndarray:
    """A method's mixture throughout, moved inside the bounds, which no method knows: (K,)."""
    weights = np.array([mixture.get(domain, 0.0) for domain in one_phase(space).domains])
    return space.project(throughout(space, weights / weights.sum()))


def best_path(history: History) -> tuple[FrozenTrial, dict[str, Any]]:
    """The best trial that has a path of weights, a baseline's too, and that path, as
    `climb_opt.paths` reads it.

    Raises:
        UserError: no trial has one.
    """
    rows = [n for n, trial in enumerate(history.trials) if PATH in trial.user_attrs]
    found = [(m.value, m.trial) for m in history.methods]
    if rows:
        row = _best_row(history, rows)
        found.append((float(history.values[row].mean()), history.trials[row]))
    if not found:
        raise UserError(
            "No finished trial has a path of weights; they are of searches whose proxy says "
            "`reweight: ...`, and of baselines that do."
        )
    best = min(found, key=lambda each: each[0])[1]
    return best, dict(best.user_attrs[PATH])


def evaluated(evidence: Evidence) -> np.ndarray:
    """The mixture with the best posterior mean of those that the target (else the highest rung
    reached) has evaluated, where the guard-rails likely hold."""
    problem, measured = evidence.problem, evidence.history.weights
    roots = np.sqrt(measured)
    mean = problem.objectives[0].mean(roots)
    likely = problem.feasible(roots) >= np.log(0.5)
    mean = np.where(likely, mean, np.inf) if likely.any() else -problem.feasible(roots)
    return np.asarray(measured[int(np.argmin(mean))])


def guarded(evidence: Evidence) -> np.ndarray:
    """The default for the noise, if it is shown to beat `evaluated`; else that.

    Nothing that the target has not measured is kept on a guess. That loses .07 on average, and
    nothing where the last slots of the plan measured the recommendation and its rivals
    (docs/notes/searching.md#what-is-promised, docs/measured.md#verification-slots), or a slot the
    optimum of branches (docs/measured.md#what-branches-save-at-equal-flops).
    """
    best, pick = evidence.taken_by("evaluated"), evidence.taken_by(_for_noise(evidence))
    return pick if evidence.promised(pick).gain(best, picked=True).low > 0 else best


def predicted(evidence: Evidence) -> np.ndarray:
    """The best posterior mean anywhere in the space."""
    return lowest_mean(evidence.problem, evidence.rng)


def supported(evidence: Evidence) -> np.ndarray:
    """The best posterior mean + 1 standard deviation: stays where the data supports it."""
    return lowest_mean(evidence.problem, evidence.rng, caution=1.0)


def top(evidence: Evidence) -> np.ndarray:
    """The mean of the 128 best posterior means among fresh draws."""
    return mean_of_top(evidence.problem, evidence.rng)


def optimum(evidence: Evidence) -> np.ndarray:
    """The mean of the optima of joint posterior samples."""
    return mean_optimum(evidence.problem, evidence.rng)


def argbest(evidence: Evidence) -> np.ndarray:
    """CLIMB's own pick: the best prediction of its predictor over its pool."""
    return evidence.climb_picks["argbest"]


def mean_top(evidence: Evidence) -> np.ndarray:
    """The mean of the 128 best predictions of CLIMB's predictor over its pool."""
    return evidence.climb_picks["mean-top"]


def auto(evidence: Evidence) -> np.ndarray:
    """`predicted` if the study is nearly free of noise, else `optimum`, where that likely keeps the
    guard-rails; `guarded` once verified."""
    return evidence.taken_by(default_rule(evidence))


def default_rule(evidence: Evidence) -> str:
    """The rule that `auto` stands for."""
    return "guarded" if evidence.verified else _for_noise(evidence)


def _for_noise(evidence: Evidence) -> str:
    if evidence.relative_noise < QUIET:
        return "predicted"
    if not evidence.problem.constraints:
        return "optimum"
    # A mean of optima of which each keeps the guard-rails in its own sample may be beyond them.
    mean, one = (evidence.chance(evidence.taken_by(rule)) for rule in ("optimum", "predicted"))
    return "optimum" if mean >= min(0.5, one) else "predicted"
