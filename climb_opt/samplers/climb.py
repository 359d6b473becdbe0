"""CLIMB (arXiv 2504.13161): rounds of proxies, each chosen by a predictor fitted on all before.

Notation of the paper: A is the pool of candidate mixtures, S_k the mixtures scored before round
k + 1, f_k the predictor fitted on them, M the size of a round.

    round 1   S_1 = M draws of the initial design                             `design.py`
    Eq. 4     f_k = argmin_f sum over s in S_k of L(f(s), l(s))               `fit_predictor`
    Eq. 3     P_k = {f_k(s) | s in A \\ S_k};  S_M drawn at random from TopN(P_k)   `next_round`
              S_(k+1) = S_M u S_k
    result    argbest over A of the last predictor                            `climb_pick`

The paper leaves A, N and the predictor's constants open; the presets fill them in:

    nemo    the public code's constants (NVIDIA-NeMo/Curator): A is 100,000 draws of Dir(prior), the
            same in every round; N = max(M*M, 128); candidates may be tried twice
    paper   the equations: A \\ S_k, and a plain Dirichlet on token counts to start

A round's batch is a pure function of (seed, round, the trials it learns from). Which trials those
are is stored with the round's first trial (`ledger.py`), so that all workers agree; slot j of a
round takes item j of its batch.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from climb_opt import lookup
from climb_opt.errors import UserError
from climb_opt.history import History, all_trials, read_history
from climb_opt.predictors.base import Predictor, expected
from climb_opt.predictors.components import ComponentPredictor
from climb_opt.samplers import ledger
from climb_opt.samplers.design import distinct, initial_design
from climb_opt.samplers.presets import ClimbRules, climb_rules
from climb_opt.simplex import MixtureSpace
from climb_opt.slots import SLOT, Plan, Slot

logger = logging.getLogger(__name__)

SAME = 1e-5  # L1 distance below which two mixtures are one, as in the public code


def predictor_factory(
    predictor: str | Callable[..., Predictor], options: Mapping[str, Any] | None = None
) -> Callable[[], Predictor]:
    """Makes untrained predictors of a short name, "module:Name" or a class, with its options."""
    make, given = predictor, dict(options or {})
    if isinstance(predictor, str):
        make = lookup.find("predictor", predictor)
        lookup.check_options("predictor", predictor, given, set())
    assert callable(make)
    return partial(make, **given)


# --- the algorithm ---------------------------------------------------------------------------


def candidate_pool(space: MixtureSpace, rules: ClimbRules, seed: int) -> np.ndarray:
    """A (pool_size, K): the same for every round of a search."""
    rng = np.random.default_rng([seed, 0])
    return space.sample(
        rng, rules.pool_size, temperature=rules.pool_temperature, strength=rules.pool_strength
    )


def fit_predictor(
    history: History, make: Callable[[], Predictor], per_component: bool | None = None
) -> Predictor:
    """f_k of Eq. 4, on the aggregate or, where trials store components, on each of them.

    Args:
        per_component: None decides by whether the history has several components.
    """
    several = history.components is not None and len(history.names) > 1
    if several and per_component is not False:
        assert history.components is not None and history.coefficients is not None
        parts = ComponentPredictor(make, history.coefficients)
        parts.fit(history.weights, history.components)
        return parts
    if per_component:
        logger.warning("No components are stored with the trials: predicting their values.")
    predictor = make()
    predictor.fit(history.weights, history.values)
    return predictor


def next_round(
    pool: np.ndarray,
    history: History,
    rules: ClimbRules,
    fit: Callable[[History], Predictor],
    *,
    m: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """S_M of Eq. 3: m mixtures (m, K) drawn from TopN(f_k(A)), distinct where possible.

    Args:
        pool: A (pool_size, K).
        history: S_k with its scores, lower being better.
        fit: S_k -> f_k, Eq. 4.
    """
    if can_learn(history):
        n = rules.n_top(m)
        best = _ranked(pool, fit(history))
        if rules.exclude:
            best = _untried(best[: n + len(history)], history.weights, m)
        top = distinct(best[:n])
    else:
        logger.warning("Nothing to learn from %s: drawing from the pool.", _describe(history))
        top = distinct(pool[: max(10 * m, 1000)])
    return top[rng.choice(len(top), size=m, replace=len(top) < m)]


def first_round(space: MixtureSpace, rules: ClimbRules, *, m: int, seed: int) -> np.ndarray:
    """S_1: m mixtures (m, K) of the initial design."""
    return initial_design(space, rules.design, np.random.default_rng([seed, 2]), m)


def climb_pick(
    space: MixtureSpace,
    history: History,
    *,
    preset: str = "nemo",
    predictor: str | Callable[..., Predictor] = "lightgbm",
    predictor_options: Mapping[str, Any] | None = None,
    per_component: bool | None = None,
    seed: int = 0,
    rule: str = "argbest",
    top: int = 128,
    pool_size: int | None = None,
    pool_temperature: float | None = None,
    pool_strength: float | None = None,
) -> np.ndarray:
    """The mixture (K,) that CLIMB itself recommends after a search.

    Args:
        history: all finished trials.
        rule: "argbest", the paper's and the public code's best predicted candidate; or "mean-top",
            the mean of the `top` best (DeMix's reading of CLIMB, safer under noise).
        preset, predictor, predictor_options, per_component, seed, pool_size, pool_temperature,
            pool_strength: as the search's `ClimbSampler` has them, for the same pool and f.

    Where nothing can be learnt it is the best observed mixture, or the prior without any.
    """
    rules = climb_rules(
        preset,
        pool_size=pool_size,
        pool_temperature=pool_temperature,
        pool_strength=pool_strength,
    )
    if rule not in ("argbest", "mean-top"):
        raise UserError(f"Unknown rule {rule!r}. Rules: argbest, mean-top.")
    if not can_learn(history):
        logger.warning("Nothing to learn from %s: no prediction.", _describe(history))
        if not len(history):
            return space.project(space.prior)
        return np.array(history.weights[int(np.argmin(history.values))])
    pool = candidate_pool(space, rules, seed)
    fitted = fit_predictor(history, predictor_factory(predictor, predictor_options), per_component)
    ranked = _ranked(pool, fitted)
    if rule == "mean-top":
        return space.project(ranked[:top].mean(axis=0))
    if rules.decimals is None:
        return np.array(ranked[0])
    return space.project(np.round(ranked[0], rules.decimals))


def can_learn(history: History) -> bool:
    """Whether there are at least two mixtures and two scores to tell apart."""
    return len(history) >= 2 and bool(
        np.ptp(history.values) > 0 and np.ptp(history.weights, axis=0).max() > 0
    )


def _ranked(pool: np.ndarray, predictor: Predictor) -> np.ndarray:
    # Stable: trees give many candidates the same score, and every worker must order them alike.
    scores = expected(predictor, pool)
    return pool[np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")]


def _untried(candidates: np.ndarray, tried: np.ndarray, m: int) -> np.ndarray:
    seen = np.zeros(len(candidates), dtype=bool)
    for mixture in tried:
        seen |= np.abs(candidates - mixture).sum(axis=1) < SAME
    # With one or two domains everything may have been tried; then try again rather than stop.
    return candidates[~seen] if np.sum(~seen) >= m else candidates


def _describe(history: History) -> str:
    if len(history) < 2:
        return f"{len(history)} finished trials"
    what = "scores" if np.ptp(history.values) == 0 else "mixtures"
    return f"{len(history)} trials with equal {what}"


# --- the sampler -----------------------------------------------------------------------------


class ClimbSampler(BaseSampler):
    """CLIMB as an Optuna sampler: proposes the mixture of the trial's slot.

    Under climb_opt's worker loop a trial arrives with its slot and a round starts when the earlier
    ones are finished. Under plain `study.optimize` or `ask`/`tell` the sampler hands out slots
    itself and cannot wait: a round that starts early learns from what is finished by then. Trials
    past the plan get one more draw each from the last predictor's best, never a tried mixture.

    Args:
        space: the mixtures to search.
        rounds: trials per round.
        predictor: "lightgbm", "extra-trees", "gp", "loglinear", "module:Name", or a class.
        predictor_options: keyword arguments of the predictor.
        preset: "nemo" or "paper"; see `ClimbRules`.
        seed: of every draw; None draws one and stores it in the study.
        design, pool_size, pool_temperature, pool_strength, top_n, exclude: replace the preset's.
        per_component: one predictor per component where trials store them; None decides by
            whether there are several.
        max_attempts: as in `Plan`.
        independent_sampler: for parameters that are not weights; random by default.

    Raises:
        UserError: an unknown preset, design or predictor, or a number out of range.
        ValueError: when used in a study with several objectives.
    """

    def __init__(
        self,
        space: MixtureSpace,
        *,
        rounds: Sequence[int] = (64, 32, 16),
        predictor: str | Callable[..., Predictor] = "lightgbm",
        predictor_options: Mapping[str, Any] | None = None,
        preset: str = "nemo",
        seed: int | None = None,
        design: str | None = None,
        pool_size: int | None = None,
        pool_temperature: float | None = None,
        pool_strength: float | None = None,
        top_n: int | None = None,
        exclude: bool | None = None,
        per_component: bool | None = None,
        max_attempts: int = 3,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        if seed is not None and seed < 0:
            raise UserError(f"seed must not be negative, but is {seed}.")
        self._space = space
        # No barrier: a sampler cannot wait. The worker loop can, and does before it asks.
        sizes = (
            tuple(rounds) if isinstance(rounds, Sequence) else rounds
        )  # Plan tells what is wrong
        self._plan = Plan(sizes, max_attempts=max_attempts, barrier=False)
        self._rules = climb_rules(
            preset,
            design=design,
            pool_size=pool_size,
            pool_temperature=pool_temperature,
            pool_strength=pool_strength,
            top_n=top_n,
            exclude=exclude,
        )
        make = predictor_factory(predictor, predictor_options)
        self._fit = partial(fit_predictor, make=make, per_component=per_component)
        self._seed = seed
        self._independent_sampler = independent_sampler or RandomSampler(seed=seed)
        self._forget()

    def _forget(self) -> None:
        self._mutex = threading.RLock()  # n_jobs > 1: threads share one sampler
        # Storage -> (study, seed, round, basis) -> batch. In-memory studies share the id 0.
        self._batches: weakref.WeakKeyDictionary[Any, dict[Any, np.ndarray]]
        self._batches = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_mutex", "_batches")
        return {name: value for name, value in self.__dict__.items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._independent_sampler.before_trial(study, trial)
        with self._mutex:
            ledger.claim_slot(study, trial, self._plan)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space.distributions()

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        with self._mutex:
            weights, stored = self._propose(study, trial.user_attrs.get(SLOT), trial.number)
            for name, value in stored.items():  # before another thread looks for it
                study._storage.set_trial_system_attr(trial._trial_id, name, value)
        params = self._space.params(weights)
        return {name: value for name, value in params.items() if name in search_space}

    def plan_ahead(
        self, study: optuna.Study, slot: Slot
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Parameters and system attributes of a slot whose trial does not exist yet.

        The worker loop writes them with the trial, in one commit instead of one per domain.
        """
        self._raise_error_if_multi_objective(study)
        weights, stored = self._propose(study, slot, len(all_trials(study)))
        return self._space.params(weights), stored

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        self._raise_error_if_multi_objective(study)
        return self._independent_sampler.sample_independent(
            study, trial, param_name, param_distribution
        )

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._independent_sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        # Our draws depend on seed and slot alone, so that threads need no seeds of their own.
        self._independent_sampler.reseed_rng()

    def _propose(
        self, study: optuna.Study, slot: Slot | None, number: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        with self._mutex:  # the first of a round computes its batch, the others wait
            seed = self._seed if self._seed is not None else ledger.stored_seed(study)
            place = ledger.place_of(slot, self._plan)
            if place is None:
                return self._beyond(study, seed, number), {}
            index = self._plan.round_of(place)
            basis, stored = ledger.basis_of(study, self._plan, index) if index else ((), {})
            batches = self._batches.setdefault(study._storage, {})
            key = (study._study_id, seed, index, basis)
            if key not in batches:
                batches[key] = self._batch(study, seed, index, basis)
            return batches[key][place - self._plan.start_of(index)], stored

    def _batch(
        self, study: optuna.Study, seed: int, index: int, basis: tuple[int, ...]
    ) -> np.ndarray:
        m = self._plan.rounds[index]
        if index == 0:
            return first_round(self._space, self._rules, m=m, seed=seed)
        return self._next(study, seed, basis, self._rules, m, index)

    def _beyond(self, study: optuna.Study, seed: int, number: int) -> np.ndarray:
        last = self._plan.rounds[-1]
        rules = dataclasses.replace(self._rules, exclude=True, top_n=self._rules.n_top(last))
        draw = len(self._plan.rounds) + number  # continues the rounds' numbers
        return self._next(study, seed, ledger.all_finished(study), rules, 1, draw)[0]

    def _next(
        self,
        study: optuna.Study,
        seed: int,
        basis: tuple[int, ...],
        rules: ClimbRules,
        m: int,
        draw: int,
    ) -> np.ndarray:
        numbers = set(basis)
        history = read_history(study, self._space, lambda t: t.number in numbers)
        logger.info("Drawing %d mixtures from what %d trials predict.", m, len(history))
        pool = candidate_pool(self._space, rules, seed)
        rng = np.random.default_rng([seed, 1, draw])
        return next_round(pool, history, rules, self._fit, m=m, rng=rng)
