"""Rungs that a search which chooses them buys no more, in words: they do not rank as the target."""

from __future__ import annotations

from climb_opt.gp.beliefs import Beliefs
from climb_opt.history import History
from climb_opt.samplers.rungs import distrusted as reasons
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
    if problem is None:
        return ()
    return tuple(
        f"{ladder.rungs[number].name} is bought no more: {why}"
        for number, why in reasons(problem, history, ladder.shares).items()
    )
