# Written by hub/build.py from climb_opt: change it there.
"""Simulated losses that follow a data mixing law, with a known optimum; no data needed.

    loss_j(w) = c_j + k_j exp(-sum_i t_ji w_i),   score = mean over j

Ye et al. (arXiv 2403.16952) fit this law to real runs. With positive k the score is convex, so its
minimum is found to a certified gap: f(w) - f* <= max_i (-g_i) + g . w, g the gradient at w.
"""

from __future__ import annotations

import numpy as np

from .emulator_shapes import Law
from .simplex import MixtureSpace


class MixingLaw(Law):
    """C losses of K domains, drawn from `seed`; lower is better.

    Args:
        domains: how many.
        tasks: how many losses; each leans on a few domains of its own.
        seed, space: as of `Law`.
    """

    FEWEST = 1

    def __init__(
        self, domains: int = 21, tasks: int = 5, *, seed: int = 0, space: MixtureSpace | None = None
    ) -> None:
        super().__init__(domains, tasks, seed=seed, space=space)

    def draw(self, rng: np.random.Generator, tasks: int, domains: int) -> None:
        """See `Law`."""
        # Few domains help a task much, most a little, some harm it.
        self._helps = rng.gamma(0.3, 4.0, (tasks, domains)) - rng.gamma(0.3, 1.0, domains)
        self._floor = rng.uniform(2.0, 3.0, tasks)
        self._height = rng.uniform(0.5, 1.5, tasks)
        self._optimum: np.ndarray | None = None

    def components(self, weights: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return np.asarray(self._floor + self._height * np.exp(-weights @ self._helps.T))

    def quality(self) -> str:
        """One line that goes with every result."""
        return f"mixing law, {len(self.space)} domains; {self._certified()}"

    def optimum(self) -> tuple[np.ndarray, float]:
        """The best mixture (K,) within the bounds, and its score."""
        return self._solve()[:2]

    # --- private ---------------------------------------------------------------------------

    def _certified(self) -> str:
        gap = self._solve()[2]  # at a vertex rounding may leave it below 0
        return f"optimum certified to {max(gap, float(np.finfo(float).eps)):.1e}"

    def _gradient(self, w: np.ndarray) -> np.ndarray:
        steep = self._height * np.exp(-self._helps @ w)
        return np.asarray(-(steep @ self._helps) / len(self.names))

    def _solve(self) -> tuple[np.ndarray, float, float]:
        """Pairwise Frank-Wolfe: move weight from the worst domain that has some to the best."""
        w = self._optimum if self._optimum is not None else self.space.project(self.space.prior)
        gap = self._gap(w)
        for _ in range(20_000):
            if gap <= 1e-10:
                break
            w = self._step(w)
            gap = self._gap(w)
        self._optimum = w
        return w, float(self.score(w[None])[0]), gap

    def _step(self, w: np.ndarray) -> np.ndarray:
        slope = self._gradient(w)
        low, high = self.space.lower, self.space.upper
        to = int(np.argmin(np.where(w < high, slope, np.inf)))
        away = int(np.argmax(np.where(w > low, slope, -np.inf)))
        return self._along(w, to, away)

    def _along(self, w: np.ndarray, to: int, away: int) -> np.ndarray:
        """As far from one domain to another as it helps."""
        low, high = self.space.lower, self.space.upper
        direction = np.zeros(len(w))
        direction[to], direction[away] = 1.0, -1.0
        most = min(float(high[to] - w[to]), float(w[away] - low[away]))
        inner = self._helps @ direction
        step = 0.0
        for _ in range(30):  # Newton on the line, where the score is convex
            steep = self._height * np.exp(-self._helps @ (w + step * direction))
            change = float(steep @ inner) / float(steep @ inner**2)
            step = min(max(step + change, 0.0), most)
            if abs(change) < 1e-14 or step in (0.0, most):
                break
        return np.asarray(np.clip(w + step * direction, low, high))

    def _gap(self, w: np.ndarray) -> float:
        """An upper bound on score(w) - optimum: the steepest linear decrease left."""
        slope = self._gradient(w)
        vertex, room = self.space.lower.copy(), 1.0 - float(self.space.lower.sum())
        for i in np.argsort(slope, kind="stable"):
            share = min(room, float(self.space.upper[i] - self.space.lower[i]))
            vertex[i] += share
            room -= share
        return float(slope @ (w - vertex))
