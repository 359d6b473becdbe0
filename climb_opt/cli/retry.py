"""`climb-opt retry`: try again what was given up."""

from __future__ import annotations

import argparse

from climb_opt.cli.arguments import existing, study_command


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `retry` to the command line."""
    command = study_command(subparsers, "retry", _retry, help="try again what was given up")
    command.add_argument("slots", nargs="*", help="slots; all that were given up by default")


def _retry(args: argparse.Namespace) -> None:
    from climb_opt.study import retry

    slots = [int(slot) if slot.lstrip("-").isdigit() else slot for slot in args.slots]
    again = retry(existing(args, write=True), slots)
    listed = ", ".join(map(str, again))
    print(f"To be tried again: {listed}." if again else "No slot was given up.")
