"""`climb-opt ablate`, `predictors`, `transfer`: comparisons anyone can rerun."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from climb_opt.errors import UserError

log = logging.getLogger(__name__)


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the three commands to the command line."""
    _add_predictors(subparsers)


def _add_predictors(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "predictors", help="how well each predictor ranks unseen mixtures of a table"
    )
    command.add_argument("table", nargs="?", help="a shipped study (regmix, dclm) or a .yaml file")
    command.add_argument("--mixtures", help="instead: a CSV of weights")
    command.add_argument("--results", help="and a CSV of results")
    command.add_argument("--key", default="index", help="the column that names a run in both")
    command.add_argument("--tables", help="the folder of the tables that the study names")
    _add_common(command)
    command.set_defaults(run=_predictors)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seeds", type=int, help="how many, instead of the recipe's")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    command.add_argument("--output", type=Path, help="folder for the tables and figures")


def _predictors(args: argparse.Namespace) -> None:
    from climb_opt.ablation import foresight

    overrides = list(args.settings)
    if args.seeds is not None:
        overrides.append(f"seeds={args.seeds}")
    if args.tables:
        overrides.append(f"folder={args.tables}")
    if args.mixtures or args.results:
        if args.table or not (args.mixtures and args.results):
            raise UserError("predictors: give a study, or --mixtures and --results together.")
        files = {"mixtures": args.mixtures, "results": args.results, "key": args.key}
        recipe = foresight.predictors_from({"train": files}, overrides)
    elif args.table:
        recipe = foresight.read_predictors(args.table, overrides)
    else:
        known = ", ".join(foresight.shipped())
        raise UserError(f"predictors: name a study ({known}), or give --mixtures and --results.")
    cells = foresight.study_predictors(recipe, on_fit=log.debug)
    text = foresight.as_markdown(recipe, cells)
    print(text, end="")
    if args.output:
        _write(args.output, "predictors.md", text)
        _write(args.output, "predictors.json", foresight.as_json(recipe, cells))


def _write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, folder / name)
