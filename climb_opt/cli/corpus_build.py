"""`climb-opt corpus build`: its options and what it prints."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import logging
from pathlib import Path
from typing import Any, get_args, get_type_hints

from climb_opt import corpus_recipe
from climb_opt.cli import offering
from climb_opt.cli.arguments import set_argument
from climb_opt.cli.offering import offer, table_in
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.errors import UserError, check_number

EPILOG = """inputs:
  docs/*.jsonl.zst  web/*.parquet  notes/     files, folders, globs: JSON, CSV, text (1), Parquet,
                                              Arrow, ORC
  hf:name@config#split                        a Hugging Face dataset, streamed; or hf:folder
  domains:folder                              sub-folders (or files) are the domains
  weborganizer:folder#clusters-k24            documents/ with side files
  installed:                                  text of the Python installation, for a first try
  module:Name:where                           your own reader (docs/own-reader.md)
  (1) plain or .gz, .zst, .bz2, .xz; UTF-8, or UTF-16 and UTF-32.
  For Megatron's .bin/.idx see `climb-opt corpus import`.

examples:
  climb-opt corpus build demo --set domains=21      a recipe; `climb-opt ls corpora` lists them
  climb-opt corpus build docs/*.jsonl.zst --output corpora/web
  climb-opt corpus build web/*.parquet --output corpora/web --domains 21 --clusters 1000
  climb-opt corpus build docs.jsonl --output corpora/docs --target prose=kind:prose
  climb-opt corpus build docs.jsonl --output corpora/docs --score quality=fasttext:quality.bin \\
      --prune 'quality>=2' --dry-run

Stop it with Ctrl-C and type it again: it continues, with the same result.
"""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "build",
        help="documents -> domains of tokens",
        description="Documents -> domains of tokens.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="files, folders, globs or prefixed, see below; or a recipe's name or .yaml file",
    )  # fmt: skip
    parser.add_argument("--output", metavar="FOLDER", help="the corpus (a recipe may say it)")
    set_argument(parser, "change the recipe")
    _add_keys(parser)
    _add_running(parser.add_argument_group("running"))
    offer(
        parser,
        engines=table_in("climb_opt.corpus.run.local:ENGINES"),
        encoders=offering.encoders,
        back_ends_of_k_means=table_in("climb_opt.corpus.stages.cluster:BACKENDS", before=["auto"]),
        precisions_of_a_model=table_in("climb_opt.corpus.stages.embed:PRECISIONS"),
        rules_of_prune=table_in(
            "climb_opt.corpus.stages.pruning:PRESETS", after=["FIELD>=NUMBER", "FIELD<=NUMBER"]
        ),
        kinds_of_installed=table_in("climb_opt.corpus.read.installed:KINDS"),
        recipes=offering.recipes_of("corpora"),
    )
    parser.set_defaults(run=run)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    """A flag for each key of a corpus recipe; None: not given, so the recipe's own holds."""
    hints, group = get_type_hints(CorpusRecipe), parser.add_argument_group()
    for key in dataclasses.fields(CorpusRecipe):
        if not key.metadata:
            continue  # the inputs and the output
        if key.name in corpus_recipe.GROUPS:
            group = parser.add_argument_group(corpus_recipe.GROUPS[key.name])
        about, default = key.metadata["about"], key.default
        shown = default not in (None, (), False) and "default" not in about
        text = about + (f" (default: {default:,})" if shown and isinstance(default, int) else
                        f" (default: {default})" if shown else "")  # fmt: skip
        action = group.add_argument(
            f"--{key.name.replace('_', '-')}", help=text, default=None,
            **_taken(hints[key.name], key),
        )  # fmt: skip
        action.shown_default = default  # type: ignore[attr-defined]  # of the reference


def _taken(hint: Any, key: dataclasses.Field[Any]) -> dict[str, Any]:
    """What a key's flag takes, as `add_argument` is told it."""
    if hint is bool:
        return {"action": "store_true"}
    taken = {"metavar": key.metadata["metavar"]}
    if key.metadata["listed"]:
        return {**taken, "type": _fields}
    if isinstance(key.default, tuple):
        return {**taken, "action": "append"}
    if key.name == "near_duplicates":
        return taken  # a number or a word: see `_similarity`
    number = next((kind for kind in (int, float) if kind in (hint, *get_args(hint))), None)
    return {**taken, **({} if number is None else {"type": number})}


def _add_running(group: Any) -> None:
    group.add_argument("--dry-run", action="store_true", help="show what --prune would remove")
    group.add_argument("--engine", default="local", help="local or ray (default: local)")
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    group.add_argument("--part", default="1/1", metavar="I/N", help="this process's share")
    group.add_argument("--overwrite", action="store_true", help="replace another corpus there")
    group.add_argument("--no-progress", action="store_true", help="no bar, no lines")


def run(args: argparse.Namespace) -> int:
    """Build, then print the table of domains."""
    from climb_opt.corpus.after import show
    from climb_opt.corpus.build import build, preview
    from climb_opt.corpus.options import make_plan, options_of
    from climb_opt.progress import quieter

    recipe = recipe_from(args)
    plan, output = make_plan(options_of(recipe)), Path(str(recipe.output))
    progress = False if args.no_progress else None
    check_number("--workers", args.workers)
    if args.dry_run and not recipe.prune:
        raise UserError("--dry-run shows what --prune would remove; give a --prune rule.")
    where = {"engine": args.engine, "workers": args.workers, "progress": progress}
    if args.dry_run:
        print("\n".join(show.removal(preview(plan, output, **where))))
        return 0
    with quieter(logging.ERROR, show.__name__):  # the summary says it
        corpus = build(plan, output, part=_part(args.part), overwrite=args.overwrite, **where)
    if corpus is not None:
        print("\n".join(show.summary(corpus)))
    return 0


def recipe_from(args: argparse.Namespace) -> CorpusRecipe:
    """The corpus that the arguments ask for: a recipe, changed by them, or all by arguments."""
    from climb_opt.corpus.build import asked_for

    keys = [key.name for key in dataclasses.fields(CorpusRecipe) if key.name != "inputs"]
    given = {k: v for k in keys if (v := getattr(args, k)) is not None}
    if "near_duplicates" in given:
        given["near_duplicates"] = _similarity(given["near_duplicates"])
    return asked_for(args.inputs, given, args.set)


def _fields(text: str) -> tuple[str, ...]:
    """Names between commas; one with a comma in it may be put into double quotes."""
    rows = csv.reader([text], skipinitialspace=True)
    return tuple(name.strip() for row in rows for name in row if name.strip())


def _similarity(text: str) -> float | str:
    if text == corpus_recipe.OFF:
        return text
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--near-duplicates must be a number or off, but is {text!r}.") from None


def _part(text: str) -> tuple[int, int]:
    index, _, parts = text.partition("/")
    if not (index.isdigit() and parts.isdigit() and 1 <= int(index) <= int(parts)):
        raise UserError(f"--part must be I/N with 1 <= I <= N, but is {text!r}.")
    return int(index), int(parts)
