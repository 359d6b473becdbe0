"""What `confirm` and `transfer` share: retraining given mixtures in a study of their own."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from climb_opt.errors import Interrupted, UserError

if TYPE_CHECKING:
    import optuna


def arguments(command: argparse.ArgumentParser, kind: str) -> None:
    """Name the study of a `kind`; where corpus and runs are on this machine."""
    command.add_argument("--as", dest="own_name", metavar="NAME", help=f"name the {kind} study")
    command.add_argument("--corpus", help="where the corpus lies on this machine")
    command.add_argument("--runs", default="runs", help="folder of checkpoints and models")


def retrain(
    study: optuna.Study,
    args: argparse.Namespace,
    run: Callable[[Callable[[optuna.Trial], Any], Callable[[], bool]], Any],
) -> bool:
    """Train what `run(objective, stop)` asks for; whether this process is the one to speak.

    Trials get notes and artifacts, as those of a search do.

    Raises:
        Interrupted: the worker was asked to stop.
    """
    from climb_opt import study as studies
    from climb_opt.cli.annotating import notebook_for
    from climb_opt.cli.search import _rank, _stop_flag

    with _stop_flag() as stop:
        objective = studies.make_objective(
            study, corpus=args.corpus, directory=args.runs, stop=stop
        )
        try:
            if objective.is_main:
                run(notebook_for(study, args.runs).annotate(objective), stop)
            else:
                objective.serve()
        finally:
            objective.close()
        if _rank() > 0:
            return False
        if stop():
            raise Interrupted("stopped")
    return True


def opened(study: optuna.Study, name: str, mark: str) -> optuna.Study:
    """Ranks above 0: the study beside `study`, once rank 0 has created it and written `mark`.

    Raises:
        UserError: rank 0 has not within two minutes.
    """
    from climb_opt.cli.search import JOIN_WAIT
    from climb_opt.view import StudyView

    until = time.monotonic() + JOIN_WAIT
    while time.monotonic() < until:
        found = StudyView(study).sibling(name)
        if found is not None and mark in found.user_attrs:
            return found
        time.sleep(0.5)
    raise UserError(f"Rank 0 did not create study {name!r} within {JOIN_WAIT:.0f} s.")


def line(trial: optuna.trial.FrozenTrial, *, file: TextIO | None = None) -> None:
    """Print one line for a trial that ended, on standard output unless told otherwise."""
    from climb_opt.attributes import ERROR, INTERRUPTED, SLOT

    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    outcome = f"failed: {trial.user_attrs.get(ERROR)}"
    if trial.user_attrs.get(INTERRUPTED):
        outcome = "given back"
    if trial.values is not None:
        outcome = f"score {trial.values[0]:.6g}"
    print(f"{trial.user_attrs.get(SLOT)!s:<28}  {outcome}  {seconds:.1f} s", file=file, flush=True)
