"""One study at one moment, as plain data: what every figure, table and note is made from.

Works on any study whose trials hold mixtures, whether climb_opt's workers ran it or a plain
`study.optimize` did; what a study does not say (a recipe, rounds, a prior) is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import BASELINE, INTERRUPTED, SLOT
from climb_opt.history import History
from climb_opt.metrics import unit_of
from climb_opt.phases import PhasedSpace, one_phase, over_run
from climb_opt.plan import attempts_by_slot
from climb_opt.selection.reached import highest_rung, judged
from climb_opt.text import flops, score
from climb_opt.view import StudyView


class Snapshot(StudyView):
    """A study's trials and what it says about itself; of what was read once all stays as it was.

    The finished trials that carry a mixture are in histories, oldest first, values oriented so that
    lower is better; `measured` gives those of `judged` as the study states them.
    """

    @cached_property
    def taken(self) -> list[FrozenTrial]:
        """Every trial, as it stood at the first look."""
        return self.trials()

    @cached_property
    def judged(self) -> History:
        """What mixtures are judged by: where the study has rungs the trials of the target, or where
        none has finished there of the highest that was `reached`."""
        return judged(self, self.space)

    @cached_property
    def tried(self) -> History:
        """Those of every rung."""
        return self.judged if self.ladder is None else self.history(rungs=True)

    @cached_property
    def reached(self) -> str:
        """The name of the rung of `judged`; empty where there is but one."""
        return highest_rung(self, self.judged)

    @cached_property
    def measured(self) -> np.ndarray:
        """Values (n,) or (n, objectives) of the history, as the study states them."""
        return self.judged.values * np.where(self.maximize, -1.0, 1.0)

    @property
    def below(self) -> bool:
        """Whether no trial of the target has finished."""
        return self.ladder is not None and self.reached not in ("", self.ladder.rungs[-1].name)

    @cached_property
    def rounds(self) -> np.ndarray:
        """The round of each row of the history, from 0; -1 outside the plan and for baselines."""
        return self._rounds(self.judged)

    def _rounds(self, history: History) -> np.ndarray:
        slots = [t.user_attrs.get(SLOT) for t in history.trials]
        other = {None: 0} if self.plan.open else {}  # there all that nobody put in line is searched
        index = [self.plan.round_of(s) if isinstance(s, int) else other.get(s, -1) for s in slots]
        return np.array(index, dtype=int)

    @property
    def unit(self) -> str:
        """What the score measures: "bits per byte" when every component says so, else "score"."""
        return unit_of(() if self.recipe is None else self.recipe.coefficients())

    @property
    def direction(self) -> str:
        """In words: "lower is better"."""
        return "lower is better" if self.sign > 0 else "higher is better"

    def weights(self, mixture: Mapping[str, float]) -> np.ndarray:
        """The mixture, or schedule, as a point of the space (K,)."""
        if isinstance(self.space, PhasedSpace):
            return self.space.weights(mixture)
        return np.array([mixture.get(d, 0.0) for d in self.space.domains])

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of a mixture; of a schedule those of each phase."""
        return one_phase(self.space).domains

    @property
    def prior(self) -> np.ndarray:
        """The prior (K,), as a mixture."""
        return one_phase(self.space).prior

    def over_run(self, weights: np.ndarray) -> np.ndarray:
        """The mixture (..., K) that a run on points of the space reads as a whole."""
        return over_run(self.space, weights)

    def baselines(self) -> dict[str, list[int]]:
        """Baseline -> its rows of the history."""
        rows: dict[str, list[int]] = {}
        for row, trial in enumerate(self.judged.trials):
            slot = trial.user_attrs.get(SLOT)
            if isinstance(slot, str) and slot.startswith(BASELINE):
                rows.setdefault(slot.removeprefix(BASELINE), []).append(row)
        return rows

    def baseline_scores(self) -> dict[str, float]:
        """Baseline -> its mean measured score; those of methods last."""
        fixed = {n: float(np.mean(self.measured[rows])) for n, rows in self.baselines().items()}
        return fixed | {m.name: self.sign * m.value for m in self.judged.methods}

    def told_of_methods(self) -> list[str]:
        """A sentence on each baseline of which a method set the weights."""
        return [
            f"{m.name} scored {score(self.sign * m.value)} with weights that a method set while "
            f"trial {m.trial.number} trained: the score of no mixture, of which nothing is learnt"
            for m in self.judged.methods
        ]

    def searched(self) -> np.ndarray:
        """Rows of the history that are no baselines', in the order they finished."""
        outside = [row for rows in self.baselines().values() for row in rows]
        return np.setdiff1d(np.arange(len(self.judged)), outside)

    def round_history(self, index: int) -> History:
        """The finished trials of round `index`, on whatever rung it is."""
        return self.tried.rows(self._rounds(self.tried) == index)

    def round_scores(self, index: int) -> History:
        """Those of them whose scores compare: of the round's own rung, or where a sampler chose
        among several, of the history's."""
        chosen = self.ladder is not None and not self.plan.rungs
        return self.judged.rows(self.rounds == index) if chosen else self.round_history(index)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where `rows` of the history stand in a figure of the search: 1, 2, ...; with a ladder by
        the FLOPs that were spent until then, on every rung, in trials of the target."""
        if self.ladder is None:
            return np.arange(1.0, len(rows) + 1)
        spent = np.cumsum([self.ladder.spent([t]) for t in self.taken])
        numbers = [self.judged.trials[row].number for row in rows]
        place = {t.number: k for k, t in enumerate(self.taken)}
        return np.array([spent[place[n]] for n in numbers]) / self.ladder.costs[-1]

    @property
    def along(self) -> str:
        """What `places` count."""
        if self.ladder is None:
            return "trials finished"
        return f"FLOPs spent, in trials of the target ({flops(self.ladder.costs[-1])})"

    def counts(self) -> dict[str, int]:
        """Slots of the plan by what has become of them: finished, busy, idle, given up."""
        attempts = attempts_by_slot(self.taken)
        slots = [slot for slots in self.plan.planned(self.taken) for slot in slots]
        return dict(Counter(self.plan.state(attempts.get(s, ())) for s in slots))

    @property
    def planned(self) -> bool:
        """Whether there is a number of slots: neither a budget instead, nor trials alone."""
        return self.plan.budget is None and not self.plan.open

    def failures(self) -> list[FrozenTrial]:
        """Failed trials, oldest first; not those that a worker gave back on request."""
        failed = [t for t in self.taken if t.state == TrialState.FAIL]
        return [t for t in failed if not t.user_attrs.get(INTERRUPTED)]

    def best_row(self) -> int | None:
        """The row with the best measured score; None without one or with several objectives."""
        if not len(self.judged) or len(self.maximize) > 1:
            return None
        return int(np.argmin(self.judged.values))


def take(study: optuna.Study) -> Snapshot:
    """The study as it stands.

    Raises:
        UserError: no trial of the study holds a mixture, so there is nothing to show.
    """
    snapshot = Snapshot(study)
    _ = snapshot.taken, snapshot.tried  # read now, and not again
    return snapshot
