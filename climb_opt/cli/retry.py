"""`climb-opt retry`: try again what was given up."""

from __future__ import annotations

import argparse

from climb_opt.cli.arguments import existing, study_arguments


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `retry` to the command line."""
    command = subparsers.add_parser("retry", help="try again what was given up")
    study_arguments(command)
    command.add_argument("slots", nargs="*", help="slots; all that were given up by default")
    command.set_defaults(run=_retry)


def _retry(args: argparse.Namespace) -> None:
    from climb_opt.study import retry

    slots = [int(slot) if slot.lstrip("-").isdigit() else slot for slot in args.slots]
    again = retry(existing(args, write=True), slots)
    listed = ", ".join(map(str, again))
    print(f"To be tried again: {listed}." if again else "No slot was given up.")
