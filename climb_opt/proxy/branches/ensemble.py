"""The branches' probabilities averaged by a mixture: -mean log sum_k w_k p_k(token).

Each branch says once how likely it finds every token that counts (MDE, arXiv 2502.15950); any
mixture is then a product of a vector and a matrix. Components are sums over tokens of a share times
the token's nats (`evaluators.base.ByToken`), so a score that is lower where text is likelier is
convex in the mixture, and its optimum needs no search (MixMin, arXiv 2502.10510).

Notation: K branches, n tokens, C components.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import minimize

from climb_opt.errors import UserError
from climb_opt.ladder.branches.groups import Branches
from climb_opt.simplex import MixtureSpace
from climb_opt.study_recipe import StudyRecipe

LEAST = 1e-30  # a probability: float32 holds none below it, and no token is impossible


@dataclass(frozen=True)
class Ensemble:
    """What the branches say of the tokens that count.

    probabilities (K, n) of each token by each branch; shares (C, n) of its nats in each component.
    """

    probabilities: np.ndarray
    components: tuple[str, ...]
    shares: np.ndarray

    def scores(self, weights: np.ndarray) -> dict[str, float]:
        """Component -> value, for the branches' weights (K,), which sum to 1."""
        mixed = np.asarray(weights, dtype=np.float32) @ self.probabilities
        values = -(self.shares @ np.log(np.maximum(mixed, LEAST)))
        return dict(zip(self.components, values.tolist(), strict=True))

    def along(self, coefficients: Mapping[str, float]) -> np.ndarray:
        """The share (n,) of each token's nats in a sum of components.

        Raises:
            UserError: a component that is no sum over tokens.
        """
        missing = sorted(set(coefficients) - set(self.components))
        if missing:
            raise UserError(
                f"{missing[0]!r} is no sum over tokens, which an ensemble needs; it scores "
                f"{', '.join(self.components)}. Read by merge, which any evaluator scores."
            )
        rows = [self.components.index(name) for name in coefficients]
        return np.asarray(np.array(list(coefficients.values())) @ self.shares[rows])


def blank(evaluators: Iterable[Any]) -> Ensemble:
    """An ensemble of the tokens of these `ByToken`s, in their order, without branches as yet."""
    given: list[dict[str, np.ndarray]] = [evaluator.token_shares() for evaluator in evaluators]
    components = tuple(name for one in given for name in one)
    blocks = [np.stack([*one.values()]) for one in given if one]
    shares = block_diag(*blocks) if blocks else np.zeros((0, 0))
    return Ensemble(np.zeros((0, shares.shape[1]), dtype=np.float32), components, shares)


def signed(recipe: StudyRecipe) -> dict[str, float]:
    """component -> coefficient of a study's score, lower where it is better."""
    return {name: recipe.sign * c for name, c in recipe.coefficients().items()}


def convex(ensemble: Ensemble, coefficients: Mapping[str, float]) -> np.ndarray:
    """The shares (n,) of each token's nats in a score, none below 0.

    Raises:
        UserError: a component is no sum over tokens, or likelier text would be worse.
    """
    shares = ensemble.along(coefficients)
    if shares.size and shares.min() < 0:
        raise UserError(
            "study.branches.read: mixmin needs a score that falls as text gets likelier, but a "
            "coefficient of this one says otherwise: the problem is not convex. Leave mixmin out "
            "of read."
        )
    return shares


def mixmin(
    ensemble: Ensemble, coefficients: Mapping[str, float], groups: np.ndarray, space: MixtureSpace
) -> np.ndarray:
    """The mixture (D,) within the bounds whose ensemble has the lowest sum of components.

    Args:
        coefficients: component -> coefficient.
        groups: (D, K) which branch stands for which domain: rows of zeros and a one.

    Raises:
        UserError: as of `convex`.
    """
    shares = convex(ensemble, coefficients)
    counts = shares > 0
    probabilities, shares = ensemble.probabilities[:, counts].astype(float), shares[counts]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum((weights @ groups) @ probabilities, LEAST)
        gradient = groups @ (probabilities @ (shares / mixed))
        return -float(shares @ np.log(mixed)), -gradient

    # Domains of one branch move together: the loss does not tell them apart.
    found = minimize(
        loss,
        space.project(space.prior),
        jac=True,
        method="SLSQP",
        bounds=list(zip(space.lower, space.upper, strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"maxiter": 500, "ftol": 1e-10},
    )
    return np.asarray(space.project(found.x))


def groups_of(branches: Branches, domains: Sequence[str]) -> np.ndarray:
    """(D, K) which branch stands for which domain."""
    return np.array([[float(d in b.domains) for b in branches.branches] for d in domains])
