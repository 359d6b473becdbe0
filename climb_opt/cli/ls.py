"""`climb-opt ls`: what recipes and options may name, with a line about each."""

from __future__ import annotations

import argparse

from climb_opt import lookup
from climb_opt.cli.offering import Table, ablations, arms, names_of, recipes_of

TABLES: dict[str, Table] = {
    **{kind: recipes_of(kind) for kind in ("studies", "proxies", "corpora")},
    "ablations": ablations,
    "arms": arms,
    **{f"{kind}s": names_of(kind) for kind in lookup.KINDS},
}


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `ls` to the command line."""
    command = subparsers.add_parser("ls", help="list recipes, samplers, predictors, formats ...")
    command.add_argument("kind", metavar="KIND", help=", ".join(TABLES))
    command.set_defaults(run=_ls)


def _ls(args: argparse.Namespace) -> None:
    if args.kind not in TABLES:
        raise lookup.unknown("kind", args.kind, TABLES)
    table = TABLES[args.kind]()
    width = max(16, *map(len, table))
    for name, about in table.items():
        print(f"{name:<{width}} {about}".rstrip())
