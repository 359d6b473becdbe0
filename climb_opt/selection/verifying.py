"""What the last slots of a plan measure: the recommendation and its nearest rivals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import optuna

from climb_opt.attributes import VERIFY
from climb_opt.gp.optima import lowest_mean, mean_of_top, mean_optimum
from climb_opt.measures import distance
from climb_opt.plan import Plan, Slot
from climb_opt.selection.choosing import evidence_of
from climb_opt.selection.rules import Evidence, auto
from climb_opt.simplex import MixtureSpace
from climb_opt.threads import one_blas_thread
from climb_opt.view import StudyView, read_history, store_fact

SAME = 0.005  # share of tokens: mixtures that differ by less are one, as for `confirm`


@one_blas_thread()
def shortlist(
    study: optuna.Study, count: int, *, space: MixtureSpace | None = None, seed: int = 0
) -> np.ndarray:
    """Mixtures (count, K), all different: the recommendation, then what comes nearest to it.

    Rivals are what the common rules keep and the mixtures already evaluated, by their expected
    score. Where nothing can be modelled, or too few differ, fresh draws fill the list.

    Args:
        space: as in `best_mixture`.
        seed: of draws.
    """
    view = StudyView(study)
    space = space or view.space
    history = read_history(study, space)
    evidence = evidence_of(view, space, history, False, seed) if len(history) else None
    known = np.empty((0, len(space))) if evidence is None else _contenders(evidence)
    drawn = space.sample_mixed(np.random.default_rng([seed, count]), 64 * count)
    found: list[np.ndarray] = []
    for apart in (SAME, 0.0):  # bounds so tight that all is nearly the same: any that differ
        for weights in space.project(np.concatenate([known, drawn])):
            if len(found) < count and all(distance(weights, w) > apart for w in found):
                found.append(weights)
    return np.array([*found, *drawn[: count - len(found)]])


class Verification(Mapping[Slot, Mapping[str, float]]):
    """Slot -> its mixture, for slots whose mixtures are given and for those that verify.

    These are chosen once, for all workers: whoever starts the first of them chooses, under the
    study's lock, and stores the list.

    Args:
        study: with a patient storage.
        given: slot -> mixture of the baselines.
        seed: of draws.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: Plan,
        given: Mapping[Slot, Mapping[str, float]],
        seed: int = 0,
    ) -> None:
        self._study, self._plan, self._given, self._seed = study, plan, given, seed

    def __getitem__(self, slot: Slot) -> Mapping[str, float]:
        if not self._plan.verifies(slot):
            return self._given[slot]
        assert isinstance(slot, int)
        view = StudyView(self._study)
        if VERIFY not in view.attributes:
            rows = shortlist(self._study, self._plan.verify, space=view.space, seed=self._seed)
            store_fact(self._study, VERIFY, [view.space.mixture(w) for w in rows])
            view = StudyView(self._study)
        mixtures: list[dict[str, float]] = view.attributes[VERIFY]
        return mixtures[slot - self._first]

    def __iter__(self) -> Iterator[Slot]:
        return itertools.chain(self._given, range(self._first, self._plan.size))

    def __len__(self) -> int:
        return len(self._given) + self._plan.verify

    @property
    def _first(self) -> int:
        return self._plan.size - self._plan.verify


def _contenders(evidence: Evidence) -> np.ndarray:
    """What may be recommended (m, K): the recommendation, then others by expected score."""
    problem = evidence.problem
    rivals = np.stack(
        [
            lowest_mean(problem, evidence.rng),
            lowest_mean(problem, evidence.rng, caution=1.0),
            mean_of_top(problem, evidence.rng),
            mean_optimum(problem, evidence.rng),
            *problem.evaluated,
        ]
    )
    order = np.argsort(evidence.promise.mean(np.sqrt(rivals)), kind="stable")
    return np.stack([auto(evidence), *rivals[order]])
