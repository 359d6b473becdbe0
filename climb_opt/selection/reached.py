"""What a search is judged by where it has rungs: its target, or the highest rung it reached."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from optuna.trial import TrialState
from scipy.special import stdtrit

from climb_opt.attributes import REPEATED
from climb_opt.history import History
from climb_opt.selection.recommendation import LEVEL, WIDTH, shared_seed
from climb_opt.simplex import MixtureSpace
from climb_opt.text import counted
from climb_opt.view import StudyView, read_history

WEIGHT = re.compile(r"w\d*/")  # begins the name of a weight, in a phase or throughout


def judged(view: StudyView, space: MixtureSpace) -> History:
    """The usable trials that mixtures are judged by: of the target; where none has finished there,
    of the highest rung that was reached, with their `rungs`."""
    history = read_history(view.study, space)
    if len(history) or view.ladder is None:
        return history
    every = read_history(view.study, space, rungs=True)
    if every.rungs is None or not len(every):
        return history
    return every.rows(every.rungs == every.rungs.max())


def learnt_from(view: StudyView, space: MixtureSpace, history: History) -> History:
    """What is learnt from where mixtures are judged by `history`: the trials of every rung, or what
    there is; and what runs beside the study found of its noise.

    A sampler is not told of it: it proposes no better for it
    (docs/notes/searching.md#noise-that-differs-between-mixtures).
    """
    if view.ladder is None or len(view.ladder) < 2:
        return _with_noise(history, view)
    return _with_noise(read_history(view.study, space, rungs=True), view)


def _with_noise(history: History, view: StudyView) -> History:
    found = view.attributes.get(REPEATED)
    if found is None:
        return history
    wider = float(stdtrit(found["freedom"], (1 + LEVEL) / 2)) / WIDTH  # so few runs may be lucky
    shared = 0.0 if shared_seed(history) is None else wider * found["std"]
    return replace(history, growth=found["growth"], other_seeds=shared)


def highest_rung(view: StudyView, history: History) -> str:
    """The name of the highest rung in a history; empty where the study has but one."""
    ladder = view.ladder
    if ladder is None or len(ladder) < 2:
        return ""
    return ladder.rungs[ladder.target if history.rungs is None else int(history.rungs.max())].name


def left_out(view: StudyView, space: MixtureSpace) -> list[str]:
    """Words on finished trials that hold weights, and cannot be learnt from."""
    finished = [t for t in view.trials() if t.state == TrialState.COMPLETE]
    weighed = [t for t in finished if any(WEIGHT.match(name) for name in t.params)]
    other = [t.number for t in weighed if space.weights_of(t) is None]
    endless = [t.number for t in weighed if not np.all(np.isfinite(t.values))]
    why = {
        "weights are of other domains or do not sum to 1, as those": other,
        "score is infinite, as that": [number for number in endless if number not in other],
    }
    return [
        f"{counted(len(lost), 'finished trial')} left out, whose {reason} of trial {lost[0]}"
        for reason, lost in why.items()
        if lost
    ]


def unreached(view: StudyView, history: History) -> str:
    """What a recommendation rests on where no trial of the target has finished; else empty."""
    rung, ladder = highest_rung(view, history), view.ladder
    if ladder is None or rung in ("", ladder.rungs[-1].name):
        return ""
    return (
        f"no trial of the target {ladder.rungs[-1].name} has finished: this rests on "
        f"{counted(len(history), 'trial')} at {rung}, which may rank mixtures otherwise"
    )
