"""`climb-opt ablate`: compare arms under one budget, with intervals."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from climb_opt.cli import crew, process
from climb_opt.cli.arguments import comparison_arguments, overrides, quieten_optuna, typed
from climb_opt.cli.offering import ablations, names_of, offer
from climb_opt.cli.stopping import leads, stop_flag
from climb_opt.errors import UserError
from climb_opt.progress import progress, quieter
from climb_opt.text import counted

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from climb_opt.ablation.recipe.recipe import AblationRecipe
    from climb_opt.ablation.recipe.resolve import Run
    from climb_opt.ablation.run.results import Archive, RunResult

log = logging.getLogger(__name__)


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `ablate` to the command line."""
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
    comparison_arguments(command)
    offer(
        command,
        recipes=ablations,
        samplers_of_arms=names_of("sampler"),
        their_predictors=names_of("predictor"),
        final_rules=names_of("rule"),
    )
    command.set_defaults(run=_ablate)


def _ablate(args: argparse.Namespace) -> int:
    quieten_optuna()
    with quieter(logging.WARNING, "climb_opt.samplers", "climb_opt.study"):
        return _compare(args)


def _compare(args: argparse.Namespace) -> int:
    from climb_opt.ablation.recipe.plan import plan_text
    from climb_opt.ablation.recipe.reading import title
    from climb_opt.ablation.recipe.resolve import runs
    from climb_opt.ablation.run.emulate import check_objective
    from climb_opt.ablation.run.results import Archive
    from climb_opt.ablation.run.runner import run_ablation
    from climb_opt.storages import open_storage

    count = crew.wanted(args, args.storage or "")
    recipe = _recipe(args)
    if not args.show:
        check_objective(recipe)
    name = "-".join(filter(None, [title(args.recipe), args.scale]))
    if args.plan:
        print(plan_text(name, recipe), end="")
        return 0
    prefix = args.study_name or name
    folder, planned = args.output or Path("runs") / "ablations" / prefix, runs(recipe)
    begun = (folder / "runs").is_dir()  # an archive makes it
    if args.show and not (begun and any(Archive(folder).get(run) for run in planned)):
        raise UserError(
            f"No run of {name} has finished in {str(folder)!r}. Name the folder of its runs by "
            "--output, or leave out --show to run them."
        )
    archive = Archive(folder)
    if args.show:
        _report(name, recipe, archive, args)
        return 0
    with stop_flag() as stop:
        left = sum(archive.get(run) is None for run in planned)
        done = len(planned) - left
        with progress(len(planned), name, "run", initial=done, show=leads()) as bar:
            follow = _Following(bar)
            train = partial(
                run_ablation,
                recipe,
                archive,
                storage=args.storage,
                prefix=prefix,
                stop=stop,
                on_run=follow.show,
                on_trial=follow.count,
            )
            if count > 1 and args.storage:  # what is to be said of it is said once, here
                open_storage(args.storage, stop=stop)
            status = process.work(crew.Crew(args, count, left), follow, train, stop)
    if leads():
        _report(name, recipe, archive, args)
    return status


def _recipe(args: argparse.Namespace) -> AblationRecipe:
    from climb_opt.ablation.recipe.reading import read_ablation

    changes = overrides(args, tables="objective.folder")
    if args.arms == "":  # an empty variable of a script: not all of them
        raise UserError("--arms must name arms, separated by commas; leave it out for all of them.")
    chosen = args.arms.split(",") if args.arms else ()
    return read_ablation(args.recipe, scale=args.scale, overrides=changes, chosen=chosen)


def _report(name: str, recipe: AblationRecipe, archive: Archive, args: argparse.Namespace) -> None:
    from climb_opt.ablation.table.written import write_tables

    command = shlex.join(["climb-opt", *map(typed, sys.argv[1:])])
    text = write_tables(archive, name, recipe, command=command, figures=not args.no_figures)
    print(text, end="")


class _Following:
    """Progress over the runs of an ablation; those of other commands are not counted."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._trials = bar, 0

    def count(self, trial: FrozenTrial) -> None:
        """A trial of a live run, which takes many, was finished by this process."""
        value = f"{trial.values[0]:.4f}" if trial.values else trial.state.name
        self._tell(f"{crew.TRIAL}{trial.number}: {value}")

    def show(self, run: Run, result: RunResult) -> None:
        """A run was finished by this process."""
        value = "lost" if result.final is None else f"{result.final:.4g}"
        self._tell(f"{crew.RUN}{run.key}: {value}")

    def _tell(self, line: str) -> None:
        if leads():
            log.debug("%s", line)
            self.move(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def say(self, text: str, file: TextIO) -> None:
        """A worker printed a line: only `--verbose` shows those of runs and trials."""
        if not text.startswith(crew.ENDED) or log.isEnabledFor(logging.DEBUG):
            self._bar.write(text, file=file)

    def move(self, line: str) -> None:
        """A run was finished, or a trial of one, by this process or one of its workers."""
        if line.startswith(crew.RUN):
            self._bar.update(1)
        else:
            self._trials += 1
            self._bar.set_postfix_str(f"{counted(self._trials, 'trial')} here")
