"""Which slot may start next: the plan of a search, as a pure function of its trials.

The *plan* is a list of rounds (64, 32, 16); a *slot* is a place in it, numbered 0, 1, ... through
the rounds. A trial is one attempt at a slot and carries it in the user attribute `climb/slot`; a
retry keeps the slot. Baselines have named slots ("baseline/uniform") that belong to round 1.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import BASELINE, INTERRUPTED, RETRY, SLOT
from climb_opt.errors import UserError
from climb_opt.ladder import Ladder
from climb_opt.ladder.branches.before import Before, State
from climb_opt.ladder.branches.slots import part_of
from climb_opt.ladder.branches.trust import Verdict
from climb_opt.ladder.recipe import rung_count
from climb_opt.phases import PhasedSpace
from climb_opt.recipes import StudyRecipe
from climb_opt.simplex import MixtureSpace
from climb_opt.written import whole_number

Slot = int | str


@dataclass(frozen=True)
class Step:
    """What a worker may do now: start `slot`, wait for others, or stop.

    `attempts` are the earlier, failed trials of the slot, oldest first.
    """

    kind: Literal["go", "wait", "done"]
    slot: Slot | None = None
    attempts: tuple[FrozenTrial, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The rounds of a search and the rules for walking through them.

    Args:
        rounds: trials per round, for example (64, 32, 16); empty for named slots only.
        named: names of extra slots (baselines), run with the first round.
        max_attempts: a slot whose attempts failed this often is given up; a trial that was
            interrupted on request does not count.
        barrier: a round starts only when the earlier ones are finished.
        verify: slots of the last round, where they measure what the search would recommend: that
            round waits for the earlier ones whatever `barrier` says.
        rungs: the rung of each round's trials; empty: the target's, or what a sampler chooses.
        ladder: the rungs; None: there is one.
        budget: FLOPs of all trials together, in place of rounds: fresh slots are handed out as
            long as a trial of the target is paid for, so that the last one can see what was found.
        before: what is trained and checked before the rounds: a trunk, its branches.
        open: nobody planned anything: there are only trials, without slots.
    """

    rounds: tuple[int, ...]
    named: tuple[str, ...] = ()
    max_attempts: int = 3
    barrier: bool = True
    verify: int = 0
    rungs: tuple[int, ...] = ()
    ladder: Ladder | None = None
    budget: float | None = None
    before: Before = field(default_factory=Before)
    open: bool = False

    def __post_init__(self) -> None:
        rounds = self.rounds if isinstance(self.rounds, (tuple, list)) else None
        other = self.named or self.before.stages or self.budget is not None or self.open
        empty = rounds is None or not (rounds or other)
        if empty or any(not hasattr(m, "__index__") or m is True or m < 1 for m in rounds or ()):
            raise UserError(
                "rounds must be a list of positive whole numbers, for example [64, 32, 16], but "
                f"is {self.rounds!r}."
            )
        object.__setattr__(self, "rounds", tuple(map(int, rounds)))
        object.__setattr__(self, "max_attempts", whole_number(self.max_attempts, "max_attempts"))

    @property
    def target(self) -> int:
        """The rung at which mixtures are judged."""
        return 0 if self.ladder is None else self.ladder.target

    def rung_of(self, slot: Slot) -> int | None:
        """The rung of a slot's trials; None where the sampler chooses it."""
        readout = self.before.rung_of(slot)
        if readout is not None:
            return readout
        if self.target == 0 or not isinstance(slot, int):
            return self.target
        return self.rungs[self.round_of(slot)] if self.rungs else None

    def left(self, trials: Iterable[FrozenTrial]) -> float:
        """FLOPs of the budget for fresh slots, neither taken nor kept for slots to be tried again
        and named ones still to run; infinite without a budget."""
        if self.budget is None or self.ladder is None:
            return math.inf
        trials, kept = list(trials), dict[Slot, int](dict.fromkeys(self.named, self.target))
        attempts = attempts_by_slot(trials)
        kept |= {s: self.ladder.rung_of(t[-1]) for s, t in attempts.items() if part_of(s) is None}
        due = [s for s in kept if self.state(attempts.get(s, ())) == "idle"]
        owed = sum(self.ladder.price(slot, kept[slot]) for slot in due)
        return self.budget - self.ladder.taken(trials) - owed

    @property
    def size(self) -> int:
        """Slots of the rounds, baselines not counted."""
        return sum(self.rounds)

    @property
    def widest(self) -> int:
        """Slots of the largest round, or what a budget buys at most: what can be done at once."""
        if self.budget is not None and self.ladder is not None:
            return max(1, len(self.named), int(self.budget / self.ladder.costs[0]))
        return max(len(self.slots(index)) for index in range(max(1, len(self.rounds))))

    def round_of(self, slot: Slot) -> int:
        """The round of a slot, from 0. Named ones belong to round 0; past the plan: len(rounds)."""
        place = -1 if isinstance(slot, str) else slot
        return sum(end <= place for end in accumulate(self.rounds))

    def verifies(self, slot: Slot | None) -> bool:
        """Whether a slot measures what the search would recommend, or a rival of that."""
        return isinstance(slot, int) and self.size - self.verify <= slot < self.size

    def may_prune(self, slot: Slot | None, *, first_round: bool) -> bool:
        """Whether a trial of this slot may be given up by a pruner.

        Outside the rounds nothing is: baselines and confirmations must be comparable, as must what
        is verified. Round 1 is what the predictor learns from, and is spared unless `first_round`.
        """
        if not isinstance(slot, int) or self.verifies(slot):
            return False
        return first_round or self.round_of(slot) > 0

    def start_of(self, index: int) -> int:
        """The first slot of round `index`."""
        return sum(self.rounds[:index])

    def slots(self, index: int) -> tuple[Slot, ...]:
        """All slots of round `index`; the named ones come first in round 0."""
        start = self.start_of(index)
        numbered = tuple(range(start, start + sum(self.rounds[index : index + 1])))
        return (*self.named, *numbered) if index == 0 else numbered

    def planned(self, trials: Iterable[FrozenTrial]) -> tuple[tuple[Slot, ...], ...]:
        """The slots of each round, none of one left out; with a budget, one of those begun."""
        if self.budget is None:
            lost, numbers = self.distrusted(trials), range(max(1, len(self.rounds)))
            return tuple(() if {*self.rungs[i : i + 1]} & lost else self.slots(i) for i in numbers)
        begun = sorted(slot for slot in attempts_by_slot(trials) if isinstance(slot, int))
        return ((*self.named, *begun),)

    def next(self, trials: Iterable[FrozenTrial]) -> Step:
        """The idle slot with the fewest failures, the lowest of those; what to do without one.

        A slot is finished by a COMPLETE or PRUNED trial, busy while one is RUNNING or WAITING, and
        given up after `max_attempts` failures; given-up slots block nothing. Retries come last in
        their round, so that a worker on a broken machine cannot use up a slot's attempts alone.
        """
        trials = list(trials)
        attempts = attempts_by_slot(trials)
        for stage in self.before.due(self._states(attempts)):
            step = self._within(stage, attempts)
            if step.kind != "done":
                return step
        if self.budget is not None:
            return self._next_bought(trials, attempts)
        waiting = False
        for index, slots in enumerate(self.planned(trials)):
            step = self._within(slots, attempts)
            if step.kind == "go":
                return step
            waiting = waiting or step.kind == "wait"
            if waiting and (self.barrier or (self.verify and index + 2 == len(self.rounds))):
                return Step("wait")
        return Step("wait" if waiting else "done")

    def _within(self, slots: Iterable[Slot], attempts: Mapping[Slot, list[FrozenTrial]]) -> Step:
        """The next of some slots to be started at will."""
        tried = {slot: tuple(attempts.get(slot, ())) for slot in slots}
        states = {slot: self.state(trials_of) for slot, trials_of in tried.items()}
        idle = [slot for slot, state in states.items() if state == "idle"]
        if idle:
            slot = min(idle, key=lambda s: len(failures(tried[s])))
            return Step("go", slot, tried[slot])
        return Step("wait" if "busy" in states.values() else "done")

    def verdicts(self, trials: Iterable[FrozenTrial]) -> tuple[Verdict, ...]:
        """What the checks of each read-out say, once all that they need has run."""
        trials = list(trials)
        return self.before.verdicts(self._states(attempts_by_slot(trials)), trials)

    def prepared(self, trials: Iterable[FrozenTrial]) -> tuple[str, ...]:
        """The slots before the rounds."""
        due = self.before.due(self._states(attempts_by_slot(trials)))
        return tuple(slot for stage in due for slot in stage)

    def distrusted(self, trials: Iterable[FrozenTrial]) -> set[int]:
        """The rungs that score no mixture here: read-outs that do not rank as training does."""
        return {v.agreement.lower for v in self.verdicts(trials) if not v.holds}

    def ended(self, slots: Iterable[Slot], trials: Iterable[FrozenTrial]) -> bool:
        """Whether none of these slots is left to run."""
        return {*map(self._states(attempts_by_slot(trials)), slots)} <= {"finished", "given up"}

    def _states(self, attempts: Mapping[Slot, list[FrozenTrial]]) -> Callable[[Slot], State]:
        return lambda slot: self.state(attempts.get(slot, ()))

    def _next_bought(
        self, trials: Sequence[FrozenTrial], attempts: Mapping[Slot, list[FrozenTrial]]
    ) -> Step:
        """Named slots, fresh ones while the budget pays for the target, then retries."""
        begun = sorted(slot for slot in attempts if isinstance(slot, int))
        fresh = begun[-1] + 1 if begun else 0
        assert self.ladder is not None
        paid = self.left(trials) >= self.ladder.costs[-1] * (1 - 1e-9)
        return self._within([*self.named, *begun, *([fresh] if paid else [])], attempts)

    def state(self, attempts: Sequence[FrozenTrial]) -> State:
        """What has become of a slot with these attempts."""
        states = {trial.state for trial in attempts}
        if states & {TrialState.COMPLETE, TrialState.PRUNED}:
            return "finished"
        if states & {TrialState.RUNNING, TrialState.WAITING}:
            return "busy"
        return "given up" if len(failures(attempts)) >= self.max_attempts else "idle"


def failures(attempts: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The failures of a slot since it was last retried on request; interruptions are none."""
    counted: list[FrozenTrial] = []
    for trial in attempts:
        counted = [] if trial.user_attrs.get(RETRY) else counted
        if trial.state == TrialState.FAIL and not trial.user_attrs.get(INTERRUPTED):
            counted.append(trial)
    return counted


def attempts_by_slot(trials: Iterable[FrozenTrial]) -> dict[Slot, list[FrozenTrial]]:
    """Trials of each slot, oldest first; trials without a slot are outside the plan."""
    attempts: dict[Slot, list[FrozenTrial]] = defaultdict(list)
    for trial in sorted(trials, key=lambda t: t.number):
        slot = trial.user_attrs.get(SLOT)
        if slot is not None:
            attempts[slot].append(trial)
    return dict(attempts)


def plan_of(
    recipe: StudyRecipe, ladder: Ladder | None = None, tokens: Mapping[str, float] | None = None
) -> Plan:
    """The slots of a search: its rounds, or a budget, and a named slot for each baseline.

    What the last slots verify is a round of its own. Where mixtures are read off branches, the
    baselines check how far that holds, before the rounds.

    Args:
        ladder: the study's rungs, if it has several.
        tokens: of each domain of the corpus; needed where the recipe has branches.
    """
    named = tuple(BASELINE + name for name in recipe.named)
    rounds, rungs = recipe.rounds, recipe.rungs
    if recipe.verify:
        rounds = (*recipe.searched, recipe.verify)
        target = rung_count(recipe) - 1
        rungs = (*rungs[: len(recipe.searched)], target) if rungs else ()
    before = Before.of(recipe, tokens or {}, named)
    return Plan(
        rounds,
        () if before.readouts else named,
        recipe.max_attempts,
        recipe.barrier,
        recipe.verify,
        rungs=rungs,
        ladder=ladder,
        budget=None if recipe.budget is None else recipe.budget.flops,
        before=before,
    )


def space_for(tokens: Mapping[str, float], recipe: StudyRecipe | None) -> MixtureSpace:
    """The mixtures of a corpus within a recipe's bounds, or its schedules."""
    if recipe is None:
        return MixtureSpace(dict(tokens))
    limits = {"max_epochs": recipe.space.max_epochs, "trial_tokens": recipe.proxy.tokens}
    if not recipe.phases:
        return MixtureSpace(tokens, lower=recipe.space.lower, upper=recipe.space.upper, **limits)
    bounds = [recipe.space.of_phase(p, list(tokens)) for p in range(len(recipe.phases))]
    return PhasedSpace(tokens, recipe.phases, bounds=bounds, **limits)
