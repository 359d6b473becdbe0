"""What a search trains and checks before its rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial

from climb_opt.ladder.branches.groups import branches_of
from climb_opt.ladder.branches.recipe import branch_tokens
from climb_opt.ladder.branches.slots import (
    OPTIMUM,
    TRUNK,
    Stage,
    checking,
    needs_branches,
    part_of,
    reading,
    readout_of,
    stages_of,
)
from climb_opt.ladder.branches.trust import Verdict, verdict_on
from climb_opt.ladder.recipe import rung_count
from climb_opt.study_recipe import MIXMIN

State = Literal["finished", "busy", "idle", "given up"]  # of a slot


@dataclass(frozen=True)
class Before:
    """Named slots in stages, each of which waits for the one before it.

    readouts: the lowest rungs; target: the highest; checks: slots whose mixtures are trained on the
    target and read off, too; notes: sentences on domains that share a branch.
    """

    stages: tuple[Stage, ...] = ()
    readouts: tuple[str, ...] = ()
    checks: Stage = ()
    target: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, recipe: Any, tokens: Mapping[str, float], baselines: Stage) -> Before:
        """Of a `StudyRecipe` on a corpus of these tokens a domain."""
        branching = recipe.branches
        if branching is None or not tokens:
            return cls()
        if not branching.read:
            return cls(((TRUNK,),) if branching.share else ())
        branches = branches_of(branching, tokens, branch_tokens(branching, recipe.proxy))
        optimum = (OPTIMUM,) if MIXMIN in branching.read else ()
        checks = (*baselines, *optimum, *checking(branching.check)) if recipe.readouts else optimum
        stages = stages_of(branches.names, checks, recipe.readouts)
        return cls(tuple(stages), recipe.readouts, checks, rung_count(recipe) - 1, branches.notes)

    def rung_of(self, slot: int | str) -> int | None:
        """The rung of a slot that a read-out scores."""
        readout = readout_of(slot)
        return None if readout is None else self.readouts.index(readout)

    def read_too(self) -> list[tuple[str, str]]:
        """Each slot of a check with those in which read-outs score its mixture."""
        return [(slot, reading(name, slot)) for name in self.readouts for slot in self.checks]

    def due(self, state: Callable[[int | str], State]) -> list[Stage]:
        """The stages that are to be walked through; without all branches nothing is read off and
        checked, and baselines are trained alone."""
        idle = needs_branches if self._lost(state) else self._follows_no_optimum(state)
        return [tuple(slot for slot in stage if not idle(slot)) for stage in self.stages]

    def verdicts(
        self, state: Callable[[int | str], State], trials: Iterable[FrozenTrial]
    ) -> tuple[Verdict, ...]:
        """What the checks say of each read-out; nothing while a slot of them is open."""
        if not self.readouts or any(
            state(slot) in ("idle", "busy") for stage in self.due(state) for slot in stage
        ):
            return ()
        trials, lost = list(trials), self._lost(state)
        return tuple(
            verdict_on(readout, (number, self.target), self.checks, lost, trials)
            for number, readout in enumerate(self.readouts)
        )

    def _follows_no_optimum(self, state: Callable[[int | str], State]) -> Callable[..., bool]:
        """Of a slot, whether it would train or read an optimum that could not be found."""
        lost = OPTIMUM in self.checks and state(MIXMIN) == "given up"
        return lambda slot: lost and str(slot).endswith(OPTIMUM)

    def _lost(self, state: Callable[[int | str], State]) -> list[str]:
        """A trunk or branches that were given up."""
        slots = [slot for stage in self.stages for slot in stage if slot != MIXMIN]
        return [slot for slot in slots if part_of(slot) is not None and state(slot) == "given up"]
