"""`climb-opt transfer`: does the ranking of mixtures hold at another proxy size?"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from climb_opt.errors import Interrupted, UserError

if TYPE_CHECKING:
    import optuna


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `transfer` to the command line."""
    from climb_opt.cli.steering import storage_arguments

    command = subparsers.add_parser(
        "transfer",
        help="retrain mixtures of a search at another proxy size: do the ranks agree?",
        description="Retrain the best mixtures of a search, and others spread over its ranking, "
        "with another proxy, as a study NAME-transfer-PROXY on the same storage. Start it on as "
        "many machines as you like; stopped, it is continued by the same command.",
    )
    command.add_argument("name", help="the study's name, or its recipe's")
    storage_arguments(command)
    command.add_argument("--proxy", required=True, metavar="RECIPE", help="the other proxy")
    command.add_argument("--mixtures", type=int, default=12, metavar="N", help="how many in all")
    command.add_argument("--top", type=int, default=6, metavar="N", help="of them the best ones")
    command.add_argument("--seed", type=int, help="training seed (default: the search's)")
    command.add_argument("--as", dest="transfer_name", metavar="NAME", help="name the study")
    command.add_argument("--corpus", help="where the corpus lies on this machine")
    command.add_argument("--runs", default="runs", help="folder of checkpoints and models")
    command.set_defaults(run=_transfer)


def _transfer(args: argparse.Namespace) -> None:
    from climb_opt import study as studies
    from climb_opt.ablation import transfer
    from climb_opt.cli.results import existing
    from climb_opt.cli.search import _rank, _stop_flag
    from climb_opt.slots import Plan

    study = existing(args, write=True)
    name = args.transfer_name or f"{study.study_name}-transfer-{Path(args.proxy).stem}"
    larger = _create(args, study, name) if _rank() == 0 else _join(study, name)
    mixtures = transfer.mixtures_of(study, larger)
    with _stop_flag() as stop:
        objective = studies.make_objective(
            larger, corpus=args.corpus, directory=args.runs, stop=stop
        )
        try:
            if objective.is_main:
                plan = Plan((), tuple(str(slot) for slot in mixtures))
                studies.run_plan(larger, plan, objective, mixtures=mixtures, stop=stop)
            else:
                objective.serve()
        finally:
            objective.close()
        if _rank() > 0:
            return
        if stop():
            raise Interrupted("stopped")
    found = transfer.transfer_of(study, larger)
    recipes = studies.read_recipe(study), studies.read_recipe(larger)
    print(transfer.as_markdown(found, *recipes), end="")


def _create(args: argparse.Namespace, study: optuna.Study, name: str) -> optuna.Study:
    from climb_opt.ablation import transfer
    from climb_opt.history import read_history
    from climb_opt.study import read_recipe, space_of

    recipe = transfer.transfer_recipe(read_recipe(study), args.proxy, args.seed)
    history = read_history(study, space_of(study))
    chosen = transfer.choose(history, args.mixtures, args.top)
    return transfer.open_transfer(study, recipe, chosen, name=name)


def _join(study: optuna.Study, name: str) -> optuna.Study:
    """Ranks above 0 wait until rank 0 has created the study."""
    import optuna

    from climb_opt.ablation.transfer import TRANSFER
    from climb_opt.cli.search import JOIN_WAIT

    until = time.monotonic() + JOIN_WAIT
    while time.monotonic() < until:
        if name in optuna.get_all_study_names(study._storage):
            joined = optuna.load_study(study_name=name, storage=study._storage)
            if TRANSFER in joined.user_attrs:
                return joined
        time.sleep(0.5)
    raise UserError(f"Rank 0 did not create study {name!r} within {JOIN_WAIT:.0f} s.")
