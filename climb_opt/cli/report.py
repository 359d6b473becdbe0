"""`climb-opt report`: one HTML page, or Markdown for a pull request."""

from __future__ import annotations

import argparse

from climb_opt.cli.arguments import existing, study_command
from climb_opt.cli.offering import names_of, offer
from climb_opt.text import file_name


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `report` to the command line."""
    command = study_command(
        subparsers, "report", _report, help="one HTML page, or Markdown for a pull request"
    )
    command.add_argument("--rule", help="the rule to follow")
    command.add_argument("--predictor", help="whose quality to show (default: the search's own)")
    command.add_argument(
        "--output",
        metavar="FILE",
        help="a file, - to print (default: runs/NAME.html; Markdown is printed)",
    )
    command.add_argument("--markdown", action="store_true", help="Markdown instead of HTML")
    command.add_argument("--corpus", help="where the corpus lies on this machine, for its map")
    offer(command, rules=names_of("rule"), predictors=names_of("predictor"))


def _report(args: argparse.Namespace) -> None:
    from climb_opt.reports.report import report

    study = existing(args)
    usual = None if args.markdown else f"runs/{file_name(study.study_name)}.html"
    path = usual if args.output is None else args.output
    path = None if path == "-" else path
    text = report(
        study,
        path,
        markdown=args.markdown,
        rule=args.rule,
        predictor=args.predictor,
        corpus=args.corpus,
    )
    if path is None:
        print(text, end="")
    else:
        print(f"Report of {study.study_name}: {path}")
