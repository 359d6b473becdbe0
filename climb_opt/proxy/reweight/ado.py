"""ADO (Jiang et al., arXiv 2410.11820): read most where the loss falls fastest, by laws fitted
while the proxy trains. No reference, no further pass.

Each domain's loss is taken to follow L_k(n) = eps_k + beta_k n^-alpha_k in the tokens n read so
far, so that it falls by alpha_k (L_k(n) - eps_k) / n a token. In its notation, with mu the trial's
mixture:
    h_k       what was read of late, an exponential mean with step gamma1; lambda_k = h_k^s
    rho_k     proportional to mu_k lambda_k alpha_k (L_k(n) - eps_k) / n, at least delta
    pi_k      gamma2 rho_k + (1 - gamma2) (mean of pi_k so far): what is read

Here pi changes at some steps only, and what the paper does each step is done for those between at
once. A law is fitted by least squares of relative errors over a grid of alpha.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from climb_opt.errors import UserError
from climb_opt.proxy.reweight.base import Training, Weights

ALPHAS = np.linspace(0.05, 0.8, 16)  # the range that the authors' code keeps to
FEWEST = 4  # points of a law of three numbers


LEAST = 0.01  # delta: no domain's share of what is preferred falls below


class ADO:
    """Reads most of the domains whose loss falls fastest, by a law fitted to each (ADO).

    Args:
        changes: how often in a run losses are looked at and the weights may change.
        start: share of the steps before the first change, in which the trial's mixture is read.
        ignore: share of the steps whose losses no law is fitted to: the learning rate warms up.
        gamma: gamma1 and gamma2 of the module's docstring.
        power: s, there.

    Raises:
        UserError: an option out of range.
    """

    rereads = True

    def __init__(
        self,
        changes: int = 32,
        start: float = 0.2,
        ignore: float = 0.05,
        gamma: tuple[float, float] = (0.1, 0.1),
        power: float = 0.5,
    ) -> None:
        if changes < 1 or not 0 <= ignore <= start < 1 or not 0 <= power < np.inf:
            raise UserError(
                "ado: changes must be at least 1, 0 <= ignore <= start < 1 and power at least 0, "
                f"but are {changes}, {ignore}, {start}, {power}."
            )
        if len(gamma) != 2 or not all(0 < g <= 1 for g in gamma):
            raise UserError(f"ado: gamma must be two numbers in (0, 1], but is {gamma}.")
        self.changes, self.begins, self.ignore = changes, start, ignore
        self.recent, self.trust = gamma
        self.power = power

    def when(self, steps: int) -> Container[int]:
        """At so many steps, evenly."""
        every = max(steps // self.changes, 1)
        return range(every, steps, every)

    def start(self, training: Training) -> Weights:
        """The trial's mixture."""
        self.last, self.read, self.losses = 0, np.zeros(0), np.zeros((0, len(training.domains)))
        self.weights = self.mean = self.history = training.mixture
        return Weights(reading=training.mixture)

    def weigh(self, training: Training) -> Weights:
        """What falls fastest, by the losses so far."""
        step, done = training.step, training.step - self.last
        if step > self.ignore * training.steps:
            self.read = np.append(self.read, training.read.sum())
            self.losses = np.vstack([self.losses, training.losses])
        kept = (1 - self.recent) ** done
        self.history = (1 - kept) * self.weights + kept * self.history
        self.mean = self.mean + (self.weights - self.mean) * done / step
        self.last = step
        if step >= self.begins * training.steps:
            self._move(training.mixture)
        return Weights(reading=self.weights)

    def state(self) -> dict[str, Any]:
        """The losses so far, and what was read."""
        names = ("last", "read", "losses", "weights", "mean", "history")
        return {name: getattr(self, name) for name in names}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if state["weights"].shape != self.weights.shape:
            raise ValueError(f"weights of shape {state['weights'].shape}")
        vars(self).update(state)

    def _move(self, mixture: np.ndarray) -> None:
        falls = np.array([speed(self.read, losses) for losses in self.losses.T])
        known = np.isfinite(falls)
        if not known.any():
            return
        falls[~known] = falls[known].mean()  # of too few losses nothing is known
        wanted = mixture * self.history**self.power * falls
        if not wanted.sum() > 0:  # no loss falls
            return
        open_ = mixture > 0  # what the trial leaves out stays out
        least = min(LEAST, 0.5 / open_.sum()) * open_
        preferred = np.maximum(wanted / wanted.sum(), least)
        moved = self.trust * preferred / preferred.sum() + (1 - self.trust) * self.mean
        self.weights = moved / moved.sum()


def speed(tokens: np.ndarray, losses: np.ndarray) -> float:
    """How much a loss falls a token at the last of `tokens` (n,), by a law fitted to `losses` (n,).

    Not-a-number where fewer than four losses are known.
    """
    known = np.isfinite(losses)
    if known.sum() < FEWEST:
        return float("nan")
    n, seen = tokens[known], losses[known]
    best = (np.inf, 0.0)
    for alpha in ALPHAS:
        terms = np.stack([np.ones(len(n)), (n / tokens[-1]) ** -alpha]) / seen  # relative errors
        law = np.linalg.lstsq(terms.T, np.ones(len(n)), rcond=None)[0]
        if law.min() < 0:  # one of the two is 0 then
            alone = [terms[row].sum() / (terms[row] ** 2).sum() for row in (0, 1)]
            errors = [((terms[row] * alone[row] - 1) ** 2).sum() for row in (0, 1)]
            law = np.where(np.arange(2) == np.argmin(errors), alone, 0.0)
        error = float(((law @ terms - 1) ** 2).sum())
        if error < best[0]:
            best = (error, alpha * float(law[1]) / float(tokens[-1]))
    return best[1]
