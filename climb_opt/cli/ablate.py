"""`climb-opt ablate`, `predictors`, `transfer`: comparisons anyone can rerun."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from climb_opt.cli import transfer
from climb_opt.cli.naming import quieten_optuna
from climb_opt.errors import UserError

if TYPE_CHECKING:
    from climb_opt.ablation.recipe import AblationRecipe
    from climb_opt.ablation.resolve import Run
    from climb_opt.ablation.results import Archive, RunResult

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
    command.add_argument(
        "--scale", help="emulated, mini, paper ...: the recipe's, first by default"
    )
    command.add_argument("--arms", help="only these, separated by commas")
    command.add_argument("--tables", help="the folder of the tables that the recipe names")
    command.add_argument("--storage", help="keep the runs' studies there: a URL or a journal file")
    command.add_argument(
        "--study-name", help="prefix of the studies' names, instead of the recipe's"
    )
    command.add_argument("--plan", action="store_true", help="only print what would be run")
    command.add_argument("--show", action="store_true", help="only print what has finished")
    command.add_argument("--no-figures", action="store_true", help="write no PNG files")
    _add_common(command)
    command.set_defaults(run=_ablate)


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


def _ablate(args: argparse.Namespace) -> None:
    from climb_opt.ablation.plan import plan_text
    from climb_opt.ablation.reading import title
    from climb_opt.ablation.results import Archive
    from climb_opt.ablation.runner import finished, run_ablation

    _quieten()
    recipe = _recipe(args)
    name = "-".join(filter(None, [title(args.recipe), args.scale]))
    if args.plan:
        print(plan_text(name, recipe), end="")
        return
    prefix = args.study_name or name
    folder = args.output or Path("runs") / "ablations" / prefix
    archive = Archive(folder)
    if args.show:
        results = finished(recipe, archive)
    else:
        from climb_opt.cli.search import _stop_flag

        with _stop_flag() as stop, Progress(recipe, archive) as progress:
            results = run_ablation(
                recipe,
                archive,
                storage=args.storage,
                prefix=prefix,
                stop=stop,
                on_run=progress,
            )
    _report(name, recipe, results, folder, figures=not args.no_figures)


def _quieten() -> None:
    # A comparison makes hundreds of studies; their own news would bury its own.
    quieten_optuna()
    logging.getLogger("climb_opt.samplers").setLevel(logging.WARNING)
    logging.getLogger("climb_opt.study").setLevel(logging.WARNING)


def _recipe(args: argparse.Namespace) -> AblationRecipe:
    from climb_opt.ablation.reading import chosen_arms, read_ablation

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
    from climb_opt.ablation import render
    from climb_opt.ablation.comparison import comparisons

    tables = comparisons(recipe, results)
    text = render.markdown(name, recipe, tables, command=" ".join(["climb-opt", *sys.argv[1:]]))
    print(text, end="")
    _write(folder, "ablation.md", text)
    _write(folder, "runs.csv", render.as_csv(results))
    _write(folder, "ablation.json", render.as_json(name, recipe, tables, results))
    if not figures:
        return
    from climb_opt.ablation.figures import write_figures

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


class Progress:
    """A bar over runs, those of other workers not counted."""

    def __init__(self, recipe: AblationRecipe, archive: Archive) -> None:
        from climb_opt.ablation.resolve import runs

        planned = runs(recipe)
        self._total = len(planned)
        self._done = sum(archive.get(run) is not None for run in planned)

    def __enter__(self) -> Progress:
        from tqdm import tqdm

        self._bar = tqdm(total=self._total, initial=self._done, unit="run", disable=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def __call__(self, run: Run, result: RunResult) -> None:
        """A run was finished by this worker."""
        self._done += 1
        self._bar.update(1)
        value = "lost" if result.final is None else f"{result.final:.4g}"
        log.debug("%d/%d %s: %s", self._done, self._total, run.key, value)
