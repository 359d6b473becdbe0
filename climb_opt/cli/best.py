"""`climb-opt best`: the recommended mixture, rules side by side."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from climb_opt.cli.arguments import existing, format_argument, study_command
from climb_opt.cli.offering import names_of, offer
from climb_opt.text import strict_json

if TYPE_CHECKING:
    from climb_opt.selection import Advice


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `best` to the command line."""
    command = study_command(
        subparsers, "best", _best, help="the recommended mixture, rules side by side"
    )
    command.add_argument("--rule", help="the rule to follow (default: the one that loses least)")
    format_argument(command, "table")
    offer(command, rules=names_of("rule"))


def _best(args: argparse.Namespace) -> None:
    from climb_opt.reports.draw.terminal import recommended
    from climb_opt.reports.snapshot import take
    from climb_opt.retrain.confirm import confirmation_beside
    from climb_opt.retrain.paired import no_claim
    from climb_opt.selection import advised

    study = existing(args)
    snapshot = take(study)
    advice = advised(study, "to recommend", args.rule, history=snapshot.judged)
    confirmation = confirmation_beside(study)
    as_good = no_claim(advice.chosen, confirmation)
    if args.format == "json":
        print(strict_json([_plain(rule, advice, as_good) for rule in advice.recommended]))
    elif args.format == "yaml":
        from climb_opt.exports import prepare, render

        rule, chosen = advice.followed, advice.chosen
        about: Any = {"study": study.study_name, "rung": chosen.rung, "as_good": as_good}
        print(render("yaml", prepare(chosen, rule=rule, **about)), end="")
    else:
        print(recommended(snapshot, advice, confirmation))


def _plain(rule: str, advice: Advice, as_good: str) -> dict[str, Any]:
    """What a rule keeps; `as_good` is what is said first of the one that is followed."""
    one = advice.recommended[rule]
    return {
        "rule": rule,
        "default": rule == advice.followed,
        "rung": one.rung or None,
        "expected": None if one.predicted is None else one.predicted.mean,
        "expected_half_interval": None if one.predicted is None else one.predicted.half,
        "gain_over_prior": None if one.gain is None else one.gain.mean,
        "gain_half_interval": None if one.gain is None else one.gain.half,
        "as_good": (as_good if rule == advice.followed else one.as_good) or None,
        "warnings": list(one.warnings),
        "mixture": dict(one),
        **({"phases": list(one.phases)} if one.phases else {}),
    }
