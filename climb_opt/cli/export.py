"""`climb-opt export`: the mixture in the form a trainer reads, or as mixed data."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from climb_opt.cli.arguments import existing, study_command
from climb_opt.cli.offering import names_of, offer
from climb_opt.errors import UserError
from climb_opt.progress import counting, progress
from climb_opt.text import amount

if TYPE_CHECKING:
    from climb_opt.exports.materialise import Kind

EPILOG = """examples:
  climb-opt export climb-62m --format megatron --path 'data/{domain}_text_document'
  climb-opt export climb-62m --format olmo-core --tokens 40e9 --output mix.yaml
  climb-opt export climb-62m --format materialise --tokens 1e9 --output data/mixed
  climb-opt export climb-62m --mixture two-phases.yaml --format nanotron --tokens 40e9 --batch 1024
  climb-opt export climb-branches --format model --branch trunk --output models/trunk
  climb-opt export climb-62m --trial 17 --format yaml | climb-opt enqueue climb-62m -
"""


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `export` to the command line."""
    command = study_command(
        subparsers,
        "export",
        _export,
        help="the mixture in the form a trainer reads",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--format", required=True, help="see below")
    command.add_argument(
        "--output", metavar="PATH", help="a file (default: print); for materialise a folder"
    )
    command.add_argument("--rule", help="the rule to follow (default: the one that loses least)")
    command.add_argument("--trial", type=int, metavar="N", help="a trial's mixture instead")
    command.add_argument(
        "--phases",
        type=int,
        metavar="N",
        help="where a method moved the weights while proxies trained (reweight): the path of the "
        "best trial, or of --trial, as so many phases",
    )
    command.add_argument(
        "--mixture",
        metavar="FILE",
        help="a mixture of your own instead: YAML, domain: weight; or a schedule, a list of phases "
        "with share and mixture",
    )
    command.add_argument(
        "--path",
        metavar="TEMPLATE",
        help="where a domain's data is for the trainer; {domain} is its name made safe for a path, "
        "{index} its place in the corpus, 000 for the first (default: the corpus's own shards, "
        "else what `corpus export` makes below data/)",
    )
    command.add_argument("--tokens", metavar="N", help="what the run will train on, e.g. 40e9")
    command.add_argument(
        "--sequence", type=int, default=2048, metavar="N", help="tokens a sequence (default: 2048)"
    )
    command.add_argument(
        "--batch", type=int, metavar="N", help="sequences of a step, so that phases end between two"
    )
    command.add_argument(
        "--seed", type=int, default=42, metavar="N", help="for formats that shuffle (default: 42)"
    )
    command.add_argument("--corpus", help="where the corpus lies on this machine")
    command.add_argument(
        "--branch", metavar="NAME",
        help="for --format model: trunk or a branch (default: branches merged by the mixture)",
    )  # fmt: skip
    command.add_argument("--runs", default="runs", help="for --format model: where the runs lie")
    command.add_argument("--documents", action="store_true", help="materialise text, not tokens")
    offer(command, formats=names_of("format"), rules=names_of("rule"))


def _export(args: argparse.Namespace) -> None:
    from climb_opt.exports.formats import MATERIALISE, MODEL, format_of
    from climb_opt.exports.from_study import export, export_files

    if args.branch is not None and args.format != MODEL:
        raise UserError(f"--branch is for --format {MODEL}.")
    if args.documents and args.format != MATERIALISE:
        raise UserError(f"--documents is for --format {MATERIALISE}.")
    if args.format == MATERIALISE:
        _materialise(args)
        return
    if args.format == MODEL:
        _model(args)
        return
    format_of(args.format)  # before the study is read
    study = existing(args)
    if args.output in (None, "-"):
        sys.stdout.write(export(study, args.format, **_settings(args)))
        return
    for path in export_files(study, args.format, args.output, **_settings(args)):
        print(f"{args.format}: {path}")


def _materialise(args: argparse.Namespace) -> None:
    from climb_opt.exports.from_study import materialise

    if args.output in (None, "-"):
        raise UserError("Materialising writes a folder: give --output FOLDER.")
    study = existing(args)
    kind: Kind = "documents" if args.documents else "tokens"
    with progress(None, "tokens", "token", large=True) as bar:
        written = materialise(
            study, args.output, kind=kind, progress=counting(bar), **_settings(args)
        )
    most = max(written.epochs, key=lambda d: written.epochs[d])
    cut = sum(written.cut.values())
    print(
        f"{written.path}: {amount(written.total)} tokens, {sum(written.documents.values())} "
        f"documents{f' ({cut} cut to fit)' if cut else ''}; {most!r} is read "
        f"{written.epochs[most]:.2f} times."
    )


def _model(args: argparse.Namespace) -> None:
    from climb_opt.exports.branches import export_model
    from climb_opt.exports.from_study import handover_of

    if args.output in (None, "-"):
        raise UserError("A model is a folder: give --output FOLDER.")
    of_a_mixture = [n for n in ("rule", "trial", "mixture", "phases") if vars(args)[n] is not None]
    if args.branch is not None and of_a_mixture:
        raise UserError(
            f"--branch {args.branch!r} is a model by itself, --{of_a_mixture[0]} names a mixture "
            "to merge branches by: give one of them."
        )
    study = existing(args)
    branch = args.branch or handover_of(study, **_settings(args))
    folder = export_model(
        study, args.output, branch=branch, corpus=args.corpus, directory=args.runs
    )
    print(f"{args.format}: {folder}")


def _settings(args: argparse.Namespace) -> Any:
    from climb_opt.exports.from_study import Settings

    return {name: getattr(args, name) for name in Settings.__annotations__}
