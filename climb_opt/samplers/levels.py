"""Scores of every rung on the target's scale, for samplers and predictors that know of no rungs.

A stock sampler ranks trials by their values. Shown as it stands, a better score that a cheap rung
gives to every mixture would count as a better mixture. So each score below the target is shown as
the process of all rungs (gp/ladder.py) reads it: shifted and scaled to the target's, and drawn to
the mean by as much as the rung's own deviation and noise leave of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna

from climb_opt.gp.beliefs import view_of
from climb_opt.gp.ladder import Results
from climb_opt.gp.ladder_fit import LadderFits
from climb_opt.gp.outliers import tamed
from climb_opt.history import History
from climb_opt.samplers.copies import Memory
from climb_opt.simplex import MixtureSpace
from climb_opt.threads import one_blas_thread
from climb_opt.view import StudyView, read_history

FEWEST = 4  # results below which rungs differ by their means alone

Shown = dict[int, list[float]]  # number of a trial below the target -> values to show for its own
Known = tuple[int, LadderFits, Shown]  # results, what was fitted to them, and what follows
ONE_RUNG: Known = (0, LadderFits(), {})


class Scales:
    """What to show of the trials of a study below its target; fitted anew when one has ended."""

    def __init__(self, space: MixtureSpace) -> None:
        self._space = space
        self._known: Memory[Known] = Memory()  # by study

    def shown(self, study: optuna.Study) -> Shown:
        """Nothing for a study of one rung."""
        view = StudyView(study)
        with self._known.lock:
            known = self._known.of(view.storage)
            if view.number not in known and (view.ladder is None or view.ladder.target == 0):
                known[view.number] = ONE_RUNG  # and it stays so: a database is not asked again
            if known.get(view.number) is ONE_RUNG:
                return {}
            ended = sum(t.state.is_finished() for t in view.trials())
            count, fits, found = known.get(view.number, (-1, LadderFits(), {}))
            if count != ended:
                found = _shown(view, read_history(study, self._space, rungs=True), fits)
                known[view.number] = (ended, fits, found)
            return found


@one_blas_thread()
def on_one_scale(history: History) -> History:
    """The trials of every rung, as if all were of one: of one objective."""
    if history.rungs is None or not len(history):
        return history
    tame, fits = tamed(history), LadderFits()
    components, coefficients = tame.components, tame.coefficients
    if components is None or coefficients is None:
        return replace(tame, values=_level(tame, tame.values, fits), rungs=None)
    parts = np.stack([_level(tame, column, fits) for column in components.T], axis=1)
    return replace(tame, values=parts @ coefficients, components=parts, rungs=None)


# --- private -------------------------------------------------------------------------------------


@one_blas_thread()
def _shown(view: StudyView, history: History, fits: LadderFits) -> Shown:
    assert view.ladder is not None
    rungs, target = history.rungs, view.ladder.target
    if rungs is None or not len(history):
        return {}
    signs = np.array([-1.0 if up else 1.0 for up in view.maximize])
    tame = tamed(history)
    columns = [_level(tame, c, fits) for c in tame.values.reshape(len(history), -1).T]
    values = signs * np.stack(columns, axis=1)
    below = np.flatnonzero(rungs < target)
    return {history.trials[row].number: values[row].tolist() for row in below}


def _level(history: History, values: np.ndarray, fits: LadderFits) -> np.ndarray:
    """Values (n,) of its trials in the units of the target, or of the highest rung with results."""
    rungs = history.rungs
    assert rungs is not None
    if len(values) >= FEWEST and np.ptp(values) > 0:
        height, view = history.target + 1, view_of(history)
        process = fits.ladder(Results(np.sqrt(history.weights), values, rungs, height, view))
        moved, weight = process.aligned()
        return np.asarray(process.constant + weight * (moved - process.constant))
    means = {rung: float(values[rungs == rung].mean()) for rung in np.unique(rungs).tolist()}
    return values - np.array([means[rung] for rung in rungs.tolist()]) + means[max(means)]
