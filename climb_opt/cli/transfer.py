"""`climb-opt transfer`: does the ranking of mixtures hold at another proxy size?"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from climb_opt.cli import process
from climb_opt.cli.arguments import existing, study_command
from climb_opt.cli.offering import offer, recipes_of


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `transfer` to the command line."""
    command = study_command(
        subparsers,
        "transfer",
        _transfer,
        help="retrain mixtures of a search at another proxy size: do the ranks agree?",
        description="Retrain the best mixtures of a search, and others spread over its ranking, "
        "with another proxy, as a study NAME-transfer-PROXY on the same storage. Start it on as "
        "many machines as you like; stopped, it is continued by the same command.",
    )
    command.add_argument("--proxy", required=True, metavar="RECIPE", help="the other proxy")
    command.add_argument("--mixtures", type=int, default=12, metavar="N", help="how many in all")
    command.add_argument("--top", type=int, default=6, metavar="N", help="of them the best ones")
    command.add_argument("--seed", type=int, help="training seed (default: the search's)")
    process.arguments(command, "transfer")
    offer(command, proxies=recipes_of("proxies"))


def _transfer(args: argparse.Namespace) -> int | None:
    from climb_opt.attributes import TRANSFER
    from climb_opt.retrain import transfer
    from climb_opt.study import read_recipe
    from climb_opt.view import StudyView

    team = process.wanted(args)
    study = existing(args, works=True)
    name = args.own_name or transfer.default_name(study, args.proxy)
    larger = process.joined(StudyView(study).storage, name, TRANSFER)
    if larger is None:
        recipe = transfer.transfer_recipe(read_recipe(study), args.proxy, args.seed)
        larger = transfer.begin(study, recipe, mixtures=args.mixtures, top=args.top, name=name)

    # Standard output is the Markdown, and nothing else.
    plan = transfer.orders(study, larger).plan
    train = partial(transfer.work_on, study, larger)
    status = process.retrain(larger, plan, team, train, file=sys.stderr)
    if status is not None:
        found = transfer.transfer_of(study, larger)
        print(transfer.as_markdown(found, read_recipe(study), read_recipe(larger)), end="")
    return status
