"""What `confirm` and `transfer` share: retraining given mixtures in a study of their own."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from climb_opt.cli import crew
from climb_opt.cli.following import Following, following
from climb_opt.cli.stopping import JOIN_WAIT, Stop, leads, rank, stop_flag
from climb_opt.errors import Interrupted, UserError

if TYPE_CHECKING:
    import optuna

    from climb_opt.plan import Plan


def arguments(command: argparse.ArgumentParser, kind: str) -> None:
    """Name the study of a `kind`; where corpus and runs are on this machine."""
    command.add_argument("--as", dest="own_name", metavar="NAME", help=f"name the {kind} study")
    command.add_argument("--corpus", help="where the corpus lies on this machine")
    command.add_argument("--runs", default="runs", help="folder of checkpoints and models")
    crew.add_argument(command)


def joins(study: optuna.Study, name: str, mark: str) -> optuna.Study | None:
    """Those who do not create the study beside `study`: theirs, once it is there; else None.

    Raises:
        UserError: it was not created within two minutes.
    """
    return None if leads() else _opened(study, name, mark)


def retrain(
    study: optuna.Study,
    args: argparse.Namespace,
    plan: Plan,
    run: Callable[[Callable[[optuna.Trial], Any], Stop, Following], Any],
    *,
    count: int,
    total: int | None = None,
    file: TextIO | None = None,
) -> int | None:
    """Train what `run(objective, stop, follow)` asks for; the exit status, if this process speaks.

    Trials get notes and artifacts, as those of a search do.

    Args:
        plan: every slot that may be run.
        count: workers, of `crew.wanted`.
        total: how many of the slots are run at most.
        file: where the lines of trials go; None: standard output.

    Raises:
        Interrupted: the worker was asked to stop.
    """
    status = 0
    with stop_flag() as stop:
        with following(study, plan, total=total, file=file) as follow:
            if count > 1:
                status = crew.lead(args, count, plan.widest, stop=stop, follow=follow)
            else:
                _train(study, args, run, stop, follow)
        if rank() == 0 and stop():
            raise Interrupted("stopped")
    return status if leads() else None


def _train(
    study: optuna.Study, args: argparse.Namespace, run: Any, stop: Stop, follow: Following
) -> None:
    from climb_opt import study as studies
    from climb_opt.cli.annotating import notebook_for

    objective = studies.make_objective(study, corpus=args.corpus, directory=args.runs, stop=stop)
    try:
        if objective.is_main:
            run(notebook_for(study, args.runs).annotate(objective), stop, follow)
        else:
            objective.serve()
    finally:
        objective.close()


def _opened(study: optuna.Study, name: str, mark: str) -> optuna.Study:
    from climb_opt.view import StudyView

    until = time.monotonic() + JOIN_WAIT
    while time.monotonic() < until:
        found = StudyView(study).sibling(name)
        if found is not None and mark in found.user_attrs:
            return found
        time.sleep(0.5)
    raise UserError(f"Rank 0 did not create study {name!r} within {JOIN_WAIT:.0f} s.")
