# Written by hub/build.py from climb_opt: change it there.
"""Mixtures that change while a model trains: the search space of schedules.

A *phase* is a share of a trial's tokens with a mixture of its own; a *schedule* is the phases of a
trial in order. Inside, a schedule is one vector of weights like any other,

    x = (s_1 w_1, ..., s_P w_P)    s the shares (P,), w_p the mixture (K,) of phase p

which sums to 1, so that draws, distances and models of mixtures do as they are; only what is here
knows that the sum of each block is given. A domain's repetitions couple the blocks: its weight in
the mean mixture, sum_p x_pk, is at most its cap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .bounds import SUM_TOLERANCE, check_weights
from .errors import UserError, within
from .phases_caps import Caps
from .phases_given import Mixture, labels, read
from .schedules import Phase, Schedule, check_shares
from .simplex import MixtureSpace
from .sums import Amounts


class PhasedSpace(MixtureSpace):
    """Schedules of several phases: one simplex a phase, each with the same domains.

    Its weights are numbered by phase: parameter `w1/web` is the weight of web in phase 1, and a
    mixture maps "1/web" to it. A mixture of plain domains is one that holds throughout.

    Args:
        prior: domain -> amount, as of `MixtureSpace`.
        shares: of a trial's tokens, one a phase; they sum to 1.
        bounds: {"lower": ..., "upper": ...} as of `MixtureSpace`, for every phase or one a phase.
        max_epochs, trial_tokens: as of `MixtureSpace`, over all phases together.

    Raises:
        UserError: as of `MixtureSpace`, naming the phase; shares that are none.

    >>> space = PhasedSpace({"web": 700, "code": 300}, (0.75, 0.25))
    >>> space.mixture(space.weights([{"web": 1.0}, {"web": 0.5, "code": 0.5}]))
    {'1/web': 1.0, '1/code': 0.0, '2/web': 0.5, '2/code': 0.5}
    """

    def __init__(
        self,
        prior: Amounts,
        shares: Sequence[float],
        *,
        bounds: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
        max_epochs: float | None = None,
        trial_tokens: float | None = None,
    ) -> None:
        self.shares = np.array(check_shares(shares, "shares"))
        # The space of mean mixtures: a constant schedule is one of its mixtures throughout.
        base = MixtureSpace(prior, max_epochs=max_epochs, trial_tokens=trial_tokens)
        each = [bounds] * len(shares) if isinstance(bounds, Mapping) else list(bounds)
        each = each or [{}] * len(shares)
        if len(each) != len(shares):
            raise UserError(
                f"Bounds by phase: one for each of {len(shares)} phases, but there are {len(each)}."
            )
        self._set(base, [self._phase(base, p, **given) for p, given in enumerate(each)])

    def _phase(self, base: MixtureSpace, place: int, **bounds: Any) -> MixtureSpace:
        with within(f"Phase {place + 1} of {len(self.shares)}"):
            return MixtureSpace(zip(base.domains, base.prior, strict=True), **bounds)

    def _set(self, base: MixtureSpace, phases: Sequence[MixtureSpace]) -> None:
        self.base, self.phases, self.cap, self.count = base, tuple(phases), base.upper, len(phases)
        self.domains = labels(base.domains, len(phases))
        if both := sorted(set(base.domains) & set(self.domains)):
            raise UserError(f"Domain {both[0]!r} is named like a phase's weight; rename it.")
        self.parameter_names = tuple(f"w{label}" for label in self.domains)
        self.prior = self.constant(base.prior)
        self.epochs = np.tile(base.epochs, len(phases))
        self.lower = self.of_blocks(np.stack([phase.lower for phase in phases]))
        self.upper = self.of_blocks(np.stack([phase.upper for phase in phases]))
        self.coupled = bool(np.any(self.mean(self.upper) > self.cap))
        self.bounded_phases = any(phase.bounded for phase in phases)  # by bounds of their own
        self.bounded = self.coupled or self.bounded_phases
        if self.coupled:
            self._caps = Caps(base, self.shares, self.phases)

    # --- schedules as arrays -----------------------------------------------------------------

    def blocks(self, weights: np.ndarray) -> np.ndarray:
        """The mixture of each phase: (..., P, K) of weights (..., P K)."""
        w = np.asarray(weights, dtype=float)
        return w.reshape(*w.shape[:-1], len(self.shares), len(self.base)) / self.shares[:, None]

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The mean mixture over a run (..., K), in the order of `base.domains`."""
        w = np.asarray(weights, dtype=float)
        return np.asarray(w.reshape(*w.shape[:-1], len(self.shares), len(self.base)).sum(axis=-2))

    def constant(self, mixture: np.ndarray) -> np.ndarray:
        """The schedule (..., P K) of one mixture (..., K) throughout."""
        w = np.asarray(mixture, dtype=float)
        shape = (*w.shape[:-1], len(self.shares), w.shape[-1])
        return self.of_blocks(np.broadcast_to(w[..., None, :], shape))

    def schedule(self, weights: np.ndarray) -> Schedule:
        """The schedule of weights (P K)."""
        pairs = zip(self.shares.tolist(), self.blocks(weights), strict=True)
        return tuple(Phase(share, self.base.mixture(block)) for share, block in pairs)

    def of_blocks(self, blocks: np.ndarray) -> np.ndarray:
        """Weights (..., P K) of the mixtures (..., P, K) of all phases."""
        scaled = blocks * self.shares[:, None]
        return scaled.reshape(*scaled.shape[:-2], len(self))

    # --- a schedule <-> a trial's parameters ---------------------------------------------------

    def check(self, weights: np.ndarray, what: str = "The mixture") -> None:
        """Raise a `UserError` that names the phase and the rule `weights` breaks, if any."""
        for place, (block, phase) in enumerate(zip(self.blocks(weights), self.phases, strict=True)):
            phase.check(block, f"{what}, phase {place + 1}")
        mean = self.mean(weights)
        over = np.flatnonzero(mean > self.cap + SUM_TOLERANCE)
        if over.size:
            k = int(over[0])
            raise UserError(
                f"{what}: over all phases domain {self.base.domains[k]!r} weighs {mean[k]:.6g}, "
                f"but max_epochs allows {self.cap[k]:.6g}."
            )

    def mixture(self, weights: np.ndarray) -> dict[str, float]:
        """ "1/domain" -> weight within its phase, as plain floats."""
        return super().mixture(self.blocks(weights).ravel())

    def params(self, weights: np.ndarray) -> dict[str, float]:
        """Optuna parameters for `weights`: each phase's own mixture, rounding clipped to [0, 1]."""
        return super().params(self.blocks(check_weights(self.domains, weights)).ravel())

    def weights(
        self,
        mixture: Mixture | Sequence[Mixture] | Schedule,
        *,
        normalise: bool = False,
        what: str = "The mixture",
    ) -> np.ndarray:
        """Weights (P K) of a schedule, or of a mixture for each phase in order, of "1/domain" ->
        weight (or "w1/domain"), or of domain -> weight: one mixture throughout.

        Each phase's sum is read as that of a mixture is (see `MixtureSpace.weights`).

        Raises:
            UserError: as of `MixtureSpace.weights`, naming the phase; another number of phases.
        """
        blocks = read(mixture, self.base, self.shares, normalise=normalise, what=what)
        found = self.of_blocks(blocks)
        self.check(found, what)
        return found

    # --- stored with a study -------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """As of `MixtureSpace`, by "1/domain"; with the shares, and the domains' caps."""
        return {
            "shares": self.shares.tolist(),
            "prior": self.base.mixture(self.base.prior),
            "epochs": self.base.mixture(self.base.epochs),
            "cap": self.base.mixture(self.cap),
            "lower": self.mixture(self.lower),
            "upper": self.mixture(self.upper),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PhasedSpace:
        """The space that `to_json` wrote."""
        space: PhasedSpace = cls.__new__(cls)
        space.shares = np.array(check_shares(data["shares"], "A stored space: shares"))
        base = MixtureSpace(data["prior"], upper=data["cap"])
        base.epochs = np.array([float(data["epochs"][d]) for d in base.domains])
        phases = []
        for place in range(len(space.shares)):
            keys = {d: f"{place + 1}/{d}" for d in base.domains}
            both = {w: {d: data[w][key] for d, key in keys.items()} for w in ("lower", "upper")}
            phases.append(space._phase(base, place, **both))
        space._set(base, phases)
        return space

    # --- which schedules are allowed -----------------------------------------------------------

    def contains(self, weights: np.ndarray, atol: float = SUM_TOLERANCE) -> np.ndarray:
        """Whether each row of `weights` (..., P K) keeps its phases' sums, the bounds and caps."""
        blocks = np.asarray(self.blocks(weights) * self.shares[:, None])
        sums = np.all(np.abs(blocks.sum(-1) - self.shares) <= atol, axis=-1)
        within = np.all(self.mean(weights) <= self.cap + atol, axis=-1)
        return np.asarray(super().contains(weights, atol) & sums & within)

    def project(self, weights: np.ndarray) -> np.ndarray:
        """The rows of `weights` (..., P K), each phase scaled into its bounds, and all of them into
        the caps; a schedule of one mixture throughout stays one, where the phases' bounds let it.
        """
        w = np.asarray(weights, dtype=float).reshape(-1, len(self.shares), len(self.base))
        each = [phase.project(w[:, p]) for p, phase in enumerate(self.phases)]
        x = np.stack(each, axis=1) * self.shares[:, None]
        if self.coupled:
            over = np.any(x.sum(axis=1) > self.cap, axis=1)
            if over.any():
                x[over] = self._caps.meet(x[over])
        return x.reshape(np.shape(weights))

    def capped(self, upper: np.ndarray) -> PhasedSpace:
        """The space with `upper` (P K) in place of its own upper bounds."""
        other = copy.copy(self)
        limits = zip(self.blocks(self.lower), np.clip(self.blocks(upper), 0.0, 1.0), strict=True)
        each = ([self.base.mixture(bound) for bound in both] for both in limits)
        phases = [self._phase(self.base, p, lower=a, upper=b) for p, (a, b) in enumerate(each)]
        other._set(self.base, phases)
        return other

    # --- draws ---------------------------------------------------------------------------------

    def spread(
        self,
        draw: Callable[[np.random.Generator, int], np.ndarray],
        rng: np.random.Generator,
        n: int,
    ) -> np.ndarray:
        """n schedules (n, P K) of mixtures (n, K) that `draw` makes: every other one holds
        throughout, since that phases matter is not known; the others are drawn for each phase."""
        first = draw(rng, n)
        blocks = [np.where(np.arange(len(first))[:, None] % 2 == 0, first, other) for other in
                  (first, *(draw(rng, len(first)) for _ in self.shares[1:]))]  # fmt: skip
        return self.project(self.of_blocks(np.stack(blocks, axis=1)))

    def sample(self, rng: np.random.Generator, n: int, **concentration: Any) -> np.ndarray:
        """n schedules (n, P K) of mixtures drawn as `MixtureSpace.sample` does; see `spread`."""
        return self.spread(partial(self.base.sample, **concentration), rng, n)

    def sample_mixed(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n schedules (n, P K) of mixtures drawn as `MixtureSpace.sample_mixed` does."""
        return self.spread(self.base.sample_mixed, rng, n)
