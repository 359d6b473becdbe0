"""What a search found: `climb-opt best`, `report`; and `confirm`, `export`, `dashboard` beside."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb_opt.cli import confirming, handing
from climb_opt.cli.naming import existing, study_arguments
from climb_opt.cli.offering import names_of, offer
from climb_opt.errors import UserError
from climb_opt.text import file_name, strict_json

if TYPE_CHECKING:
    import optuna

    from climb_opt.reports.assemble import Advice
    from climb_opt.reports.contents import Atlas
    from climb_opt.reports.snapshot import Snapshot


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands to the command line."""
    best = subparsers.add_parser("best", help="the recommended mixture, rules side by side")
    study_arguments(best)
    best.add_argument("--rule", help="the rule to follow (default: the one that loses least)")
    best.add_argument("-f", "--format", choices=("table", "json", "yaml"), default="table",
                      help="for people, or for programs (default: table)")  # fmt: skip
    offer(best, rules=names_of("rule"))
    best.set_defaults(run=_best)

    report = subparsers.add_parser("report", help="one HTML page, or Markdown for a pull request")
    study_arguments(report)
    report.add_argument("--rule", help="the rule to follow")
    report.add_argument("--predictor", help="whose quality to show (default: the search's own)")
    report.add_argument("--output", metavar="FILE", help="default: runs/NAME.html, .md")
    report.add_argument("--markdown", action="store_true", help="Markdown instead of HTML")
    report.add_argument("--corpus", help="where the corpus lies on this machine, for its map")
    offer(report, rules=names_of("rule"), predictors=names_of("predictor"))
    report.set_defaults(run=_report)

    confirming.add(subparsers)
    handing.add(subparsers)


# --- best ----------------------------------------------------------------------------------------


def _best(args: argparse.Namespace) -> None:
    from climb_opt.reports.assemble import advise
    from climb_opt.reports.snapshot import take

    study = existing(args)
    snapshot = take(study)
    advice = advise(study, snapshot, args.rule)
    if advice is None:
        raise UserError(
            f"Study {study.study_name!r} has no finished trial yet; watch it with `climb-opt "
            f"status {study.study_name}`."
        )
    if args.format == "json":
        print(strict_json([_plain(rule, advice) for rule in advice.recommended]))
    elif args.format == "yaml":
        print(_yaml(advice), end="")
    else:
        print(_tables(study, snapshot, advice))


def _tables(study: optuna.Study, snapshot: Snapshot, advice: Advice) -> str:
    from climb_opt.reports.assemble import confirmation_beside
    from climb_opt.reports.draw import terminal as plain
    from climb_opt.reports.parts.objectives import trade_offs

    space, chosen = snapshot.space, advice.chosen
    uniform = dict.fromkeys(space.domains, 1 / len(space))
    columns = {"found": chosen.mixture, "prior": space.mixture(space.prior), "uniform": uniform}
    arrays = {name: plain.weights(mixture, space.domains) for name, mixture in columns.items()}
    parts = [plain.mixtures(space.domains, arrays)]
    found = trade_offs(snapshot)
    if found is None:
        parts.append(plain.rules(advice.recommended, advice.followed, snapshot))
    else:
        parts.append(plain.listing(*found))
    confirmation = confirmation_beside(study)
    if found is not None:
        parts.append("Another of them: `climb-opt export --trial N`.")
    elif confirmation is not None and any(confirmation.scores.values()):
        parts.append("\n".join(plain.verdicts(confirmation)))
    else:
        parts.append(f"Predicted, not yet retrained: `climb-opt confirm {study.study_name}`.")
    parts += [f"Caution: {warning}." for warning in chosen.warnings]
    return "\n\n".join(parts)


def _plain(rule: str, advice: Advice) -> dict[str, Any]:
    one = advice.recommended[rule]
    return {
        "rule": rule,
        "default": rule == advice.followed,
        "expected": None if one.predicted is None else one.predicted.mean,
        "expected_half_interval": None if one.predicted is None else one.predicted.half,
        "gain_over_prior": None if one.gain is None else one.gain.mean,
        "gain_half_interval": None if one.gain is None else one.gain.half,
        "warnings": list(one.warnings),
        "mixture": dict(one),
    }


def _yaml(advice: Advice) -> str:
    from climb_opt.exports import prepare, render

    return render("yaml", prepare(advice.chosen, study="", rule=advice.followed))


# --- report --------------------------------------------------------------------------------------


def _report(args: argparse.Namespace) -> None:
    from climb_opt.reports.assemble import contents_of
    from climb_opt.reports.draw import markdown
    from climb_opt.reports.draw import page as html

    study = existing(args)
    atlas = None if args.markdown else _atlas(study, args.corpus)
    contents = contents_of(study, rule=args.rule, predictor=args.predictor, atlas=atlas)
    suffix = ".md" if args.markdown else ".html"
    path = Path(args.output or f"runs/{file_name(study.study_name)}{suffix}")
    if args.markdown and args.output in (None, "-"):
        print(markdown.render(contents), end="")
        return
    try:
        if args.markdown:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(markdown.render(contents), encoding="utf-8")
        else:
            html.write(contents, path)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written: {error.strerror}.") from None
    print(f"Report of {study.study_name}: {path}")


def _atlas(study: optuna.Study, path: str | None) -> Atlas | None:
    """The map of the study's corpus; None where it is not at hand or was not clustered here."""
    from climb_opt.corpus.after import map as maps
    from climb_opt.corpus.finish import CLUSTERS
    from climb_opt.reports.contents import Atlas

    corpus = handing.corpus_of(study, path, needed=False)
    if corpus is None or not (corpus.path / CLUSTERS).is_file():
        return None
    found = maps.points(corpus)
    return Atlas(found.places, found.domain)
