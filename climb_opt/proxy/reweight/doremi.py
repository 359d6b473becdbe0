"""DoReMi (Xie et al., arXiv 2305.10429): domain weights from one group-DRO training run.

A reference proxy is trained on a mixture. The proxy reads every domain equally often, while its
losses' weights move towards the domains in which it trails the reference most; the mean of its path
is the mixture.

Algorithm 1, in its notation, at step t with a batch B drawn uniformly over K domains:
    lambda_i = mean over tokens of domain i in B of max(loss - reference loss, 0)
    alpha'   = alpha_{t-1} exp(eta lambda),    alpha_t = (1 - c) alpha' / sum alpha' + c / K
    theta    : one step on sum_i alpha_t[i] x (mean token loss of domain i in B)
Result: the mean of alpha_1 .. alpha_T.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from climb_opt.doubles import in_double
from climb_opt.errors import UserError
from climb_opt.proxy.reweight.base import Extra, Sizes, Training, Weights

ETA = 1.0  # step size of the weights (Section 3)
SMOOTHING = 1e-3  # c: every domain keeps at least this share of uniform (Section 3)


class DoReMi:
    """Moves losses' weights to domains in which the proxy trails a reference (DoReMi).

    Args:
        eta, smoothing: as in the module's docstring.
        reference: the mixture of the reference, domain -> weight; None: the trial's.

    Raises:
        UserError: eta or smoothing out of range.
    """

    rereads = False

    def __init__(
        self,
        eta: float = ETA,
        smoothing: float = SMOOTHING,
        reference: Mapping[str, float] | None = None,
    ) -> None:
        if not 0 < eta < np.inf or not 0 <= smoothing < 1:
            raise UserError(
                f"doremi: eta must be positive and smoothing in [0, 1), but are {eta}, {smoothing}."
            )
        self.eta, self.smoothing, self.given = eta, smoothing, reference

    def reference(self, mixture: Mapping[str, float]) -> Mapping[str, float]:
        """The mixture of the reference."""
        return mixture if self.given is None else self.given

    def extra(self, sizes: Sizes) -> Extra:
        """Proxy and reference pass every token once more, to compare their losses."""
        return Extra(passed=2 * sizes.tokens)

    def when(self, steps: int) -> Container[int]:
        """Every step."""
        return range(steps)

    def start(self, training: Training) -> Weights:
        """All domains alike."""
        k = len(training.domains)
        self.alpha, self.excess = np.full(k, 1 / k), np.zeros(k)
        return Weights(reading=self.alpha, losses=self.alpha)

    def weigh(self, training: Training) -> Weights:
        """One step of the weights, by what the coming batch shows."""
        counts, excess = np.zeros((2, len(training.domains)))
        for tokens, domains in training.coming():
            theirs = training.token_losses(training.reference, tokens)
            behind = training.token_losses(training.model, tokens) - theirs
            np.add.at(counts, domains, behind.shape[1])
            trailing = in_double(behind.clamp(min=0.0).sum(dim=1)).cpu().numpy()
            np.add.at(excess, domains, trailing)
        counts, excess = training.total(np.stack([counts, excess]))
        # A domain without a sequence in this batch keeps its last excess, as in the authors' code.
        seen = counts > 0
        self.excess[seen] = excess[seen] / counts[seen]
        self.alpha = move_weights(self.alpha, self.excess, self.eta, self.smoothing)
        return Weights(losses=self.alpha)

    def state(self) -> dict[str, Any]:
        """The weights, and how far behind each domain was last."""
        return {"alpha": self.alpha, "excess": self.excess}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name, found in state.items():
            if np.shape(found) != self.alpha.shape:
                raise ValueError(f"{name} of shape {np.shape(found)}, not {self.alpha.shape}")
        self.alpha, self.excess = state["alpha"], state["excess"]


def move_weights(
    alpha: np.ndarray, excess: np.ndarray, eta: float = ETA, smoothing: float = SMOOTHING
) -> np.ndarray:
    """alpha_t (K,) from alpha_{t-1} and the excess losses lambda (K,)."""
    logs = np.log(alpha) + eta * excess
    raised = np.exp(logs - logs.max())
    return (1.0 - smoothing) * raised / raised.sum() + smoothing / len(alpha)
