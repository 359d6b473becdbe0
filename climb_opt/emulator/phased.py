"""Laws of schedules: what a token is worth may depend on when it is read.

    loss(x) = plain law's loss(v),   v_k = sum_p m_pk x_pk,   x_pk = s_p w_pk

with m_pk what domain k's tokens count for in phase p. A mixture held throughout scores what it does
by the plain law whatever the effect (sum_p s_p m_pk = 1), so what phases are worth is the
difference between two known optima. Without an effect m is 1 and phases do not matter.

    PhasedLaw   of a mixing law, exp(-t.v): convex, its optimum certified
    InPhases    of a law of any shape
    Throughout  a source of schedules, searched by mixtures that hold throughout
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from climb_opt.emulator.ladders import LadderSource
from climb_opt.emulator.laws import MixingLaw
from climb_opt.emulator.lowest import lowest
from climb_opt.emulator.shapes import FINE, Law
from climb_opt.errors import UserError
from climb_opt.phases import PhasedSpace, shown
from climb_opt.simplex import MixtureSpace

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
        super().__init__(domains, tasks, seed=seed)
        self.plain = MixingLaw(domains, tasks, seed=seed)
        base, self.effect = self.space, effect
        self.space = PhasedSpace(zip(base.domains, base.prior, strict=True), shares)
        self.counts = worth(self.space.shares, effect, len(base), seed)  # (P, K)
        self._helps = np.concatenate([self._helps * row for row in self.counts], axis=1)

    def quality(self) -> str:
        """One line that goes with every result."""
        certified, best, held = self._certified(), self.optimum()[1], self.plain.optimum()[1]
        return (
            f"mixing law of phases {shown(self.space.shares)}, {len(self.space.base)} domains, "
            f"effect {self.effect:g}; {certified}; one mixture throughout is worse by "
            f"{max(held - best, 0.0):.3g}"
        )

    # --- private ---------------------------------------------------------------------------

    def _step(self, w: np.ndarray) -> np.ndarray:
        """Within the phase that gains most by it."""
        slope = self._gradient(w).reshape(len(self.space.shares), -1)
        worst = np.where(w.reshape(slope.shape) > SPECK, slope, -np.inf)
        place = int(np.argmax(worst.max(axis=1) - slope.min(axis=1)))
        start = place * slope.shape[1]
        to, away = start + int(slope[place].argmin()), start + int(worst[place].argmax())
        return self._along(w, to, away)

    def _gap(self, w: np.ndarray) -> float:
        """See `MixingLaw`; each phase goes to its best domain."""
        slope = self._gradient(w)
        best = slope.reshape(len(self.space.shares), -1).min(axis=1)
        return float(slope @ w - self.space.shares @ best)


class InPhases(Law):
    """A law of any shape whose tokens count by when they are read.

    Args:
        plain: what mixtures held throughout follow. Its lower bounds hold in every phase, its
            upper ones, which may be inventories', over a run.
        shares, effect, seed: as of `PhasedLaw`.

    Raises:
        UserError: an effect below 0; shares that are none.

    >>> from climb_opt.emulator.shapes import Interactions
    >>> law = InPhases(Interactions(4))
    >>> w = law.plain.space.prior
    >>> bool(np.isclose(law.score(law.space.constant(w)[None])[0], law.plain.score(w[None])[0]))
    True
    """

    def __init__(
        self,
        plain: Law,
        shares: Sequence[float] = (0.8, 0.2),
        *,
        effect: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.plain, base = plain, plain.space
        self.space = self._schedules = in_phases(base, shares)
        self.names, self.coefficients = plain.names, plain.coefficients
        self.counts = worth(self._schedules.shares, effect, len(base), seed)  # (P, K)

    def draw(self, rng: np.random.Generator, tasks: int, domains: int) -> None:
        """Nothing: the plain law was drawn already."""

    def components(self, weights: np.ndarray) -> np.ndarray:
        """See `Law`."""
        return self.plain.components(self._schedules.mean(weights * self.counts.ravel()))

    def quality(self) -> str:
        """One line that goes with every result."""
        lost = self.plain.optimum()[1] - self.optimum()[1]
        return (
            f"{self.plain.quality()}; phases {shown(self._schedules.shares)}, the best known "
            f"mixture throughout is worse by {max(lost, 0.0):.3g}"
        )


class Throughout(LadderSource):
    """A source of schedules, searched by mixtures that hold throughout."""

    def __init__(self, source: LadderSource) -> None:
        assert isinstance(source.space, PhasedSpace)
        self._schedules, self.space = source.space, source.space.base
        self._source, self.ladder, self.noise = source, source.ladder, source.noise

    def truth(self, weights: np.ndarray, rung: int | None = None) -> np.ndarray:
        """See `LadderSource`."""
        return self._source.truth(self._schedules.constant(weights), rung)

    def optimum(self) -> tuple[np.ndarray, float]:
        """The best such mixture that a long search finds."""
        found = lowest(self.truth, self.space, steps=FINE)
        return found, float(self.truth(found[None])[0])

    def quality(self) -> str:
        """The source's line."""
        return f"{self._source.quality()}; one mixture throughout"


# --- private -------------------------------------------------------------------------------------


def in_phases(base: MixtureSpace, shares: Sequence[float]) -> PhasedSpace:
    """Schedules of a space's mixtures; see `InPhases` for the bounds."""
    names = {f"{p + 1}/{domain}": domain for p in range(len(shares)) for domain in base.domains}
    lower = base.mixture(base.lower)
    return PhasedSpace.from_json(
        {
            "shares": shares,
            "prior": base.mixture(base.prior),
            "epochs": base.mixture(base.epochs),
            "cap": base.mixture(base.upper),
            "lower": {name: lower[domain] for name, domain in names.items()},
            "upper": dict.fromkeys(names, 1.0),
        }
    )


def worth(shares: np.ndarray, effect: float, domains: int, seed: int) -> np.ndarray:
    """What tokens of each phase count for (P, K), drawn; 1 over a whole run."""
    if not effect >= 0 or not np.isfinite(effect):
        raise UserError(f"effect must be at least 0, but is {effect}.")
    lasting = effect * np.random.default_rng([seed, domains, 1]).standard_normal(domains)
    middle = np.cumsum(shares) - shares / 2  # of each phase, as a part of the run
    counts = np.exp(np.outer(middle, lasting))
    return np.asarray(counts / (shares @ counts))
