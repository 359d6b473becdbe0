"""`climb-opt pause` and `climb-opt resume`: let no new trial start, and go on."""

from __future__ import annotations

import argparse

from climb_opt.cli.arguments import existing, study_command
from climb_opt.commands import command


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `pause` and `resume` to the command line."""
    study_command(subparsers, "pause", _pause, help="start no new trials")
    study_command(subparsers, "resume", _resume, help="go on after pause")


def _pause(args: argparse.Namespace) -> None:
    from climb_opt.study import pause

    study = existing(args, write=True)
    pause(study)
    resume = command("resume", study.study_name)
    print(f"{study.study_name}: no new trials start; `{resume}` lets the workers go on.")


def _resume(args: argparse.Namespace) -> None:
    from climb_opt.study import resume

    study = existing(args, write=True)
    resume(study)
    print(f"{study.study_name}: workers go on.")
