"""`climb-opt enqueue`: put mixtures of your own in line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from climb_opt.cli.arguments import existing, stem, study_command

if TYPE_CHECKING:
    from climb_opt.view import StudyView


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `enqueue` to the command line."""
    command = study_command(
        subparsers, "enqueue", _enqueue, help="put mixtures of your own in line"
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="YAML, domain: weight; - is stdin; or a .csv or "
        ".tsv, a column a domain and a row a mixture",
    )
    command.add_argument(
        "--prefix", default="", metavar="TEXT", help="cut from the names in the files, e.g. train_"
    )
    command.add_argument(
        "--rung", metavar="N", help="try them on this rung of the ladder, by number or name "
        "(default: the target)",
    )  # fmt: skip


def _enqueue(args: argparse.Namespace) -> None:
    from climb_opt.mixtures import read_mixtures
    from climb_opt.phases import point_of
    from climb_opt.study import enqueue
    from climb_opt.study.steering import rung_asked
    from climb_opt.view import StudyView

    view = StudyView(existing(args, write=True))
    rung_asked(view, args.rung)
    mixtures = [
        (f"{'stdin' if file == '-' else stem(file)}{row}", mixture)
        for file in args.files
        for row, mixture in read_mixtures(file, args.prefix)
    ]
    for name, mixture in mixtures:  # all or none are put in line
        point_of(view.space, mixture, f"Mixture {name!r}")
    for name, mixture in mixtures:
        slot = enqueue(view.study, name, mixture, rung=args.rung)
        print(f"In line: {slot}{_again(view, slot)}")


def _again(view: StudyView, slot: str) -> str:
    """A word on a mixture that the study has already, on the same rung."""
    from optuna.trial import TrialState

    from climb_opt.attributes import SLOT
    from climb_opt.study.seeds import alike

    new = next(t for t in view.trials() if t.user_attrs.get(SLOT) == slot)
    for trial in view.trials():
        if trial.number == new.number or trial.state == TrialState.FAIL:
            continue
        if alike(trial, new, view.space, view.plan.target):
            return f" (the mixture of trial {trial.number}: it trains with another seed)"
    return ""
