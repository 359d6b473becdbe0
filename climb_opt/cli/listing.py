"""`climb-opt ls`: what recipes may name."""

from __future__ import annotations

import argparse

from climb_opt import lookup, recipes
from climb_opt.errors import UserError

KINDS = ("studies", "proxies", "samplers", "predictors", "evaluators", "readers")


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `ls` to the command line."""
    command = subparsers.add_parser("ls", help="list recipes, and the names that they may hold")
    command.add_argument("kind", choices=KINDS, help="of what")
    command.set_defaults(run=_ls)


def _ls(args: argparse.Namespace) -> None:
    if args.kind in recipes.SHIPPED:
        for name in recipes.names(args.kind):
            print(f"{name:<16} {recipes.summary(args.kind, name)}")
        return
    kind = args.kind.removesuffix("s")
    if kind not in lookup.KINDS:
        raise UserError(f"Nothing to list for {args.kind!r}. Known: {', '.join(KINDS)}.")
    for name, target in sorted(lookup.KINDS[kind].items()):
        print(f"{name:<16} {target}")
