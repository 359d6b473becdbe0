"""Rungs that a search which chooses them buys no more, in words: they do not rank as the target."""

from __future__ import annotations

from climb_opt.gp.beliefs import Beliefs
from climb_opt.gp.ladder import LadderProcess
from climb_opt.history import History
from climb_opt.samplers.rungs import TRUSTED, trusted
from climb_opt.simplex import MixtureSpace
from climb_opt.threads import one_blas_thread
from climb_opt.view import StudyView


@one_blas_thread()
def distrusted(view: StudyView, space: MixtureSpace, history: History) -> tuple[str, ...]:
    """A sentence for each rung that is given up; none where rounds say what is trained.

    Args:
        history: of every rung.
    """
    ladder = view.ladder
    if ladder is None or ladder.target == 0 or view.plan.rungs or history.values.ndim > 1:
        return ()
    problem = Beliefs(space).problem(history) if history.rungs is not None else None
    process = None if problem is None else problem.objectives[0]
    if problem is None or not isinstance(process, LadderProcess):
        return ()
    bought = trusted(problem, history)
    return tuple(
        f"{rung.name} is bought no more: what one of its scores says of the target, as a "
        f"correlation, is {process.says(number):.2f} of what a score of the target says, below "
        f"{TRUSTED:g}"
        for number, rung in enumerate(ladder.rungs)
        if number not in bought
    )
