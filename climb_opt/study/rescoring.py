"""Mixtures priced anew off a study's branches: another objective, other constraints or bounds.

Nothing is trained: what is read off the branches for the new score takes seconds. What the search
has trained says how far to believe it: where its trials hold the components of the new score, the
read-out's ranking of their mixtures is compared with theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from climb_opt.attributes import COMPONENTS
from climb_opt.errors import UserError, check_number, listed
from climb_opt.history import History, excesses
from climb_opt.ladder.agreement import Agreement
from climb_opt.recipes import StudyRecipe
from climb_opt.study.opening import overridden, read_recipe
from climb_opt.study.working import loaded_objective
from climb_opt.view import StudyView, read_history

PRICED = ("score", "direction", "constraints", "space", "evaluators")  # keys that train nothing
NEAR = 1e-6  # of a score: where the optimum's descent ends
MANY = {"ensemble": 4096, "merge": 32}  # mixtures priced, besides those known


@dataclass(frozen=True)
class Rescored:
    """What another score would have chosen, as it is read off the branches.

    Attributes:
        readout: "ensemble" or "merge".
        mixture: domain -> weight, the best that was priced.
        scores: "found", "prior" and the study's "best trained" mixture -> score.
        trained: how the read-out ranks the trained mixtures by the new score.
        kept: whether it keeps the constraints, as they are read off.
        priced: mixtures.
        optimum: whether it is the optimum of the ensemble, and not the best of draws.
    """

    readout: str
    mixture: Mapping[str, float]
    scores: Mapping[str, float]
    trained: Agreement
    kept: bool
    priced: int
    optimum: bool


def rescore(
    study: optuna.Study,
    overrides: Sequence[str] = (),
    *,
    mixtures: int | None = None,
    corpus: str | Path | None = None,
    directory: str | Path = "runs",
) -> Rescored:
    """The mixture that another score, other constraints or bounds would choose.

    Args:
        overrides: `key.sub=value` of what changes: score, direction, constraints, space or
            evaluators.
        mixtures: how many are drawn and priced; by default 4,096 by ensemble, 32 by merging.
        corpus: where it lies here, if not where the recipe says.
        directory: where the runs lie.

    Raises:
        UserError: the study has no branches, or none here; a key that changes what is trained.

    >>> import climb_opt
    >>> study = climb_opt.open_study("tiny.yaml", storage="runs/rescore.journal")
    >>> climb_opt.rescore(study, ["score=[sums/bpb]"])
    Traceback (most recent call last):
    climb_opt.errors.UserError: ... has no branches ...
    """
    stored = read_recipe(study)
    _check(stored, overrides)
    recipe = overridden(stored, overrides)
    assert recipe.branches is not None
    # By merging, if the new score can be read off no ensemble: that is no fault here.
    recipe = replace(recipe, branches=replace(recipe.branches, read=("merge",)))
    with closing(loaded_objective(study, recipe, corpus, directory)) as objective:
        return _Pricing(study, recipe, objective).found(mixtures)


class _Pricing:
    """Scores of mixtures by a read-out; lower is better."""

    def __init__(self, study: optuna.Study, recipe: StudyRecipe, objective: Any) -> None:
        self.study, self.recipe, self.objective = study, recipe, objective
        self.space, self.tree = objective.space, objective.rungs.tree
        for name in self.tree.names:
            self.tree.folder(name, study.study_name)  # raises where it is missing
        by_token = {*self.tree.ensemble.components}
        needed = {*objective.coefficients, *recipe.constraints}
        self.readout = "ensemble" if needed <= by_token else "merge"

    def found(self, mixtures: int | None) -> Rescored:
        count = MANY[self.readout] if mixtures is None else mixtures
        check_number("--mixtures", count)
        history = read_history(self.study, StudyView(self.study).space)
        known = self.space.project(history.weights) if len(history) else self.space.prior[None]
        drawn = self.space.sample_mixed(np.random.default_rng([self.recipe.seed, 23]), count)
        best = self._optimum()
        pool = np.concatenate([*([] if best is None else [best[None]]), known, drawn])
        components = [self.components(weights) for weights in pool]
        values = np.array([self.value(found) for found in components])
        broken = np.array([self.broken(found) for found in components])
        chosen = int(np.lexsort((values, broken))[0])
        same = values[0] <= values[chosen] + NEAR * abs(values[chosen])
        if best is not None and broken[0] <= broken[chosen] and same:
            chosen = 0
        scores = {"found": values[chosen], "prior": self.value(self.components(self.space.prior))}
        if len(history):
            top = self.space.project(history.weights[int(np.argmin(history.values))])
            scores["best trained"] = self.value(self.components(top))
        return Rescored(
            self.readout,
            self.space.mixture(pool[chosen]),
            {name: self.recipe.sign * float(value) for name, value in scores.items()},
            self._agreement(history),
            not broken[chosen],
            len(pool),
            best is not None and chosen == 0,
        )

    def components(self, weights: np.ndarray) -> dict[str, float]:
        mixture = self.space.mixture(weights)
        if self.readout == "ensemble":
            return self.tree.ensemble.scores(self.tree.branches.shares(mixture))
        return self.objective._evaluate(self.tree.merged(mixture))

    def value(self, components: Mapping[str, float]) -> float:
        return self.recipe.sign * float(self.objective.aggregate(dict(components)))

    def broken(self, components: Mapping[str, float]) -> float:
        """By how much constraints are broken, all together."""
        over = excesses(components, self.recipe.constraints, maximize=self.recipe.sign < 0)
        return float(sum(max(excess, 0.0) for excess in over.values()))

    def _optimum(self) -> np.ndarray | None:
        """The mixture with the lowest score of the ensemble; None where that is not convex."""
        if self.readout != "ensemble":
            return None
        try:
            best: np.ndarray = self.tree.optimum()
        except UserError:  # not convex: the best of draws
            return None
        return best

    def _agreement(self, history: History) -> Agreement:
        """How the read-out ranks trained mixtures by the new score."""
        pairs = []
        for trial, weights in zip(history.trials, history.weights, strict=True):
            measured = trial.user_attrs.get(COMPONENTS, {})
            if {*self.objective.coefficients} <= {*measured}:
                pairs.append([self.value(self.components(weights)), self.value(measured)])
        return Agreement.of(0, 1, np.array(pairs).reshape(-1, 2))


def _check(stored: StudyRecipe, overrides: Sequence[str]) -> None:
    if not stored.readouts:
        raise UserError(
            "Only a study whose recipe has branches to read off can be rescored without training "
            "(branches: {read: [merge]})."
        )
    for override in overrides:
        key = override.partition("=")[0].partition(".")[0]
        if key not in PRICED:
            raise UserError(
                f"rescore: {key!r} changes what is trained; what can be priced anew: "
                f"{listed(PRICED)}."
            )
