"""`climb-opt noise`: how much of a score is chance, and what can be searched on?"""

from __future__ import annotations

import argparse
from functools import partial

from climb_opt.cli import process
from climb_opt.cli.arguments import quieten_optuna, set_argument, study_command
from climb_opt.cli.offering import offer, recipes_of


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `noise` to the command line."""
    command = study_command(
        subparsers,
        "noise",
        _noise,
        help="train mixtures several times: how noisy is the score, what can be searched on?",
        description="Train the prior and a corner of the simplex with several seeds, and some "
        "mixtures once, as a study NAME-noise on the same storage; the search need not have begun. "
        "`score: auto` takes its weights from there, `best` how noise differs between mixtures. "
        "Start it on as many machines as you like; stopped, it is continued by the same command.",
    )
    command.add_argument("--repeats", type=int, default=6, metavar="N", help="runs of the prior")
    command.add_argument(
        "--corner", type=int, default=2, metavar="N", help="runs of the smallest domain's corner"
    )
    command.add_argument(
        "--spread", type=int, default=8, metavar="N",
        help="mixtures to run once, 3 or more, where the search has tried fewer than 8; 0: none",
    )  # fmt: skip
    set_argument(command, "change a key of a recipe whose search has not begun")
    process.arguments(command, "noise")
    offer(command, recipes=recipes_of("studies"))


def _noise(args: argparse.Namespace) -> int | None:
    from climb_opt.attributes import NOISE
    from climb_opt.retrain import noise, repeats
    from climb_opt.storages import never
    from climb_opt.study.asked import NOISE_SUFFIX

    quieten_optuna()
    team = process.wanted(args)
    of = repeats.subject(args.name, args.storage, args.study_name, args.set, never)
    name = args.own_name or f"{of.name}{NOISE_SUFFIX}"
    sibling = process.joined(of.storage, name, NOISE)
    if sibling is None:
        terms = repeats.Terms(args.repeats, args.corner, args.spread, name)
        sibling = repeats.begin(of, terms, args.corpus)

    plan = repeats.orders(sibling).plan
    status = process.retrain(sibling, plan, team, partial(noise.work_on, sibling))
    if status is not None:
        from climb_opt.reports.draw.terminal import listing
        from climb_opt.reports.parts.noise import blocks

        print(f"\n{listing(*blocks(noise.noise_of(sibling)))}")
    return status
