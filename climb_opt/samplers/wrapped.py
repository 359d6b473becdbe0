"""Any Optuna sampler on the simplex, by translating what it reads.

The wrapped sampler searches free coordinates (`encodings.py`). It is given a copy of the study
whose storage shows every trial in those coordinates and passes everything else on to the real
storage. So its own state, trial ids, races and restarts are those of stock Optuna, and with the
same seed it proposes, to the bit, what it would propose on the free space; the study holds weights.

Of a study on rungs the sampler sees every score on the target's scale (`levels.py`), and no
constraint that says which rung a trial is of.

Not a shadow study: one of those forgets the sampler's state at every restart, and each process
would start its own CMA-ES (docs/notes/running.md#optuna).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, BruteForceSampler, GridSampler, PartialFixedSampler
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import FREE
from climb_opt.errors import UserError
from climb_opt.history import MOST
from climb_opt.measures import distance
from climb_opt.phases import checked_space
from climb_opt.samplers.beside import MixtureSampler, checked_sampler
from climb_opt.samplers.copies import Memory
from climb_opt.samplers.encodings import Encoding, make_encoding
from climb_opt.samplers.levels import Scales, Shown
from climb_opt.simplex import MixtureSpace
from climb_opt.storages.seen import fixed_by, id_of, seen_through, whole, with_parameters
from climb_opt.view import RUNG_CONSTRAINT, remember

# A mixture that the encoding cannot represent better than this (half its L1 distance) is hidden:
# its score would be credited to another mixture.
FAITHFUL = 0.02


class SimplexSampler(MixtureSampler):
    """Runs `base`, any Optuna sampler, on the mixtures of `space`.

    Parameters that are not weights are passed to `base` as they are, which searches them jointly.

    Args:
        space: the mixtures to search. Proposals outside its bounds are capped and redistributed.
        base: for example `optuna.samplers.TPESampler(seed=0)`. Use it for one study only.
        encoding: "softmax", "gamma" or "stick-breaking"; or a class or function that makes an
            `Encoding` of the space.

    Raises:
        UserError: `base` is no sampler, one of mixtures already, one that draws from given values
            (GridSampler, BruteForceSampler), or fixes a weight; an unknown encoding.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 7, "code": 2, "math": 1})
    >>> sampler = climb_opt.SimplexSampler(space, optuna.samplers.TPESampler(seed=0))
    >>> study = optuna.create_study(sampler=sampler)
    >>> study.optimize(lambda trial: space.suggest(trial)["code"], n_trials=3)
    >>> round(sum(study.best_params.values()), 9)
    1.0
    """

    def __init__(
        self,
        space: MixtureSpace,
        base: BaseSampler,
        *,
        encoding: str | Callable[[MixtureSpace], Encoding] = "softmax",
    ) -> None:
        super().__init__(space, _of_boxes(base, checked_space(space)))
        self._translator = _Translator(space, make_encoding(encoding, space))
        self._scales = Scales(space)

    def __str__(self) -> str:
        return f"SimplexSampler({type(self._other).__name__})"

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        view, seen = self._shown(study, trial)
        known = self._other.infer_relative_search_space(view, seen)
        others = {n: d for n, d in known.items() if n not in self._translator.free}
        return {**self._space.distributions(), **others}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        view, seen = self._shown(study, trial)
        free = self._translator.free
        known = self._other.infer_relative_search_space(view, seen)
        weights = self._space.distributions()
        asked = {n: d for n, d in known.items() if n in free or n in search_space}
        asked |= {n: d for n, d in search_space.items() if n not in weights}
        found = self._other.sample_relative(view, seen, asked)
        # What the base does not know yet (start-up trials, univariate TPE) it draws one by one.
        u = {
            name: found[name]
            if name in found
            else self._other.sample_independent(view, seen, name, distribution)
            for name, distribution in free.items()
        }
        mixture = self._translator.decode(u)
        stored: dict[str, Any] = {FREE: [float(value) for value in u.values()]}
        for name, value in self._foretold(study, mixture, stored).items():
            remember(study, trial, name, value)
        params = self._space.params(mixture)
        others = {n: v for n, v in found.items() if n not in free}
        return {n: v for n, v in {**params, **others}.items() if n in search_space}

    def _shown(self, study: optuna.Study, trial: FrozenTrial) -> tuple[optuna.Study, FrozenTrial]:
        view = whole(study)
        lens = _Lens(self._translator, self._scales.shown(view))
        return seen_through(view, trial, lens), lens.one(trial)


def _of_boxes(base: Any, space: MixtureSpace) -> BaseSampler:
    """The base, if it can search the free coordinates."""
    sampler = checked_sampler(base, "base")
    name = type(sampler).__name__
    if isinstance(sampler, MixtureSampler):
        raise UserError(
            f"base: {name} proposes mixtures itself; give it to create_study as it is, or an "
            "Optuna sampler to SimplexSampler."
        )
    if isinstance(sampler, (GridSampler, BruteForceSampler)):
        raise UserError(
            f"base: {name} draws from given values, and weights have none; QMCSampler covers the "
            "mixtures evenly."
        )
    fixed = fixed_by(sampler) if isinstance(sampler, PartialFixedSampler) else ()
    if weights := [n for n in fixed if n in space.parameter_names]:
        raise UserError(
            f"base: {name} cannot fix the weight {weights[0]!r}; give the space that number as the "
            "domain's lower and upper bound."
        )
    return sampler


class _Translator:
    """Trials with weights -> the same trials in free coordinates. Finished ones are kept."""

    def __init__(self, space: MixtureSpace, encoding: Encoding) -> None:
        self._space = space
        self._encoding = encoding
        self.free = encoding.distributions()
        self._names = frozenset(space.parameter_names)
        self._finished: Memory[FrozenTrial | None] = Memory()  # what is shown, by trial id

    def decode(self, u: dict[str, float]) -> np.ndarray:
        decoded = self._encoding.decode(np.array([u[name] for name in self.free], dtype=float))
        return self._space.project(decoded)

    def shown(self, trials: Sequence[FrozenTrial], storage: Any) -> list[FrozenTrial]:
        """The trials in free coordinates, without the finished ones that hold no mixture.

        One such trial would empty the search space that Optuna's samplers infer.
        """
        with self._finished.lock:
            finished = self._finished.of(storage)
        seen = [self._seen(trial, finished) for trial in trials]
        return [trial for trial in seen if trial is not None]

    def translate(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial in free coordinates; without them while it has no mixture."""
        free = self._free_of(trial)
        others = {n: d for n, d in trial.distributions.items() if n not in self._names}
        params = {n: trial.params[n] for n in others}
        if free is not None:
            others = {**self.free, **others}
            params = {**dict(zip(self.free, free, strict=True)), **params}
        translated = with_parameters(trial, params, others, without=RUNG_CONSTRAINT)
        if trial.values is not None:  # Optuna's own GP and BoTorch square them
            translated.values = [min(max(value, -MOST), MOST) for value in trial.values]
        return translated

    def _seen(
        self, trial: FrozenTrial, finished: dict[int, FrozenTrial | None]
    ) -> FrozenTrial | None:
        if not trial.state.is_finished():
            return self.translate(trial)
        if (key := id_of(trial)) not in finished:
            known = self._free_of(trial) is not None
            finished[key] = self.translate(trial) if known else None
        return finished[key]

    def _free_of(self, trial: FrozenTrial) -> list[float] | None:
        weights = self._space.weights_of(trial)
        if weights is None:
            return None
        stored = trial.system_attrs.get(FREE)
        if stored is not None and len(stored) == len(self.free):
            return list(stored)
        free = self._encoding.encode(weights)
        if distance(self._encoding.decode(free), weights) > FAITHFUL:
            return None
        return [float(value) for value in free]


@dataclass(frozen=True)
class _Lens:
    """Trials in free coordinates, those below the target with the values of `scaled`."""

    translator: _Translator
    scaled: Shown

    def every(self, trials: Sequence[FrozenTrial], storage: Any) -> list[FrozenTrial]:
        return [self._on_scale(t) for t in self.translator.shown(trials, storage)]

    def one(self, trial: FrozenTrial) -> FrozenTrial:
        return self.translator.translate(trial)

    def _on_scale(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.number not in self.scaled or trial.state != TrialState.COMPLETE:
            return trial
        other = copy.copy(trial)
        other.values = self.scaled[trial.number]
        return other
