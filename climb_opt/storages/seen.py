"""A study as a sampler is to see it: its storage shows every trial otherwise than it is stored.

What Optuna keeps private about trials, studies and samplers is touched here, for all samplers.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import HyperbandPruner
from optuna.samplers import PartialFixedSampler
from optuna.trial import FrozenTrial, TrialState


class Lens(Protocol):
    """How trials are seen."""

    def every(self, trials: Sequence[FrozenTrial], storage: Any) -> list[FrozenTrial]:
        """Those of all trials of a study that are seen, as they are."""

    def one(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial as it is seen."""


def whole(study: optuna.Study) -> optuna.Study:
    """The study, with a cache of trials of its own; of the one bracket that `HyperbandPruner`
    shows, the study behind it."""
    return copy.copy(getattr(study, "_study", study))


def seen_through(study: optuna.Study, trial: FrozenTrial, lens: Lens) -> optuna.Study:
    """`study`, of `whole`, through the lens, as the sampler of `trial` may see it."""
    study._storage = _Seen(study._storage, lens)  # type: ignore[assignment]
    if isinstance(study.pruner, HyperbandPruner):  # narrowed to its bracket again
        return optuna.pruners._filter_study(study, trial)
    return study


def with_parameters(
    trial: FrozenTrial,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    without: str,
) -> FrozenTrial:
    """The trial with other parameters, and `without` a system attribute, where it has that."""
    other = copy.copy(trial)
    other._params, other._distributions = dict(params), dict(distributions)
    if without in trial.system_attrs:
        other._system_attrs = {k: v for k, v in trial.system_attrs.items() if k != without}
    return other


def id_of(trial: FrozenTrial) -> int:
    """What a storage knows the trial by, among those of all its studies."""
    return trial._trial_id


def fixed_by(sampler: PartialFixedSampler) -> list[str]:
    """The parameters that it does not search."""
    return list(sampler._fixed_params)


class _Seen:
    """The real storage, except that trials are read through the lens."""

    def __init__(self, storage: Any, lens: Lens) -> None:
        self._real, self._lens = storage, lens

    def __getattr__(self, name: str) -> Any:
        if name == "_real":  # being copied or unpickled
            raise AttributeError(name)
        return getattr(self._real, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._real.get_all_trials(study_id, deepcopy=False, states=states)
        seen = self._lens.every(trials, self._real)
        return copy.deepcopy(seen) if deepcopy else seen

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._lens.one(self._real.get_trial(trial_id))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._lens.one(self._real.get_best_trial(study_id))
