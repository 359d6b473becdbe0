"""`climb-opt transfer`: does the ranking of mixtures hold at another proxy size?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb_opt.cli import crew, retraining
from climb_opt.cli.following import Following
from climb_opt.cli.naming import existing, study_arguments
from climb_opt.cli.offering import offer, recipes_of
from climb_opt.cli.stopping import Stop

if TYPE_CHECKING:
    import optuna


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `transfer` to the command line."""
    command = subparsers.add_parser(
        "transfer",
        help="retrain mixtures of a search at another proxy size: do the ranks agree?",
        description="Retrain the best mixtures of a search, and others spread over its ranking, "
        "with another proxy, as a study NAME-transfer-PROXY on the same storage. Start it on as "
        "many machines as you like; stopped, it is continued by the same command.",
    )
    study_arguments(command)
    command.add_argument("--proxy", required=True, metavar="RECIPE", help="the other proxy")
    command.add_argument("--mixtures", type=int, default=12, metavar="N", help="how many in all")
    command.add_argument("--top", type=int, default=6, metavar="N", help="of them the best ones")
    command.add_argument("--seed", type=int, help="training seed (default: the search's)")
    retraining.arguments(command, "transfer")
    offer(command, proxies=recipes_of("proxies"))
    command.set_defaults(run=_transfer)


def _transfer(args: argparse.Namespace) -> int | None:
    from climb_opt import study as studies
    from climb_opt.attributes import TRANSFER
    from climb_opt.plan import Plan
    from climb_opt.retrain import transfer
    from climb_opt.storages import location

    count = crew.wanted(args, location(args.storage))
    study = existing(args, write=True)
    name = args.own_name or f"{study.study_name}-transfer-{Path(args.proxy).stem}"
    larger = retraining.joins(study, name, TRANSFER) or _create(args, study, name)
    mixtures = transfer.mixtures_of(study, larger)
    plan = Plan((), tuple(str(slot) for slot in mixtures))

    def run(objective: Any, stop: Stop, follow: Following) -> None:
        studies.run_plan(
            larger, plan, objective, mixtures=mixtures, stop=stop, on_trial=follow.show
        )

    # Standard output is the Markdown, and nothing else.
    status = retraining.retrain(larger, args, plan, run, count=count, file=sys.stderr)
    if status is not None:
        found = transfer.transfer_of(study, larger)
        recipes = studies.read_recipe(study), studies.read_recipe(larger)
        print(transfer.as_markdown(found, *recipes), end="")
    return status


def _create(args: argparse.Namespace, study: optuna.Study, name: str) -> optuna.Study:
    from climb_opt.retrain import transfer
    from climb_opt.study import read_recipe
    from climb_opt.view import StudyView, read_history

    recipe = transfer.transfer_recipe(read_recipe(study), args.proxy, args.seed)
    history = read_history(study, StudyView(study).space)
    chosen = transfer.choose(history, args.mixtures, args.top)
    return transfer.open_transfer(study, recipe, chosen, name=name)
