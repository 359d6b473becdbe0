"""What a person sees of trials as they end: a line each, and how far all of them are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from climb_opt.cli.stopping import leads
from climb_opt.text import duration, score

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from climb_opt.plan import Plan
    from climb_opt.workers import Status


class Following:
    """A line for each trial that ended, and progress over the slots of a plan.

    Args:
        bar: of `climb_opt.progress`.
        most: slots that will be run at most, where that may be fewer than the plan has.
        file: where the lines go; None: standard output.
    """

    def __init__(
        self, study: optuna.Study, plan: Plan, bar: Any, *, most: int | None, file: TextIO | None
    ) -> None:
        self._study, self._plan, self._bar = study, plan, bar
        self._most, self._file = most, file

    def show(self, trial: FrozenTrial) -> None:
        """A trial of this process ended."""
        now = self._status()
        self.say(self._line(trial, now), self._file or sys.stdout)
        self._move(now)

    def say(self, text: str, file: TextIO) -> None:
        """Print a line; a bar stays below it."""
        self._bar.write(text, file=file)
        file.flush()

    def move(self, line: str) -> None:
        """A trial of another process ended."""
        self._move(self._status())

    def _status(self) -> Status:
        from climb_opt import workers as rounds

        return rounds.status(self._study, self._plan)

    def _move(self, now: Status) -> None:
        from climb_opt.cli.status import spending

        self._bar.n, self._bar.total = now.count, _size(now, self._most)
        words = [spending(now)] if now.rungs else []
        if now.budget is not None and now.seconds_left:
            words.append(f"about {duration(now.seconds_left)} left")
        if now.best is not None:
            words.append(f"best {score(now.best)}")
        if words:
            self._bar.set_postfix_str(", ".join(words), refresh=False)
        self._bar.refresh()

    def _line(self, trial: FrozenTrial, now: Status) -> str:
        from climb_opt.attributes import ERROR, INTERRUPTED, SLOT
        from climb_opt.history import is_moved, seconds_of
        from climb_opt.ladder.branches.slots import is_branch

        slot = trial.user_attrs.get(SLOT)
        if isinstance(slot, int):
            index = self._plan.round_of(slot) + 1
            place = f"round {index}  slot {slot}" if self._plan.rounds else f"slot {slot}"
        else:
            place = slot or "no slot"
        seconds = seconds_of(trial)
        head = f"trial {trial.number:>4}  {place:<20}"
        plan = self._plan
        if plan.ladder is not None and not is_branch(trial):
            head += f"  {plan.ladder.rungs[plan.ladder.rung_of(trial)].name}"
        # Optuna gives a pruned trial its last report as a value: not a score, but of a method's.
        if trial.values is not None and (trial.state.name != "PRUNED" or is_moved(trial)):
            scores = " / ".join(map(score, trial.values))
            searches = plan.rounds or plan.budget is not None
            best = f"  best {score(now.best)}" if searches and now.best is not None else ""
            return f"{head}  score {scores}{best}  {seconds:.1f} s"
        what = "trained" if is_branch(trial) else trial.state.name.lower()
        what = "failed" if trial.state.name == "FAIL" else what
        if trial.user_attrs.get(INTERRUPTED):
            what = "given back"
        elif trial.user_attrs.get(ERROR):
            what = f"failed: {trial.user_attrs[ERROR]}"
        return f"{head}  {what}  {seconds:.1f} s"


@contextmanager
def following(
    study: optuna.Study, plan: Plan, *, total: int | None = None, file: TextIO | None = None
) -> Iterator[Following]:
    """A `Following` while it is entered; workers of `--workers` leave the progress to their leader.

    Args:
        total: as `most` of a `Following`.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    from climb_opt import workers as rounds
    from climb_opt.progress import progress

    now = rounds.status(study, plan)
    size = _size(now, total)
    with (
        logging_redirect_tqdm(),
        progress(size, now.name, "trial", initial=now.count, show=leads()) as bar,
    ):
        yield Following(study, plan, bar, most=total, file=file)


def _size(now: Status, most: int | None) -> int | None:
    """Slots of the plan as it stands: rounds of a read-out that does not hold are left out."""
    if now.budget is not None:  # how many trials it pays for is the sampler's to say
        return None
    return now.size if most is None else min(most, now.size)
