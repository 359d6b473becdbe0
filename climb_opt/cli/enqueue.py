"""`climb-opt enqueue`: put mixtures of your own in line."""

from __future__ import annotations

import argparse

from climb_opt.cli.arguments import existing, stem, study_command


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `enqueue` to the command line."""
    command = study_command(
        subparsers, "enqueue", _enqueue, help="put mixtures of your own in line"
    )
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="YAML, domain: weight; - is stdin"
    )
    command.add_argument(
        "--prefix", default="", metavar="TEXT", help="cut from the names in the files, e.g. train_"
    )


def _enqueue(args: argparse.Namespace) -> None:
    from climb_opt.mixtures import read_mixture
    from climb_opt.study import enqueue
    from climb_opt.view import StudyView

    study = existing(args, write=True)
    space = StudyView(study).space
    mixtures = [(stem(file), read_mixture(file, args.prefix)) for file in args.files]
    for name, mixture in mixtures:  # all or none are put in line
        space.weights(mixture, what=f"Mixture {name!r}")
    for name, mixture in mixtures:
        print(f"In line: {enqueue(study, name, mixture)}")
