"""From a study's history to what a Gaussian process believes about it.

One process per objective; with `components`, one per component of the score and then their sum; one
per guard-rail (`trial.set_constraint`). Runs that diverged count for less (`outliers.py`): with 6 %
of them in searches of 112, the worst of five regrets fell from .28 to .06
(docs/notes/searching.md#draws-under-noise); searches without them are as good as before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from climb_opt.attributes import RUNG
from climb_opt.errors import UserError
from climb_opt.gp.fit import EVERY, process_of
from climb_opt.gp.ladder import LadderProcess, Results
from climb_opt.gp.ladder_fit import LadderFits
from climb_opt.gp.mixed import WeightedSum
from climb_opt.gp.model import GaussianProcess, Surrogate
from climb_opt.gp.outliers import tamed
from climb_opt.gp.penalties import SEARCHING, Penalties
from climb_opt.gp.phased import PhaseView
from climb_opt.gp.proposal import Problem
from climb_opt.gp.tilted import Tilted, tilt
from climb_opt.gp.uneven import uneven_over
from climb_opt.history import MOST, History, distinct, say_whole
from climb_opt.phases import over_run
from climb_opt.simplex import MixtureSpace


class Beliefs:
    """Fits the processes of one study, and remembers them between asks.

    Args:
        components: model each stored component of the score and add them up, where every trial
            stores them. It costs one fit per component.
        gains: (K,) what each domain is known to gain the objective; of a single one, on one rung.
        penalties: of the hyper-parameters of every process.
    """

    def __init__(
        self,
        space: MixtureSpace,
        *,
        components: bool = False,
        gains: np.ndarray | None = None,
        penalties: Penalties = SEARCHING,
    ) -> None:
        self.space, self.components, self.gains = space, components, gains
        self._fits = LadderFits(penalties)

    def problem(
        self,
        history: History,
        pending: np.ndarray | None = None,
        pending_rungs: np.ndarray | None = None,
    ) -> Problem | None:
        """What is believed given `history`; None if it teaches nothing.

        Args:
            pending: mixtures (p, K) that are running.
        """
        history = tamed(distinct(history))
        values = history.values.reshape(len(history), -1)
        if len(history) < 2 or not np.any(np.ptp(values, axis=0) > 0):
            return None
        objectives = self._objectives(history, values)
        first, told, alone = objectives[0], 0.0, None
        if isinstance(first, LadderProcess):
            told = self._fits.told(first)
            alone = self._fits.alone(first, told)
        return Problem(
            space=self.space,
            objectives=objectives,
            evaluated=history.weights,
            constraints=self._constraints(history),
            pending=np.empty((0, len(self.space))) if pending is None else pending,
            rungs=history.rungs,
            pending_rungs=pending_rungs,
            told=told,
            alone=alone,
        )

    def promise(self, history: History, against: np.ndarray) -> Surrogate:
        """What to expect of the (first) objective; `problem` is what to propose with.

        Only for a history of which there is a `problem`.

        Args:
            against: mixtures (m, K) that others are compared with.
        """
        history = tamed(distinct(history), against=against)
        first = self._objectives(history, history.values.reshape(len(history), -1))[0]
        if isinstance(first, LadderProcess):
            return self._fits.alone(first, self._fits.told(first)) or first
        return first

    def _objectives(self, history: History, values: np.ndarray) -> list[Surrogate]:
        roots = np.sqrt(history.weights)
        parts, coefficients = history.components, history.coefficients
        if self.components and history.rungs is not None:
            raise UserError(
                "components: on a ladder the score is modelled as a whole; leave components out."
            )
        if self.components and parts is not None and coefficients is not None:
            used = np.flatnonzero(coefficients)
            view = view_of(history)
            each = [self._fits.process(roots, parts[:, c], view) for c in used]
            return [WeightedSum(each, coefficients[used])]
        if self.components:
            say_whole(history.trials)
        if self.gains is not None:
            if history.rungs is not None or len(values.T) > 1:
                raise UserError(
                    "influence: it tilts the model of one objective on one rung; leave it out with "
                    "a ladder or several objectives."
                )
            return [self._tilted(self.gains, roots, values[:, 0], history)]
        return [self._process(roots, column, history) for column in values.T]

    def _tilted(
        self, gains: np.ndarray, roots: np.ndarray, values: np.ndarray, history: History
    ) -> Surrogate:
        full = EVERY * (len(values) // EVERY) or len(values)  # as fits are: see `Fits`
        slope = tilt(gains, roots[:full], values[:full])
        rest = self._process(roots, values - roots**2 @ slope, history)
        return Tilted(rest, slope, float(np.std(values)))

    def _process(self, roots: np.ndarray, values: np.ndarray, history: History) -> Surrogate:
        if history.rungs is None:
            prior = over_run(self.space, self.space.prior)
            uneven = uneven_over(roots, prior, history.growth)
            return self._fits.process(roots, values, view_of(history), uneven)
        height, view = history.target + 1, view_of(history)
        return self._fits.ladder(Results(roots, values, history.rungs, height, view))

    def _constraints(self, history: History) -> list[Surrogate]:
        """One surrogate per guard-rail, each from the trials that report it; kept when <= 0."""
        found: list[Surrogate] = []
        for name in sorted({n for t in history.trials for n in t.constraints} - {RUNG}):
            rows = [i for i, t in enumerate(history.trials) if name in t.constraints]
            values = np.array([history.trials[i].constraints[name] for i in rows])
            values = np.clip(values, -MOST, MOST)
            # A guard-rail that was never met or approached says nothing about where it holds.
            if np.ptp(values) > 0:
                which = replace(history.rows(np.array(rows)), growth=0.0)  # which is the score's
                found.append(self._process(np.sqrt(which.weights), values, which))
        return found


def view_of(history: History) -> PhaseView | None:
    """How a process sees the schedules of a history; None where it has mixtures."""
    return PhaseView(history.shares) if history.shares else None


def surrogate_of(history: History) -> GaussianProcess | WeightedSum:
    """The posterior of the oriented score given every row of the history; it has at least one.

    Where trials store components there is one process per component, then their sum.
    """
    history = tamed(distinct(history))
    roots = np.sqrt(history.weights)
    view, parts, coefficients = view_of(history), history.components, history.coefficients
    if parts is None or coefficients is None or np.count_nonzero(coefficients) < 2:
        return process_of(roots, history.values, view)
    used = np.flatnonzero(coefficients)
    return WeightedSum([process_of(roots, parts[:, c], view) for c in used], coefficients[used])
