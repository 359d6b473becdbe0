"""`climb-opt plan`: what would a search cost, what does a budget buy, what regret to expect?"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from climb_opt.cli.arguments import (
    format_argument,
    quieten_optuna,
    set_argument,
    show,
    stem,
    storage_argument,
)
from climb_opt.cli.offering import offer, recipes_of


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `plan` to the command line."""
    command = subparsers.add_parser(
        "plan",
        help="what would a search cost, what does a budget buy, what regret to expect?",
        description="Before anything is trained: the cost of each rung and of the whole search, "
        "what a budget buys, and the expected regret against budget with the ladder and without, "
        "from emulated searches at the given noise and rank correlation.",
    )
    command.add_argument("recipe", help="a study recipe: its name or file")
    command.add_argument("--flops", type=float, metavar="F",
                         help="the budget asked about (default: the plan's own)")  # fmt: skip
    command.add_argument("--from", dest="source", metavar="STUDY",
                         help="use the noise and rank correlations of a study")  # fmt: skip
    command.add_argument("--noise", type=float, metavar="X",
                         help="of one run, in spreads of the target's scores (default: measured, "
                         "else 0.1)")  # fmt: skip
    command.add_argument("--correlation", type=_numbers, metavar="RHO",
                         help="rank correlation of the cheapest rung with the target, or of each "
                         "below it: 0.7,0.9 (default: measured, else 0.8)")  # fmt: skip
    command.add_argument("--seeds", type=int, default=3, metavar="N",
                         help="emulated searches of each kind and budget (default: 3)")  # fmt: skip
    command.add_argument("--quick", "--no-emulation", dest="quick", action="store_true",
                         help="costs alone; nothing is emulated")  # fmt: skip
    format_argument(command)
    set_argument(command, "change a key of the recipe, e.g. seed=1; as often as needed")
    storage_argument(command)
    command.set_defaults(run=_plan)
    offer(command, recipes=recipes_of("studies"))


def _numbers(text: str) -> float | tuple[float, ...]:
    """One number, or several with commas between."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number, nor several such as 0.7,0.9"
        ) from None
    return found[0] if len(found) == 1 else found


def _plan(args: argparse.Namespace) -> None:
    from climb_opt.reports.planned.plan_search import plan_search

    quieten_optuna()
    source = None if args.source is None else stem(args.source)
    found = plan_search(
        args.recipe, flops=args.flops, source=source, storage=args.storage, overrides=args.set,
        noise=args.noise, correlation=args.correlation, seeds=args.seeds, emulate=not args.quick,
    )  # fmt: skip
    data = asdict(found)
    show(data.pop("text"), data, args.format)
