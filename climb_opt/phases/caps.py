"""Caps on a domain's tokens over all phases of a run: met by scaling.

Notation: P phases of shares `s` (P,), K domains; x (n, P, K) what of a run's tokens each phase
reads of each domain, so that sum_k x_pk = s_p; a cap says sum_p x_pk <= cap_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from climb_opt.bounds import SUM_TOLERANCE, scale_into
from climb_opt.errors import UserError
from climb_opt.simplex import MixtureSpace

ROUNDS = 40  # of scaling phases and domains in turn, before what is left over is cut off
SAME = 1e-9  # of weights: phases that differ by less are one mixture throughout
CLOSE = 1e-7  # relative; what a round leaves over is cut
WIDEN = "Widen the bounds, raise max_epochs or train on fewer tokens."


class Caps:
    """What the caps leave of the phases' own spaces.

    Args:
        base: the space of mean mixtures; its upper bounds are the caps.
        phases: the space of each phase, its own bounds alone.

    Raises:
        UserError: no schedule meets bounds and caps; it names the phase, where one is to blame.
    """

    def __init__(
        self, base: MixtureSpace, shares: np.ndarray, phases: Sequence[MixtureSpace]
    ) -> None:
        self.base, self.cap, self.shares, self.phases = base, base.upper, shares, phases
        self.lower = np.stack([s * phase.lower for s, phase in zip(shares, phases, strict=True)])
        self.upper = np.stack([s * phase.upper for s, phase in zip(shares, phases, strict=True)])
        self._check()
        lower, upper = self.lower.sum(axis=0), np.minimum(self.cap, self.upper.sum(axis=0))
        self._means = MixtureSpace(
            zip(base.domains, base.prior, strict=True),
            lower=base.mixture(np.minimum(lower, upper)),
            upper=base.mixture(np.minimum(upper, 1.0)),
        )

    def meet(self, x: np.ndarray) -> np.ndarray:
        """Schedules (n, P, K) within their phases' bounds, scaled into the caps as well.

        Phases and domains are scaled in turn, which keeps proportions and a mixture that holds
        throughout; what is over then is cut, the last phase's least.
        """
        total = x.sum(axis=1)
        stuck = np.where(total > 1e-20, self.cap, 0.0).sum(axis=1) <= 1.0
        steady = np.ptp(x / self.shares[:, None], axis=1).max(axis=1) < SAME
        x, whole = x.copy(), stuck | steady
        x[whole] = self._as_a_mixture(x[whole])
        if any(phase.bounded for phase in self.phases):
            x = self._in_turn(x)
        else:
            x = scaled(x, self.shares, self.cap)[0]
        x = self._cut(x)
        fine = np.all(np.abs(x.sum(axis=2) - self.shares) <= SUM_TOLERANCE / 10, axis=1)
        x[~fine] = self._roomiest  # bounds of phases that leave next to no choice
        return x

    # --- private -----------------------------------------------------------------------------

    def _as_a_mixture(self, x: np.ndarray) -> np.ndarray:
        """As the mean mixture is scaled, domains it lacks among them where the others cannot fill
        a run."""
        mean = x.sum(axis=1)
        wanted = self._means.project(mean)
        ratio = np.divide(wanted, mean, out=np.zeros_like(mean), where=mean > 0)
        opened = np.where(mean > 0, 0.0, wanted)
        return self._into_phases(x * ratio[:, None] + opened[:, None] * self.shares[:, None])

    def _in_turn(self, x: np.ndarray) -> np.ndarray:
        for _ in range(ROUNDS):
            total = x.sum(axis=1)
            over = np.any(total > self.cap * (1 + CLOSE), axis=1)
            if not over.any():
                break
            fits = np.divide(self.cap, total, out=np.ones_like(total), where=total > self.cap)
            x[over] = self._into_phases(x[over] * fits[over, None])
        return x

    def _into_phases(self, x: np.ndarray) -> np.ndarray:
        each = [phase.project(x[:, p]) for p, phase in enumerate(self.phases)]
        return np.stack(each, axis=1) * self.shares[:, None]

    def _cut(self, x: np.ndarray) -> np.ndarray:
        over = np.any(x.sum(axis=1) > self.cap, axis=1)
        found = x.copy()
        left = np.broadcast_to(self.cap, (int(over.sum()), len(self.cap)))
        for p in reversed(range(len(self.shares))):
            share, lower, upper = self.shares[p], self.lower[p], self.upper[p]
            room = np.clip(left - self.lower[:p].sum(axis=0), lower, upper)
            limits = lower / share, room / share
            fits = share * scale_into(x[over, p] / share, *limits, self.base.prior)
            found[over, p] = fits
            left = np.maximum(left - fits, 0.0)
        return found

    def _check(self) -> None:
        for place, (share, upper) in enumerate(zip(self.shares, self.upper, strict=True)):
            most = float(np.minimum(upper, self.cap).sum() / share)
            if most < 1 - SUM_TOLERANCE:
                raise UserError(
                    f"Phase {place + 1} of {len(self.shares)}: within its bounds and max_epochs "
                    f"the domains fill {most:.6g} of its tokens (at least 1). {WIDEN}"
                )
        if any(phase.bounded for phase in self.phases):
            self._roomiest  # noqa: B018  raises where nothing meets all of them

    @cached_property
    def _roomiest(self) -> np.ndarray:
        """The schedule (P, K) that keeps most room below the caps, in parts of them."""
        from scipy.optimize import linprog  # 50 ms, for spaces that need it

        count, k = self.lower.shape
        totals = np.hstack([*[np.eye(k)] * count, self.cap[:, None]])
        sums = np.hstack([np.kron(np.eye(count), np.ones(k)), np.zeros((count, 1))])
        limits = [*zip(self.lower.ravel(), self.upper.ravel(), strict=True), (0.0, 1.0)]
        room = np.eye(count * k + 1)[-1]
        found = linprog(-room, totals, self.cap, sums, self.shares, bounds=limits)
        if found.status != 0:
            raise UserError(
                "No schedule meets the bounds of all phases within max_epochs, though each phase "
                f"by itself could. {WIDEN}"
            )
        best = np.clip(found.x[:-1].reshape(count, k), self.lower, self.upper)
        return np.asarray(best)


def scaled(x: np.ndarray, shares: np.ndarray, cap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x (n, P, K) -> a_p b_k x_pk with the sums of phases and, nearly, the caps; and b (n, K) <= 1,
    below 1 where a cap stops a domain. Such factors change proportions least."""
    found, b = x.copy(), np.ones((len(x), x.shape[2]))
    active = np.arange(len(x))
    for _ in range(ROUNDS):
        total = found[active].sum(axis=1)
        fits = np.divide(cap, total, out=np.full_like(total, np.inf), where=total > 0)
        new = np.minimum(1.0, b[active] * fits)
        moving = np.any(np.abs(new - b[active]) > CLOSE * b[active], axis=1)
        active, new = active[moving], new[moving]
        if not len(active):
            break
        b[active] = new
        part = x[active] * new[:, None]
        found[active] = part * (shares / part.sum(axis=2))[:, :, None]
    return found, b
