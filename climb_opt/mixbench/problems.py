"""A problem: mixtures to choose from, what a run of one costs and measures, what it is truly worth.

Scores are oriented so that lower is better. A *regret* is the true score in units of the problem:
0 the best mixture known, 1 a typical random one (the median of the sparse prior, of the rows for a
table). Noise is in sigma, the standard deviation of the true score over such mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import optuna
from optuna.distributions import BaseDistribution

from climb_opt.emulator.ladders import LadderObjective, LadderSource
from climb_opt.emulator.objective import NoisyObjective, Source, reference_draws
from climb_opt.emulator.phased import Throughout
from climb_opt.errors import UserError
from climb_opt.ladder import Ladder
from climb_opt.phases import PhasedSpace
from climb_opt.simplex import MixtureSpace

DESIGN = 0x64657369676E  # "design": the stream of the random mixtures that all methods share
Objective = Callable[[optuna.Trial], float]


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem of mixture search, as an Optuna objective and as a judge.

    Mixtures may change while a model trains: where `space` has phases, a mixture is a schedule, a
    simplex for each phase. It has what OptunaHub's benchmarks have (`search_space`, `directions`,
    `metric_names`, `evaluate`, and it can be called with a trial).

    Args:
        name: as `problem` takes it.
        source: the truth, the rungs with their costs, the noise.
        noise: where its noise comes from: "stated", "measured ..." or "unknown".
        parts: the same source with the components of its score, where it has some.
        seen: whether constants of climb_opt were chosen on problems of this shape.

    >>> from climb_opt.mixbench import problem
    >>> p = problem("interactions", noise=0.1)
    >>> study = optuna.create_study(sampler=p.random(seed=0))
    >>> study.optimize(p, n_trials=4)
    >>> bool(0 < p.regret(p.space.prior[None])[0] < 2)
    True
    """

    name: str
    source: LadderSource
    noise: str = "stated"
    parts: Source | None = None
    seen: bool = False

    def __post_init__(self) -> None:
        given = self.source.noise
        if not np.all(np.isfinite(given) & np.greater_equal(given, 0)):
            raise UserError(f"{self.name}: noise must be at least 0, in sigma, but is {given}.")

    # --- what is searched --------------------------------------------------------------------

    @property
    def space(self) -> MixtureSpace:
        """Domains, prior, bounds and how often a trial repeats each domain."""
        return self.source.space

    @property
    def ladder(self) -> Ladder:
        """Rungs with their FLOPs, cheapest first; mixtures are judged at the last."""
        return self.source.ladder

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        """The Optuna search space: a weight in [0, 1] for each domain; they sum to 1 (in phases:
        `w1/<domain>`, `w2/<domain>` ..., and each phase's do)."""
        return self.space.distributions()

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        """One, to be minimised."""
        return [optuna.study.StudyDirection.MINIMIZE]

    @property
    def metric_names(self) -> list[str]:
        """The score, "score"."""
        return ["score"]

    def objective(self, seed: int = 0, *, components: bool = False) -> Objective:
        """What a trial measures; the noise is a pure function of (seed, trial number).

        Args:
            components: store the parts of the score with the trial, too.

        Raises:
            UserError: (of the objective) the trial's weights are no mixture of the space.
        """
        if components and self.parts is not None and len(self.ladder) == 1:
            level = float(self.source.noises[-1])
            return NoisyObjective(self.parts, noise=level, seed=seed, components=True)
        return LadderObjective(self.source, seed=seed)

    def __call__(self, trial: optuna.Trial) -> float:
        """The objective of seed 0, for `study.optimize(problem)`."""
        return self.objective()(trial)

    def evaluate(self, params: Mapping[str, float]) -> float:
        """The true score of parameters as `search_space` names them.

        Raises:
            UserError: they are no mixture of the space.
        """
        if missing := sorted(set(self.space.parameter_names) - set(params)):
            raise UserError(f"{self.name}: parameter {missing[0]!r} is missing.")
        weights = proposed(self.space, optuna.trial.FixedTrial(dict(params)))
        return float(self.truth(weights[None])[0])

    # --- random mixtures ---------------------------------------------------------------------

    def design(self, seed: int, n: int) -> np.ndarray:
        """n random mixtures (n, K) of the sparse prior: what methods that are no samplers learn
        from, in phases too: each holds throughout. The first m of n are `design(seed, m)`."""
        rngs = (np.random.default_rng([seed, i, DESIGN]) for i in range(n))
        return np.array([reference_draws(self.space, 1, rng)[0] for rng in rngs])

    def random(self, seed: int = 0) -> optuna.samplers.BaseSampler:
        """A sampler that proposes the rows of `design`, one for each trial."""
        return Design(self, seed)

    @cached_property
    def throughout(self) -> Problem:
        """The same problem for whoever knows no phases: mixtures that hold throughout."""
        if not isinstance(self.space, PhasedSpace):
            return self
        return replace(self, source=Throughout(self.source), parts=None)

    # --- the judge ---------------------------------------------------------------------------

    def truth(self, weights: np.ndarray, rung: int | None = None) -> np.ndarray:
        """The noise-free score (n,) of mixtures (n, K), at the target by default."""
        return self.source.truth(weights, rung)

    def regret(self, weights: np.ndarray) -> np.ndarray:
        """The regret (n,) of mixtures (n, K); below 0 where the best known is beaten."""
        return np.asarray((self.truth(weights) - self.best) / self.unit)

    @cached_property
    def best(self) -> float:
        """The true score of the best mixture known."""
        return self.source.optimum()[1]

    @cached_property
    def unit(self) -> float:
        """What a regret of 1 is in the score's own units."""
        return float(np.median(self.truth(self.source.reference()))) - self.best

    def about(self) -> str:
        """One line: what it is, its units and its noise."""
        told = "/".join(f"{x:.3g}" for x in dict.fromkeys(self.source.noises))
        said = "noise unknown (no mixture was run twice), none added"
        if self.noise != "unknown":
            said = f"noise {told} sigma, {self.noise}"
        single = self.parts is not None and len(self.ladder) == 1
        quality = self.parts.quality() if single and self.parts else self.source.quality()
        return f"{quality}; a regret of 1 is {self.unit:.4g}, sigma {self.source.sigma:.4g}; {said}"


class Design(optuna.samplers.RandomSampler):
    """Proposes the rows of a problem's random design, one for each trial number."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(seed)  # of parameters that are no weights
        self._problem, self._seed = problem, seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The weights."""
        return self._problem.search_space

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, float]:
        """The mixture of this trial's number."""
        rng = np.random.default_rng([self._seed, trial.number, DESIGN])
        return self._problem.space.params(reference_draws(self._problem.space, 1, rng)[0])


def proposed(space: MixtureSpace, trial: optuna.trial.BaseTrial) -> np.ndarray:
    """The weights (K,) that a trial's parameters are.

    Raises:
        UserError: they are no mixture of the space.
    """
    space.suggest(trial)
    weights = space.weights_of(trial)  # type: ignore[arg-type]  # it reads parameters alone
    assert weights is not None, "what was checked is a mixture"
    return weights
