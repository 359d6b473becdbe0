"""`climb-opt influence`: what do the tokens of each domain do for the score?"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from climb_opt.cli.arguments import format_argument, quieten_optuna, set_argument, show
from climb_opt.cli.offering import offer, recipes_of
from climb_opt.cli.stopping import stop_flag
from climb_opt.files import check_folder, check_replaced

if TYPE_CHECKING:
    from climb_opt.influence.door import Influence
    from climb_opt.influence.options import InfluenceOptions

OWN = "influence."  # keys that `--set` changes beside the recipe's


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `influence` to the command line."""
    command = subparsers.add_parser(
        "influence",
        help="train one proxy on the prior: what does each domain do for the score?",
        description="Train one proxy of a recipe on its prior and measure, by gradients at its "
        "end, what more of each domain would do for each component of the score, and the mixture "
        "that TiKMiX (arXiv 2508.17677) makes of it. Stopped, it is continued by the same command; "
        "`accelerate launch -m climb_opt influence NAME` measures on several devices.",
    )
    command.add_argument("recipe", help="a study recipe: its name or file")
    set_argument(
        command,
        "change a key of the recipe, or of the measurement: influence.hessian=ekfac (identity, "
        "fisher, ekfac, gauss-newton), influence.tokens=65536 ...; as often as needed",
    )
    command.add_argument("--output", type=Path, metavar="FILE",
                         help="keep it, for a sampler or baseline: influence: FILE")  # fmt: skip
    command.add_argument("--corpus", help="where the corpus lies on this machine")
    command.add_argument("--runs", default="runs", help="folder of checkpoints")
    format_argument(command)
    command.set_defaults(run=_influence)
    offer(command, recipes=recipes_of("studies"))


def _influence(args: argparse.Namespace) -> None:
    from climb_opt.gains.table import is_gains
    from climb_opt.influence.door import measure_influence
    from climb_opt.recipes import read_study

    quieten_optuna()
    of_recipe, options = _split(args.set)
    if args.output:  # before anything is trained
        check_folder(args.output.parent)
        check_replaced(args.output, "measurement of influence", is_gains)
    with stop_flag() as stop:
        found = measure_influence(
            read_study(args.recipe, of_recipe),
            options=options, directory=args.runs, corpus=args.corpus, stop=stop,
        )  # fmt: skip
    if found is None:  # a rank above 0
        return
    show(_text(found), {**asdict(found.gains), "mixture": found.mixture}, args.format)
    if args.output:
        found.gains.write(args.output)


def _split(given: list[str]) -> tuple[list[str], InfluenceOptions]:
    """What changes the recipe, and the measurement's options."""
    from climb_opt.influence.options import InfluenceOptions
    from climb_opt.recipe_files import set_overrides
    from climb_opt.strict import build

    own = [override for override in given if override.startswith(OWN)]
    data = set_overrides({"influence": {}}, own)
    options = build(InfluenceOptions, data["influence"], "influence")
    return [override for override in given if override not in own], options


def _text(found: Influence) -> str:
    """Domains by what they gain the score: shares of the best one's gain, per component."""
    from climb_opt.reports.draw.terminal import table
    from climb_opt.text import counted, flops, percent

    gains, space = found.gains, found.space
    rows, _ = gains.tasks(space.domains)
    score = gains.of_score(space.domains)
    names = list(gains.score)
    columns = [score, *rows] if len(names) > 1 else [score]
    head = ["domain", "prior, %", "TiKMiX, %", "gain", *(names if len(names) > 1 else [])]
    units = [max(abs(column).max(), 1e-300) for column in columns]
    lines = [
        [
            space.domains[k],
            percent(space.prior[k]),
            percent(found.mixture[space.domains[k]]),
            *(f"{column[k] / unit:+.2f}" for column, unit in zip(columns, units, strict=True)),
        ]
        for k in (-score).argsort(kind="stable")
    ]
    facts = gains.facts
    notes = [
        "Gains are of a token more of each domain at the end of a proxy of the prior, in units of "
        "the largest.",
        f"Curvature: {facts['hessian']}, damped by {facts['damping']:.3g} of its mean diagonal "
        "entry. Correlation of two halves of the tokens: "
        f"{_listed(facts['reliability'])}.",
        f"It cost {flops(facts['flops'])}, those of {facts['trials']:.2f} trials.",
    ]
    if "additivity" in facts:
        notes.append(
            f"TiKMiX-M: {counted(facts['mixtures'], 'mixture')} measured by themselves against "
            f"what their domains add up to, correlation: {_listed(facts['additivity'])}."
            f"{_by_noise(facts.get('additivity_by_noise', {}))}"
        )
    return "\n".join([table(head, lines), "", *notes])


def _by_noise(ranges: dict[str, tuple[float, float] | None]) -> str:
    """What correlations come to where gradients add up: mixtures around the prior differ little."""
    told = [f"{name} {r[0]:.2f} to {r[1]:.2f}" for name, r in ranges.items() if r is not None]
    return f" Of sums that are right, noise leaves (90 %): {', '.join(told)}." if told else ""


def _listed(correlations: dict[str, float | None]) -> str:
    told = {name: "?" if r is None else f"{r:.2f}" for name, r in correlations.items()}
    return ", ".join(f"{name} {r}" for name, r in told.items())
