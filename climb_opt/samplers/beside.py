"""Samplers of mixtures, each with another sampler for all that is no mixture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from climb_opt import lookup
from climb_opt.attributes import FORECAST
from climb_opt.errors import UserError, listed
from climb_opt.phases import checked_space
from climb_opt.samplers.copies import Memory
from climb_opt.samplers.forecasts import Forecaster
from climb_opt.simplex import MixtureSpace
from climb_opt.view import StudyView, store_space
from climb_opt.written import whole_number

logger = logging.getLogger(__name__)


class MixtureSampler(BaseSampler):
    """What samplers that propose whole mixtures share; they add `sample_relative`.

    Args:
        other: for parameters that are no weights; random by default.

    Raises:
        UserError: `space` is none, as the amounts that one is made of; `other` is no sampler; a
            seed out of range.
    """

    def __init__(self, space: MixtureSpace, other: BaseSampler | None, seed: int | None = None):
        self._space = checked_space(space)
        self._names = frozenset(self._space.parameter_names)
        self._seed = None if seed is None else whole_number(seed, "seed", 0, lookup.MOST_SEED)
        other = RandomSampler(seed=self._seed) if other is None else other
        self._other = checked_sampler(other, "independent_sampler")
        self._forecaster = Forecaster(space)
        self._introduced: Memory[bool] = Memory()  # studies that hold the space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The weights."""
        return self._space.distributions()

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Parameters that are no weights of the space."""
        shown = self._shown(study, trial)
        return self._other.sample_independent(*shown, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Store the space; say what is expected of a mixture put in line; pass on."""
        self._introduce(study)
        self._say_unnamed(trial)
        self._forecaster.foretell_given(study, trial)
        self._other.before_trial(*self._shown(study, trial))

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Pass on to the other sampler."""
        self._other.after_trial(*self._shown(study, trial), state, values)

    def reseed_rng(self) -> None:
        """Reseed the other sampler only: mixtures depend on seed and trial alone."""
        self._other.reseed_rng()

    def _shown(self, study: optuna.Study, trial: FrozenTrial) -> tuple[optuna.Study, FrozenTrial]:
        """The study and the trial as the other sampler is to see them."""
        return study, trial

    def _introduce(self, study: optuna.Study) -> None:
        """Have the study hold the space, without which nobody knows its prior and bounds."""
        view = StudyView(study)
        introduced = self._introduced.of(view.storage)
        if view.number not in introduced:
            self._store_facts(study)
            introduced[view.number] = True

    def _say_unnamed(self, trial: FrozenTrial) -> None:
        """Optuna leaves out what was enqueued by another name, without a word."""
        fixed = trial.system_attrs.get("fixed_params", {})
        if fixed.keys() & {*self._space.domains} and not fixed.keys() & self._names:
            logger.warning(
                "Trial %d was enqueued with %s, and no weight: a mixture is enqueued as "
                "space.params(space.weights(mixture)), and this trial gets another.",
                trial.number,
                listed(map(repr, fixed)),
            )

    def _store_facts(self, study: optuna.Study) -> None:
        store_space(study, self._space)

    def _foretold(
        self, study: optuna.Study, weights: np.ndarray, stored: dict[str, Any]
    ) -> dict[str, Any]:
        """What to store with a proposal (K,), and what is expected of it."""
        return stored if FORECAST in stored else stored | self._forecaster.foretell(study, weights)

    def _others(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draws for what is asked for beside the weights."""
        return {
            name: self.sample_independent(study, trial, name, distribution)
            for name, distribution in search_space.items()
            if name not in self._names
        }


def checked_sampler(given: Any, what: str) -> BaseSampler:
    """What was given as a sampler; a `UserError` where it is none, as a class that is not made."""
    if not isinstance(given, BaseSampler):
        raise UserError(
            f"{what} must be a sampler of Optuna's, such as optuna.samplers.TPESampler(), but is "
            f"{given!r:.200}."
        )
    return given
