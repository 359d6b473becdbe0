"""`climb-opt rescore`: what if the target were another? Read off the branches, without training."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from climb_opt.cli.arguments import existing, format_argument, set_argument, show, study_command
from climb_opt.commands import command

if TYPE_CHECKING:
    from climb_opt.study.rescoring import Rescored


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `rescore` to the command line."""
    command = study_command(
        subparsers,
        "rescore",
        _rescore,
        help="price mixtures by another score, constraints or bounds, without training",
        description="Read mixtures off the branches of a study by another score, other constraints "
        "or bounds: seconds, and nothing is trained. The study stays as it is.",
    )
    set_argument(command, "what changes: score, direction, constraints, space or evaluators")
    command.add_argument("--mixtures", type=int, metavar="N",
                         help="to draw (default: 4096 by ensemble, 32 by merging)")  # fmt: skip
    command.add_argument("--corpus", help="where the corpus lies on this machine")
    command.add_argument("--runs", default="runs", help="folder of checkpoints and models")
    format_argument(command)


def _rescore(args: argparse.Namespace) -> None:
    from climb_opt.study.rescoring import rescore

    study = existing(args)
    found = rescore(
        study, args.set, mixtures=args.mixtures, corpus=args.corpus, directory=args.runs
    )
    show(
        describe(found, study.study_name),
        {**asdict(found), "mixture": dict(found.mixture)},
        args.format,
    )


def describe(found: Rescored, study: str) -> str:
    """What was found, for a person; `study` is the name of the one it was read off."""
    from climb_opt.text import number

    width = max(map(len, found.mixture))
    ranked = sorted(found.mixture.items(), key=lambda pair: -pair[1])
    lines = [f"{domain:<{width}}  {weight:.4f}" for domain, weight in ranked]
    how = "the optimum of the ensemble" if found.optimum else f"the best of {found.priced:,} priced"
    lines.append(f"{how}, read off branches by {found.readout}; nothing was trained")
    lines += [f"score of {name}: {number(value, 5)}" for name, value in found.scores.items()]
    if not found.kept:
        lines.append("caution: it breaks a constraint, as does every mixture that was priced")
    known = f", {found.trained.n} mixtures" if found.trained.known else ""
    lines.append(f"rank correlation with what was trained, by this score: {found.trained}{known}")
    lines.append(
        "Train it before you rely on it: write it to a file (domain: weight), then "
        f"`{command('enqueue', study, 'FILE')}`, `{command('search', study)}` and "
        f"`{command('confirm', study)}`."
    )
    return "\n".join(lines)
