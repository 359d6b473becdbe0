"""A mixing law of schedules: what a token is worth may depend on when it is read.

    loss_j(x) = c_j + k_j exp(-sum_p sum_k m_pk t_jk x_pk),   x_pk = s_p w_pk

as in `laws.py`, with m_pk what domain k's tokens count for in phase p. A mixture held throughout
scores what it does by the plain law whatever the effect (sum_p s_p m_pk = 1), so what phases are
worth is the difference between two known optima. Without an effect m is 1 and phases do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from climb_opt.emulator.laws import MixingLaw
from climb_opt.errors import UserError
from climb_opt.phases import PhasedSpace, shown

SPECK = 1e-12  # a weight that rounding left; there is nothing to take away


class PhasedLaw(MixingLaw):
    """Losses of schedules; lower is better.

    Args:
        shares: of the phases.
        effect: how much the time counts: the standard deviation, over domains, of the logarithm of
            what a token at the end is worth against one at the beginning. 0: it does not.
        domains, tasks, seed: as of `MixingLaw`, whose law mixtures held throughout follow.

    Raises:
        UserError: an effect below 0; shares that are none.

    >>> law = PhasedLaw((0.8, 0.2), effect=1.0, domains=4)
    >>> w = law.plain.space.prior
    >>> bool(np.isclose(law.score(law.space.constant(w)[None])[0], law.plain.score(w[None])[0]))
    True
    """

    space: PhasedSpace

    def __init__(
        self,
        shares: Sequence[float] = (0.8, 0.2),
        *,
        effect: float = 1.0,
        domains: int = 21,
        tasks: int = 5,
        seed: int = 0,
    ) -> None:
        if not effect >= 0 or not np.isfinite(effect):
            raise UserError(f"effect must be at least 0, but is {effect}.")
        super().__init__(domains, tasks, seed=seed)
        self.plain = MixingLaw(domains, tasks, seed=seed)
        base, self.effect = self.space, effect
        self.space = PhasedSpace(zip(base.domains, base.prior, strict=True), shares)
        lasting = effect * np.random.default_rng([seed, len(base), 1]).standard_normal(len(base))
        s = self.space.shares
        middle = np.cumsum(s) - s / 2  # of each phase, as a part of the run
        counts = np.exp(np.outer(middle, lasting))
        self.counts = counts / (s @ counts)  # (P, K)
        self._helps = np.concatenate([self._helps * row for row in self.counts], axis=1)

    def quality(self) -> str:
        """One line that goes with every result."""
        _, _, gap = self._solve()
        certain = max(gap, float(np.finfo(float).eps))
        best, held = self.optimum()[1], self.plain.optimum()[1]
        return (
            f"mixing law of phases {shown(self.space.shares)}, {len(self.space.base)} domains, "
            f"effect {self.effect:g}; optimum certified to {certain:.1e}; one mixture throughout "
            f"is worse by {max(held - best, 0.0):.3g}"
        )

    # --- private ---------------------------------------------------------------------------

    def _step(self, w: np.ndarray) -> np.ndarray:
        """Within the phase that gains most by it."""
        slope = self._gradient(w).reshape(len(self.space.shares), -1)
        has = w.reshape(slope.shape) > SPECK
        worst = np.where(has, slope, -np.inf)
        place = int(np.argmax(worst.max(axis=1) - slope.min(axis=1)))
        start = place * slope.shape[1]
        to, away = start + int(slope[place].argmin()), start + int(worst[place].argmax())
        return self._along(w, to, away)

    def _gap(self, w: np.ndarray) -> float:
        """See `MixingLaw`; each phase goes to its best domain."""
        slope = self._gradient(w)
        best = slope.reshape(len(self.space.shares), -1).min(axis=1)
        return float(slope @ w - self.space.shares @ best)
