"""SimplexGPSampler: a Gaussian process on the simplex, with noisy expected improvement.

One mixture at a time, whoever asks: running trials are part of the joint posterior, so a batch is
as many asks as there are workers. Every proposal is a pure function of (seed, slot or trial number,
finished and running trials); nothing is lost with the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from climb_opt.attributes import FORECAST, LADDER, PROPOSAL, SLOT
from climb_opt.errors import UserError
from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.knowledge import NOISY, told_or_better
from climb_opt.gp.ladder import LadderProcess
from climb_opt.gp.outliers import tame
from climb_opt.gp.proposal import Problem
from climb_opt.history import History
from climb_opt.ladder import Ladder, rung_of
from climb_opt.measures import distance
from climb_opt.plan import Slot
from climb_opt.samplers.beside import MixtureSampler
from climb_opt.samplers.design import start_mixture
from climb_opt.samplers.forecasts import expected, given
from climb_opt.samplers.leaning import STARTS, Given, Leaning
from climb_opt.samplers.rungs import Purse
from climb_opt.simplex import MixtureSpace
from climb_opt.threads import one_blas_thread
from climb_opt.view import (
    StudyView,
    read_history,
    remember,
    rung_attributes,
    store_fact,
)
from climb_opt.written import flag, whole_number

QUIET = 0.1  # relative noise below which no trial explores
MOST_EXPLORED = 0.7
DRAWS = (12, 12)  # trials drawn before the model is used, and while scores look noisy
LADDER_DRAWS = (16, 32)  # of a ladder, on its cheapest rung
CLOSE = 0.01  # of the tokens: a draw that differs less from a known mixture tells little more


class SimplexGPSampler(MixtureSampler):
    """Proposes mixtures by expected improvement under a Gaussian process on square-root weights.

    It starts with draws, most of a few domains, the prior and the uniform mixture among them, and
    then models what has finished. Where scores are noisy it measures what is expected to improve
    its recommendation most. Several objectives: expected hypervolume improvement. Guard-rails
    set with `trial.set_constraint` (kept when <= 0) are modelled and respected. Parameters that are
    no weights are left to `independent_sampler`.

    Args:
        space: the mixtures to search.
        n_startup: trials drawn before the model is used. By default 12; on a ladder 16, or up to
            32 while the scores look clearly noisy.
        components: one model per stored component of the score (`climb_opt.report_components`)
            instead of one of the score. It ranks unlike mixtures better, costs as many fits, and
            did not find better ones on the published tables (docs/simplex-gp.md).
        influence: what each domain is known to gain the score: the file that `climb-opt influence
            --output` wrote, or domain -> gain in any unit. The model's mean is tilted by it, as
            much as the results bear out, and the search begins with TiKMiX's mixture; `n_startup`
            is then 8.
        explore: under noise, measure what tells most of the recommendation, which need not be what
            is expected to be best; of several objectives, and on a ladder, spend a share of the
            trials on fresh draws with low expected values.
        ladder: rungs to choose from beside the mixture, by the most expected improvement per FLOP;
            a trial says its rung in `climb/rung`. A study from a recipe brings its own.
        seed: of every draw; None draws one.
        independent_sampler: for parameters that are no weights; random by default.

    Raises:
        UserError: n_startup below 1; an influence that cannot be read or used; what is of another
            kind than is asked.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    >>> study = optuna.create_study(sampler=climb_opt.SimplexGPSampler(space, n_startup=6, seed=0))
    >>> study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=12)
    >>> study.best_value < 1e-3
    True
    """

    chooses_rung = True  # a recipe with a ladder may leave rungs to it

    def __init__(
        self,
        space: MixtureSpace,
        *,
        n_startup: int | None = None,
        components: bool = False,
        influence: Given | None = None,
        explore: bool = True,
        ladder: Ladder | None = None,
        seed: int | None = None,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        super().__init__(space, independent_sampler, seed)
        if n_startup is not None:
            n_startup = whole_number(n_startup, "n_startup")
        components, explore = flag(components, "components"), flag(explore, "explore")
        if ladder is not None and not isinstance(ladder, Ladder):
            raise UserError(f"ladder must be a climb_opt.ladder.Ladder, but is {ladder!r}.")
        self._leaning = None if influence is None else Leaning(space, influence)
        if self._leaning is not None and (components or ladder is not None):
            raise UserError("influence: leave it out with components, or with a ladder.")
        self._draws = STARTS if self._leaning is not None and n_startup is None else n_startup
        self._explore, self._ladder = explore, ladder
        entropy = np.random.SeedSequence().entropy % 2**63  # type: ignore[operator]
        self._drawn = int(entropy) if self._seed is None else self._seed
        gains = None if self._leaning is None else self._leaning.gains
        self._beliefs = Beliefs(space, components=components, gains=gains)

    # --- Optuna's side ---------------------------------------------------------------------

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A mixture as parameters; other names are left to the independent sampler."""
        names = set(self._space.parameter_names)
        others = self._others(study, trial, search_space)
        if not names <= set(search_space) or names <= set(trial.params):
            return others
        # One at a time: threads that share this sampler see each other's proposals as pending.
        with self._introduced.lock:
            weights, stored = self._proposal(study, _place(trial), trial.number)
            for name, value in {**stored, PROPOSAL: weights.tolist()}.items():
                remember(study, trial, name, value)
        return others | self._space.params(weights)

    def plan_ahead(
        self, study: optuna.Study, slot: Slot
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Parameters and system attributes of a slot whose trial does not exist yet.

        The worker loop writes them with the trial under the study's lock: workers that ask together
        see each other's mixtures, and none is written weight by weight.
        """
        assert isinstance(slot, int)
        with self._introduced.lock:
            weights, stored = self._proposal(study, (slot, 0))
        return self._space.params(weights), stored

    # --- proposals -------------------------------------------------------------------------

    @one_blas_thread()
    def _proposal(
        self, study: optuna.Study, place: tuple[int, int], own: int | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The weights (K,), and what is stored with them.

        Args:
            place: of `_place`.
            own: the number of the trial that asks, where it exists.
        """
        self._introduce(study)
        view = StudyView(study)
        weights, rung, problem = self._propose(view, place, own)
        stored: dict[str, Any] = {}
        if rung is not None:
            stored |= rung_attributes(rung, view.plan.target)
        if problem is not None and len(problem.objectives) == 1:
            of = problem.objectives[0]
            believed = of.at(rung) if isinstance(of, LadderProcess) and rung is not None else of
            stored[FORECAST] = expected(believed, weights, view.sign)
        # What the study's own process says is of the target.
        below = rung is not None and rung < view.plan.target
        return weights, stored if below else self._foretold(study, weights, stored)

    def _propose(
        self, view: StudyView, place: tuple[int, int], own: int | None
    ) -> tuple[np.ndarray, int | None, Problem | None]:
        """The weights (K,), their rung where there is a ladder, and what they were proposed from;
        None for a draw."""
        (index, stream), plan = place, view.plan
        usual = DRAWS if plan.target == 0 else LADDER_DRAWS
        first, last = usual if self._draws is None else (self._draws, self._draws)
        trials, history = view.trials(), read_history(view.study, self._space, rungs=True)
        pending, of = self._pending(trials, own, plan.target)
        # A slot counts from 0 whatever the study was given beforehand; a trial's number does not.
        spent = index + (_given(history) if stream == 0 else 0)
        own_rung, lost = plan.rung_of(index if stream == 0 else 0), plan.distrusted(trials)
        purse = Purse(view.ladder, plan.left(trials), own_rung, lost)

        def start() -> tuple[np.ndarray, int | None, None]:
            return self._start(place, history, pending, plan.target == 0), purse.first, None

        due = purse.due and len(history) > 1  # else there is nothing to recommend yet
        if not due and (spent < first or len(history) < min(first, 4)):
            return start()
        problem = self._beliefs.problem(history, pending, of)
        if problem is None:  # every score is the same, or there is one at most
            return start()
        if (pair := purse.pair(problem, history, spent - first)) is not None:
            return pair, 1, problem
        noise = _relative_noise(problem, history)
        if not due and spent - purse.paired < last and noise > NOISY:
            return start()
        explore = min(MOST_EXPLORED, noise) if self._explore and noise >= QUIET else 0.0
        rng = np.random.default_rng([self._drawn, stream, 1, index])
        if plan.target:
            weights, rung = purse.buy(problem, history, rng, explore)
            seen = problem.trusted if rung == plan.target else problem
            return self._space.project(weights), rung, seen
        weights = told_or_better(problem, rng, explore)
        return self._space.project(weights), purse.first, problem

    def _start(
        self, place: tuple[int, int], history: History, pending: np.ndarray, sparse: bool
    ) -> np.ndarray:
        """The start's mixture, or one unlike all others if it is known (as a baseline, say)."""
        known, (index, stream) = np.concatenate([history.weights, pending]), place
        if self._leaning is None:
            mixture = start_mixture(self._space, self._drawn, index, stream, sparse=sparse)
        else:
            mixture = self._leaning.start(self._drawn, index, stream)
        if len(known) and distance(known, mixture).min() < CLOSE:
            rng = np.random.default_rng([self._drawn, stream, 2, index])
            others = self._space.sample_mixed(rng, 8)
            mixture = others[int(np.argmax([distance(known, other).min() for other in others]))]
        return mixture

    def _pending(
        self, trials: Sequence[FrozenTrial], own: int | None, target: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mixtures (p, K) that run or wait, in this process or elsewhere, and their rungs (p,)."""
        rows, rungs = [], []
        for trial in trials:
            if trial.number == own or trial.state.is_finished():
                continue
            weights = self._space.weights_of(trial)
            if weights is None:
                weights = self._announced(trial.system_attrs)
            if weights is not None:
                rows.append(weights)
                rungs.append(rung_of(trial, target))
        return np.array(rows).reshape(len(rows), len(self._space)), np.array(rungs, dtype=int)

    def _announced(self, attributes: dict[str, Any]) -> np.ndarray | None:
        """The weights of a trial in the middle of its ask, or of one enqueued."""
        if len(proposal := attributes.get(PROPOSAL, ())) == len(self._space):
            return np.array(proposal, dtype=float)
        return given(self._space, attributes)

    def _store_facts(self, study: optuna.Study) -> None:
        super()._store_facts(study)
        if self._ladder is not None:
            store_fact(study, LADDER, self._ladder.to_data())


def _place(trial: FrozenTrial) -> tuple[int, int]:
    """The trial's slot, else its number, and which of the two it is: they draw from two streams."""
    slot = trial.user_attrs.get(SLOT)
    return (slot, 0) if isinstance(slot, int) else (trial.number, 1)


def _given(history: History) -> int:
    """Trials that no slot asked for: imported from another study or a table, or enqueued."""
    return sum(SLOT not in trial.user_attrs for trial in history.trials)


def _relative_noise(problem: Problem, history: History) -> float:
    """Noise of one evaluation against the spread of the first results, the noisiest objective's;
    of the lowest rung, where there are several."""
    noises = [surrogate.noise for surrogate in problem.objectives]
    if history.rungs is not None:
        low = int(history.rungs.min())
        history = history.rows(history.rungs == low)
        noises = [s.at(low).noise for s in problem.objectives if isinstance(s, LadderProcess)]
    spreads = [tame(column)[:32].std() for column in history.values.reshape(len(history), -1).T]
    ratios = [noise / float(d) for noise, d in zip(noises, spreads, strict=True) if d > 0]
    return max(ratios, default=0.0)
