"""`climb-opt predictors`: how well each predictor ranks unseen mixtures of a table."""

from __future__ import annotations

import argparse

from climb_opt.cli.arguments import comparison_arguments, overrides
from climb_opt.cli.offering import names_of, offer, recipes_of
from climb_opt.errors import UserError
from climb_opt.files import check_folder, write_text
from climb_opt.progress import counting, progress

TABLES = "studies/ablations/predictors"  # the folder of the shipped ones


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `predictors` to the command line."""
    command = subparsers.add_parser(
        "predictors", help="how well each predictor ranks unseen mixtures of a table"
    )
    command.add_argument("table", nargs="?", help="a shipped one (see below) or a .yaml file")
    command.add_argument("--mixtures", help="instead: a CSV of weights")
    command.add_argument("--results", help="and a CSV of results")
    command.add_argument("--key", default="index", help="the column that names a run in both")
    command.add_argument("--tables", help="the folder of the tables that the study names")
    comparison_arguments(command)
    offer(command, tables=recipes_of(TABLES), predictors=names_of("predictor"))
    command.set_defaults(run=_predictors)


def _predictors(args: argparse.Namespace) -> None:
    from climb_opt import recipe_files
    from climb_opt.ablation import foresight

    if args.output:
        check_folder(args.output)
    changes = overrides(args, tables="folder")
    if args.mixtures or args.results:
        if args.table or not (args.mixtures and args.results):
            raise UserError("predictors: give a study, or --mixtures and --results together.")
        files = {"mixtures": args.mixtures, "results": args.results, "key": args.key}
        recipe = foresight.predictors_from({"train": files}, changes)
    elif args.table:
        recipe = foresight.read_predictors(args.table, changes)
    else:
        known = ", ".join(recipe_files.names(TABLES))
        raise UserError(f"predictors: name a study ({known}), or give --mixtures and --results.")
    with progress(None, f"predictors {args.table or ''}".strip(), "fit") as bar:
        cells = foresight.study_predictors(recipe, on_fit=counting(bar))
    text = foresight.as_markdown(recipe, cells)
    print(text, end="")
    if args.output:
        write_text(args.output / "predictors.md", text)
        write_text(args.output / "predictors.json", foresight.as_json(recipe, cells))
