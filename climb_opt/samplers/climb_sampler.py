"""CLIMB as an Optuna sampler: which trial takes which mixture of which round.

A round's batch is a pure function of (seed, round, the trials it learns from). Which trials those
are is stored with the round's first trial (`ledger.py`), so that all workers agree; slot j of a
round takes item j of its batch. The equations are in `climb.py`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from climb_opt import lookup
from climb_opt.attributes import FORECAST, PICK, ROUNDS, SLOT, UNREAD
from climb_opt.ladder import rung_of
from climb_opt.plan import Plan, Slot
from climb_opt.predictors.base import Predictor, informed
from climb_opt.predictors.own import try_predictor
from climb_opt.samplers import ledger
from climb_opt.samplers.beside import MixtureSampler
from climb_opt.samplers.climb import (
    can_learn,
    candidate_pool,
    first_round,
    fit_predictor,
    next_round,
)
from climb_opt.samplers.copies import Memory
from climb_opt.samplers.design import out_of_reach
from climb_opt.samplers.forecasts import Forecast, predicted
from climb_opt.samplers.levels import on_one_scale
from climb_opt.samplers.presets import ClimbOptions, ClimbRules
from climb_opt.samplers.reach import caution
from climb_opt.simplex import MixtureSpace
from climb_opt.text import counted
from climb_opt.threads import one_blas_thread
from climb_opt.view import StudyView, all_trials, read_history, remember, store_fact

logger = logging.getLogger(__name__)


class ClimbSampler(MixtureSampler):
    """CLIMB as an Optuna sampler: proposes the mixture of the trial's slot.

    Under climb_opt's worker loop a trial arrives with its slot and a round starts when the earlier
    ones are finished. Under plain `study.optimize` or `ask`/`tell` the sampler hands out slots
    itself, in any number of processes, and cannot wait: a round that starts early learns from what
    is finished by then. Trials past the plan get one more draw each from the last predictor's best,
    never a tried mixture.

    Args:
        space: the mixtures to search.
        rounds: trials per round.
        predictor: a name that `climb-opt ls predictors` lists, "module:Name", or a class.
        predictor_options: keyword arguments of the predictor.
        preset: "nemo" or "paper"; see `ClimbRules`.
        seed: of every draw; None draws one and stores it in the study.
        design, pool_size, pool_temperature, pool_strength, top_n, exclude: replace the preset's.
        per_component: one predictor per component where trials store them; None decides by
            whether there are several.
        max_attempts: as in `Plan`.
        independent_sampler: for parameters that are not weights; random by default.

    Raises:
        UserError: an unknown preset, design or predictor, a number out of range, what is of
            another kind than is asked, or options with which the predictor cannot be fitted.
        ValueError: when used in a study with several objectives.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    >>> sampler = climb_opt.ClimbSampler(space, rounds=(8, 4), predictor="loglinear", seed=0)
    >>> study = optuna.create_study(sampler=sampler)
    >>> study.optimize(lambda trial: (space.suggest(trial)["code"] - 0.5) ** 2, n_trials=12)
    >>> [trial.user_attrs["climb/slot"] for trial in study.trials[-2:]]
    [10, 11]
    """

    one_objective = True  # a recipe with several is refused before anything is trained

    def __init__(
        self,
        space: MixtureSpace,
        *,
        rounds: Sequence[int] = (64, 32, 16),
        predictor: str | Callable[..., Predictor] = lookup.PREDICTOR,
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
        super().__init__(space, independent_sampler, seed)
        # No barrier: a sampler cannot wait. The worker loop can, and does before it asks.
        given = tuple(rounds) if isinstance(rounds, Sequence) else rounds  # Plan refuses others
        self._plan = Plan(given, max_attempts=max_attempts, barrier=False)
        self._options = ClimbOptions(
            preset=preset,
            predictor=predictor,
            predictor_options=predictor_options or {},  # type: ignore[arg-type]
            per_component=per_component,
            design=design,
            pool_size=pool_size,
            pool_temperature=pool_temperature,
            pool_strength=pool_strength,
            top_n=top_n,
            exclude=exclude,
        )
        if isinstance(predictor, str) and ":" not in predictor and predictor_options:
            try_predictor(predictor, predictor_options, self._options.make, space)
        self._rules, self._pick = self._options.rules, self._options.picked()
        # By (study, seed, round, basis). With n_jobs > 1 threads share one sampler.
        self._batches: Memory[tuple[np.ndarray, list[Forecast]]] = Memory()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        with self._batches.lock:
            ledger.claim_slot(study, trial, self._plan)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._raise_error_if_multi_objective(study)
        with self._batches.lock:
            ledger.begin_round(study, trial, self._plan)
            weights, stored = self._propose(study, trial.user_attrs.get(SLOT), trial.number)
            for name, value in stored.items():  # before another thread looks for it
                remember(study, trial, name, value)
        params = self._space.params(weights)
        known = {name: value for name, value in params.items() if name in search_space}
        return known | self._others(study, trial, search_space)

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
        return super().sample_independent(study, trial, param_name, param_distribution)

    def _propose(
        self, study: optuna.Study, slot: Slot | None, number: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        with self._batches.lock:  # the first of a round computes its batch, the others wait
            seed = self._seed if self._seed is not None else ledger.stored_seed(study)
            place = ledger.place_of(slot, self._plan)
            if place is None:
                weights = self._beyond(study, seed, number)
                return weights, self._foretold(study, weights, {})
            index = self._plan.round_of(place)
            basis, stored = ledger.basis_of(study, self._plan, index) if index else ((), {})
            view = StudyView(study)
            batches = self._batches.of(view.storage)
            key = (view.number, seed, index, basis)
            if key not in batches:
                batches[key] = self._batch(study, seed, index, basis)
            batch, forecasts = batches[key]
            item = place - self._plan.start_of(index)
            if forecasts:
                stored = {**stored, FORECAST: forecasts[item]}
            return batch[item], self._foretold(study, batch[item], stored)

    def _store_facts(self, study: optuna.Study) -> None:
        super()._store_facts(study)
        if StudyView(study).stated is None:  # a recipe says it
            store_fact(study, ROUNDS, list(self._plan.rounds))

    def _batch(
        self, study: optuna.Study, seed: int, index: int, basis: tuple[int, ...]
    ) -> tuple[np.ndarray, list[Forecast]]:
        self._introduce(study)
        if self._pick is not None:
            store_fact(study, PICK, {**self._pick, "seed": seed})
        m, view = self._plan.rounds[index], StudyView(study)
        plan = view.plan
        lost = plan.distrusted(view.trials()) if plan.before.readouts else ()
        if {*plan.rungs[:index]} <= {*lost} if plan.rungs else index == 0:
            batch = first_round(self._space, self._rules, m=m, seed=seed)
            self._name_unread(study, batch)
            return batch, []
        batch, fitted = self._next(study, seed, basis, self._rules, m, index)
        known = fitted if self._on_level(view, index, basis) else None
        return batch, predicted(known, batch, view.sign)

    def _on_level(self, view: StudyView, index: int, basis: tuple[int, ...]) -> bool:
        """Whether what a round learns from is on the scale of the scores that it will get: the
        highest rung among `basis` is the one that it runs on."""
        ladder, rungs = view.ladder, view.plan.rungs
        if ladder is None or index >= len(rungs):
            return True
        trials = view.trials()
        return max([rung_of(trials[n], ladder.target) for n in basis], default=None) == rungs[index]

    def _name_unread(self, study: optuna.Study, batch: np.ndarray) -> None:
        names = out_of_reach(self._space, self._rules.design, batch)
        if names:
            logger.warning("Caution: %s.", caution(self._space, names))
            store_fact(study, UNREAD, list(names))

    def _beyond(self, study: optuna.Study, seed: int, number: int) -> np.ndarray:
        last = self._plan.rounds[-1]
        rules = dataclasses.replace(self._rules, exclude=True, top_n=self._rules.n_top(last))
        draw = len(self._plan.rounds) + number  # continues the rounds' numbers
        return self._next(study, seed, ledger.all_finished(study), rules, 1, draw)[0][0]

    @one_blas_thread()
    def _next(
        self,
        study: optuna.Study,
        seed: int,
        basis: tuple[int, ...],
        rules: ClimbRules,
        m: int,
        draw: int,
    ) -> tuple[np.ndarray, Predictor | None]:
        """A batch (m, K), and the predictor that chose it; None where nothing could be learnt."""
        numbers = set(basis)
        every = read_history(study, self._space, lambda t: t.number in numbers, rungs=True)
        history = on_one_scale(ledger.in_order(every, StudyView(study).plan))
        what, source = counted(m, "mixture"), counted(len(history), "finished trial")
        logger.info("Drawing %s by the predictions from %s.", what, source)
        pool = candidate_pool(self._space, rules, seed)
        rng = np.random.default_rng([seed, 1, draw])
        make, each = informed(self._options.make, self._space), self._options.per_component
        predictor = fit_predictor(history, make, each) if can_learn(history) else None
        return next_round(pool, history, rules, predictor, m=m, rng=rng), predictor
