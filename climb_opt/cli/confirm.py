"""`climb-opt confirm`: retrain what a search recommends, and the baselines, with fresh seeds."""

from __future__ import annotations

import argparse
import shlex
from functools import partial
from typing import TYPE_CHECKING

from climb_opt.cli import process
from climb_opt.cli.arguments import existing, study_command
from climb_opt.cli.offering import names_of, offer, recipes_of
from climb_opt.text import printable

if TYPE_CHECKING:
    import optuna


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
    command.add_argument("--seeds", type=int, help="fresh seeds (default: the recipe's)")
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
    confirm = process.joined(StudyView(study).storage, name, CONFIRM) or _begin(args, study)

    plan = longest_plan(confirm, read_recipe(confirm).max_attempts)
    train, most = partial(work_on, study, confirm), read_finals(confirm).budget
    status = process.retrain(confirm, plan, team, train, total=most)
    if status is not None:
        _show(confirm)
    return status


def _begin(args: argparse.Namespace, study: optuna.Study) -> optuna.Study:
    from climb_opt.retrain.confirm import Terms, begin

    rules = () if args.rules is None else args.rules
    terms = Terms(args.seeds, rules, args.budget, args.proxy, args.own_name)
    confirm, finals, same, as_good = begin(study, terms)
    if as_good:
        print(f"{printable(as_good)}.")
    for rule, finalist in same.items():
        print(f"{rule} recommends the same mixture as {finalist}.")
    for baseline, finalist in finals.twins.items():
        print(f"{finalist} is the baseline {baseline}: trained once.")
    names = ", ".join(finals.trained)
    limit = "" if finals.budget is None else f", {finals.budget} runs in all"
    print(f"{confirm.study_name}: {names}, up to {finals.seeds} seeds each{limit}.", flush=True)
    return confirm


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
        name = shlex.quote(confirm.study_name)
        print(f"Failed attempts: {found.failed}; see `climb-opt status {name}`.")
