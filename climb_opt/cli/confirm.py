"""`climb-opt confirm`: retrain what a search recommends, and the baselines, with fresh seeds."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from climb_opt.cli import process
from climb_opt.cli.arguments import existing, study_command
from climb_opt.cli.offering import names_of, offer, recipes_of
from climb_opt.commands import command
from climb_opt.text import printable

if TYPE_CHECKING:
    import optuna

    from climb_opt.retrain.sibling import Runner


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `confirm` to the command line."""
    command = study_command(
        subparsers,
        "confirm",
        _confirm,
        help="retrain the mixture found and the baselines with fresh seeds: is the gain real?",
        description="Retrain finalists and baselines with common fresh seeds, as a study "
        "NAME-confirm on the same storage. Start it on as many machines as you like; stopped, it "
        "is continued by the same command.",
    )
    command.add_argument(
        "--seeds",
        type=int,
        help="fresh seeds (default: the recipe's; in a race, what its budget pays for)",
    )
    command.add_argument(
        "--rules", metavar="RULE,...", help="further finalists: rules by name, or all"
    )
    command.add_argument(
        "--budget", type=int, metavar="RUNS", help="a race: at most this many training runs"
    )
    command.add_argument("--proxy", metavar="RECIPE", help="train another, larger proxy")
    process.arguments(command, "confirm")
    offer(command, rules=names_of("rule"), proxies=recipes_of("proxies"))


def _confirm(args: argparse.Namespace) -> int | None:
    from climb_opt.attributes import CONFIRM
    from climb_opt.retrain import longest_plan, read_finals
    from climb_opt.retrain.confirm import work_on
    from climb_opt.retrain.finals import SUFFIX
    from climb_opt.study import read_recipe
    from climb_opt.view import StudyView

    team = process.wanted(args)
    study = existing(args, works=True)
    name = args.own_name or f"{study.study_name}{SUFFIX}"
    confirm, said = process.joined(StudyView(study).storage, name, CONFIRM), list[str]()
    if confirm is None:
        confirm, said = _begin(args, study)

    plan = longest_plan(confirm, read_recipe(confirm).max_attempts)
    most, say = read_finals(confirm).budget, partial(_say, said)
    if team.count > 1:  # others train
        say()

    def train(runner: Runner) -> None:  # called when the corpus is there, or never
        if team.count == 1:
            say()
        work_on(study, confirm, runner)

    status = process.retrain(confirm, plan, team, train, total=most)
    if status is not None:
        _show(confirm)
    return status


def _begin(args: argparse.Namespace, study: optuna.Study) -> tuple[optuna.Study, list[str]]:
    """The confirm study, and what is said of it."""
    from climb_opt.retrain.confirm import Terms, begin

    rules = () if args.rules is None else args.rules
    terms = Terms(args.seeds, rules, args.budget, args.proxy, args.own_name)
    confirm, finals, same, as_good = begin(study, terms)
    said = [f"{printable(as_good)}."] if as_good else []
    said += [f"{rule} recommends the same mixture as {f}." for rule, f in same.items()]
    said += [f"{f} is the baseline {name}: trained once." for name, f in finals.twins.items()]
    names = ", ".join(finals.trained)
    limit = "" if finals.budget is None else f", {finals.budget} runs in all"
    said.append(f"{confirm.study_name}: {names}, up to {finals.seeds} seeds each{limit}.")
    return confirm, said


def _say(lines: list[str]) -> None:
    from tqdm import tqdm

    for line in lines:
        tqdm.write(line)  # above a bar, where there is one
    sys.stdout.flush()


def _show(confirm: optuna.Study) -> None:
    from climb_opt.reports.draw.terminal import confirmed
    from climb_opt.retrain import confirmation_of
    from climb_opt.view import StudyView

    found = confirmation_of(confirm)
    print()
    print(confirmed(found, StudyView(confirm).space))
    if any(d.verdict not in ("better", "worse") for d in found.differences()):
        print("More seeds narrow the intervals: the same command with a larger --seeds goes on.")
    if found.failed:
        print(f"Failed attempts: {found.failed}; see `{command('status', confirm.study_name)}`.")
