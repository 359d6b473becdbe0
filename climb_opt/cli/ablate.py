"""`climb-opt ablate`, `predictors`, `transfer`: comparisons anyone can rerun."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from climb_opt.cli import crew, transfer
from climb_opt.cli.naming import quieten_optuna
from climb_opt.cli.offering import ablations, names_of, offer, predictor_studies
from climb_opt.cli.stopping import leads, stop_flag
from climb_opt.errors import Interrupted, UserError
from climb_opt.progress import counting, progress

if TYPE_CHECKING:
    from climb_opt.ablation.recipe.recipe import AblationRecipe
    from climb_opt.ablation.recipe.resolve import Run
    from climb_opt.ablation.run.results import Archive, RunResult

log = logging.getLogger(__name__)


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the three commands to the command line."""
    _add_ablate(subparsers)
    _add_predictors(subparsers)
    transfer.add(subparsers)


def _add_ablate(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "ablate",
        help="compare arms under one budget, with intervals",
        description="Run it again to resume; run it in several places to share the work.",
    )
    command.add_argument(
        "recipe", help="a shipped ablation, a .yaml file, or an ablation.json: that one again"
    )
    command.add_argument("--scale", help="one of the recipe's scales; the first by default")
    command.add_argument("--arms", help="only these, separated by commas")
    command.add_argument("--tables", help="the folder of the tables that the recipe names")
    command.add_argument("--storage", help="keep the runs' studies there: a URL or a journal file")
    command.add_argument(
        "--study-name", help="prefix of the studies' names, instead of the recipe's"
    )
    crew.add_argument(command)
    command.add_argument("--plan", action="store_true", help="only print what would be run")
    command.add_argument("--show", action="store_true", help="only print what has finished")
    command.add_argument("--no-figures", action="store_true", help="write no PNG files")
    _add_common(command)
    offer(
        command,
        recipes=ablations,
        samplers_of_arms=names_of("sampler"),
        their_predictors=names_of("predictor"),
        final_rules=names_of("rule"),
    )
    command.set_defaults(run=_ablate)


def _add_predictors(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "predictors", help="how well each predictor ranks unseen mixtures of a table"
    )
    command.add_argument("table", nargs="?", help="a shipped one (see below) or a .yaml file")
    command.add_argument("--mixtures", help="instead: a CSV of weights")
    command.add_argument("--results", help="and a CSV of results")
    command.add_argument("--key", default="index", help="the column that names a run in both")
    command.add_argument("--tables", help="the folder of the tables that the study names")
    _add_common(command)
    offer(command, tables=predictor_studies, predictors=names_of("predictor"))
    command.set_defaults(run=_predictors)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seeds", type=int, help="how many, instead of the recipe's")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a key of the recipe, e.g. budget.trials=14; as often as needed",
    )  # fmt: skip
    command.add_argument("--output", type=Path, help="folder for the tables and figures")


def _ablate(args: argparse.Namespace) -> int:
    from climb_opt.ablation.recipe.plan import plan_text
    from climb_opt.ablation.recipe.reading import title
    from climb_opt.ablation.run.results import Archive
    from climb_opt.ablation.run.runner import finished, run_ablation

    _quieten()
    count = crew.wanted(args, args.storage or "")
    recipe = _recipe(args)
    name = "-".join(filter(None, [title(args.recipe), args.scale]))
    if args.plan:
        print(plan_text(name, recipe), end="")
        return 0
    prefix = args.study_name or name
    folder = args.output or Path("runs") / "ablations" / prefix
    archive = Archive(folder)
    if args.show:
        _report(name, recipe, finished(recipe, archive), folder, figures=not args.no_figures)
        return 0
    status = 0
    with stop_flag() as stop, _following(recipe, archive, name) as follow:
        if count > 1:
            status = crew.lead(args, count, follow.left, stop=stop, follow=follow)
        else:
            run_ablation(
                recipe, archive, storage=args.storage, prefix=prefix, stop=stop, on_run=follow.show
            )
    if stop():
        raise Interrupted("stopped")
    if leads():
        _report(name, recipe, finished(recipe, archive), folder, figures=not args.no_figures)
    return status


def _quieten() -> None:
    # A comparison makes hundreds of studies; their own news would bury its own.
    quieten_optuna()
    logging.getLogger("climb_opt.samplers").setLevel(logging.WARNING)
    logging.getLogger("climb_opt.study").setLevel(logging.WARNING)


def _recipe(args: argparse.Namespace) -> AblationRecipe:
    from climb_opt.ablation.recipe.reading import chosen_arms, read_ablation

    overrides = list(args.settings)
    if args.seeds is not None:
        overrides.append(f"seeds={args.seeds}")
    if args.tables:
        overrides.append(f"objective.folder={args.tables}")
    recipe = read_ablation(args.recipe, scale=args.scale, overrides=overrides)
    return chosen_arms(recipe, args.arms.split(",")) if args.arms else recipe


def _report(
    name: str,
    recipe: AblationRecipe,
    results: list[RunResult],
    folder: Path,
    *,
    figures: bool,
) -> None:
    from climb_opt.ablation.table import render
    from climb_opt.ablation.table.comparison import comparisons

    tables = comparisons(recipe, results)
    text = render.markdown(name, recipe, tables, command=" ".join(["climb-opt", *sys.argv[1:]]))
    print(text, end="")
    _write(folder, "ablation.md", text)
    _write(folder, "runs.csv", render.as_csv(results))
    _write(folder, "ablation.json", render.as_json(name, recipe, tables, results))
    if not figures:
        return
    from climb_opt.ablation.table.figures import write_figures

    for table in tables:
        for path in write_figures(table, folder / "figures", scaled=not recipe.live):
            log.info("%s", path)


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
    with progress(None, f"predictors {args.table or ''}".strip(), "fit") as bar:
        cells = foresight.study_predictors(recipe, on_fit=counting(bar))
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


class _Following:
    """Progress over the runs of an ablation; those of other commands are not counted."""

    def __init__(self, left: int, bar: Any) -> None:
        self.left, self._bar = left, bar

    def show(self, run: Run, result: RunResult) -> None:
        """A run was finished by this process."""
        value = "lost" if result.final is None else f"{result.final:.4g}"
        line = f"run {run.key}: {value}"
        if leads():
            log.debug("%s", line)
        else:
            print(line, file=sys.stderr, flush=True)
        self.move()

    def say(self, text: str, file: TextIO) -> None:
        """A worker printed a line: only `--verbose` shows those of runs."""
        if not text.startswith("run ") or log.isEnabledFor(logging.DEBUG):
            self._bar.write(text, file=file)

    def move(self) -> None:
        """A run was finished."""
        self._bar.update(1)


@contextmanager
def _following(recipe: AblationRecipe, archive: Archive, name: str) -> Iterator[_Following]:
    from climb_opt.ablation.recipe.resolve import runs

    planned = runs(recipe)
    done = sum(archive.get(run) is not None for run in planned)
    with progress(len(planned), name, "run", initial=done, show=leads()) as bar:
        yield _Following(len(planned) - done, bar)
