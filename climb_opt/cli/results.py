"""What a search found: `climb-opt best`, `report`; and `confirm`, `export`, `dashboard` beside."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb_opt.cli import confirming, handing
from climb_opt.cli.naming import existing, study_arguments
from climb_opt.errors import UserError

if TYPE_CHECKING:
    import optuna

    from climb_opt.report.advice import Advice
    from climb_opt.report.contents import Atlas, Contents
    from climb_opt.report.paired import Confirmation
    from climb_opt.report.snapshot import Snapshot
    from climb_opt.selection import Estimate, Recommendation

AUTO = "auto"  # the rule that loses least for the noise a study shows


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands to the command line."""
    best = subparsers.add_parser("best", help="the recommended mixture, rules side by side")
    study_arguments(best)
    best.add_argument("--rule", help="the rule to follow (default: the one that loses least)")
    best.add_argument("-f", "--format", choices=("table", "json", "yaml"), default="table")
    best.set_defaults(run=_best)

    report = subparsers.add_parser("report", help="one HTML page, or Markdown for a pull request")
    study_arguments(report)
    report.add_argument("--rule", help="the rule to follow")
    report.add_argument("--predictor", help="whose quality to show (default: the search's own)")
    report.add_argument("--output", metavar="FILE", help="default: runs/NAME.html, .md")
    report.add_argument("--markdown", action="store_true", help="Markdown instead of HTML")
    report.add_argument("--corpus", help="where the corpus lies on this machine, for its map")
    report.set_defaults(run=_report)

    confirming.add(subparsers)
    handing.add(subparsers)


def snapshot_of(study: optuna.Study) -> Snapshot:
    """The study as it stands, with the space that its recipe states."""
    from climb_opt.report.snapshot import take

    return take(study)


def advice_for(study: optuna.Study, snapshot: Snapshot, rule: str | None = None) -> list[Advice]:
    """What each rule recommends, the one to follow marked; empty where nothing is to be had yet."""
    from climb_opt.selection import best_mixture, compare_rules

    if not len(snapshot.history):
        return []
    if len(snapshot.directions) > 1:  # one balanced pick of the Pareto set, whatever the rule
        one = best_mixture(study, space=snapshot.space)
        return [_advice(one, one.rule, one.rule)]
    wanted = rule or AUTO
    found = compare_rules(study, rules=_rules(wanted), space=snapshot.space)
    follow = found.pop(AUTO).rule if wanted == AUTO else wanted
    if follow not in found:  # one trial, or equal scores: every rule falls back to the same
        follow = next(iter(found))
    return [_advice(r, name, follow) for name, r in found.items()]


def chosen_for(study: optuna.Study, snapshot: Snapshot, rule: str | None = None) -> Advice | None:
    """The mixture of one rule alone; None where nothing is to be had yet."""
    from climb_opt.selection import best_mixture

    if not len(snapshot.history):
        return None
    found = best_mixture(study, rule=rule or AUTO, space=snapshot.space)
    return _advice(found, found.rule, found.rule)


def _rules(wanted: str) -> list[str]:
    from climb_opt.selection import RULES

    return [*(r for r in RULES if r != AUTO), *([wanted] if wanted not in RULES else [AUTO])]


def _advice(found: Recommendation, name: str, follow: str) -> Advice:
    from climb_opt.report.advice import Advice

    return Advice(
        rule=name,
        mixture=dict(found),
        mean=None if found.predicted is None else found.predicted.mean,
        half=_half(found.predicted),
        gain=None if found.gain is None else found.gain.mean,
        gain_half=_half(found.gain),
        warnings=tuple(found.warnings),
        default=name == follow,
    )


def _half(estimate: Estimate | None) -> float | None:
    return None if estimate is None else (estimate.high - estimate.low) / 2


def confirmation_beside(study: optuna.Study) -> Confirmation | None:
    """What the study's latest confirm study with a verdict holds, else the latest one, if any."""
    from climb_opt.attributes import CONFIRM, CONFIRMED_IN
    from climb_opt.confirm import confirmation_of
    from climb_opt.confirm.finals import SUFFIX
    from climb_opt.view import StudyView

    names = [f"{study.study_name}{SUFFIX}", *study.user_attrs.get(CONFIRMED_IN, [])]
    found = []
    for name in reversed(names):
        confirm = StudyView(study).sibling(name)
        if confirm is not None and CONFIRM in confirm.user_attrs:
            found.append(confirmation_of(confirm))
            if found[-1].differences():
                return found[-1]
    return found[0] if found else None


def contents_of(
    study: optuna.Study,
    *,
    rule: str | None = None,
    predictor: str | None = None,
    every_rule: bool = True,
    atlas: Atlas | None = None,
) -> Contents:
    """Everything a report says of the study.

    Args:
        every_rule: False for the recommended mixture alone, which takes a fraction of the time.
        atlas: the map of the study's corpus, to show the mixture on.
    """
    from climb_opt.report.contents import gather

    snapshot = snapshot_of(study)
    if every_rule:
        advice = advice_for(study, snapshot, rule)
    else:
        chosen = chosen_for(study, snapshot, rule)
        advice = [] if chosen is None else [chosen]
    return gather(
        snapshot,
        advice,
        predictor=predictor,
        confirmation=confirmation_beside(study),
        atlas=atlas,
    )


def atlas_of(study: optuna.Study, path: str | None) -> Atlas | None:
    """The map of the study's corpus; None where it is not at hand or was not clustered here."""
    from climb_opt.corpus import map as maps
    from climb_opt.corpus.finish import CLUSTERS
    from climb_opt.report.contents import Atlas

    corpus = handing.corpus_of(study, path, needed=False)
    if corpus is None or not (corpus.path / CLUSTERS).is_file():
        return None
    found = maps.points(corpus)
    return Atlas(found.places, found.domain)


# --- best ----------------------------------------------------------------------------------------


def _best(args: argparse.Namespace) -> None:
    study = existing(args)
    snapshot = snapshot_of(study)
    advice = advice_for(study, snapshot, args.rule)
    if not advice:
        raise UserError(
            f"Study {study.study_name!r} has no finished trial yet; watch it with `climb-opt "
            f"status {study.study_name}`."
        )
    chosen = next(a for a in advice if a.default)
    if args.format == "json":
        print(json.dumps([_plain(a) for a in advice], indent=1, ensure_ascii=False))
    elif args.format == "yaml":
        print(_yaml(chosen), end="")
    else:
        print(_tables(study, snapshot, advice, chosen))


def _tables(study: optuna.Study, snapshot: Snapshot, advice: list[Advice], chosen: Advice) -> str:
    from climb_opt.report import plain
    from climb_opt.report.objectives import trade_offs

    space = snapshot.space
    uniform = dict.fromkeys(space.domains, 1 / len(space))
    columns = {"found": chosen.mixture, "prior": space.mixture(space.prior), "uniform": uniform}
    arrays = {name: plain.weights(mixture, space.domains) for name, mixture in columns.items()}
    parts = [plain.mixtures(space.domains, arrays)]
    found = trade_offs(snapshot)
    parts.append(plain.rules(advice, snapshot) if found is None else plain.listing(found))
    confirmation = confirmation_beside(study)
    if found is not None:
        parts.append("Another of them: `climb-opt export --trial N`.")
    elif confirmation is not None and any(confirmation.scores.values()):
        parts.append("\n".join(plain.verdicts(confirmation)))
    else:
        parts.append(f"Predicted, not yet retrained: `climb-opt confirm {study.study_name}`.")
    parts += [f"Caution: {warning}." for warning in chosen.warnings]
    return "\n\n".join(parts)


def _plain(advice: Advice) -> dict[str, Any]:
    return {
        "rule": advice.rule,
        "default": advice.default,
        "expected": advice.mean,
        "expected_half_interval": advice.half,
        "gain_over_prior": advice.gain,
        "gain_half_interval": advice.gain_half,
        "warnings": list(advice.warnings),
        "mixture": dict(advice.mixture),
    }


def _yaml(advice: Advice) -> str:
    from climb_opt.export import prepare, render

    return render("yaml", prepare(advice.mixture, study="", rule=advice.rule))


# --- report --------------------------------------------------------------------------------------


def _report(args: argparse.Namespace) -> None:
    from climb_opt.report import html, markdown

    study = existing(args)
    atlas = None if args.markdown else atlas_of(study, args.corpus)
    contents = contents_of(study, rule=args.rule, predictor=args.predictor, atlas=atlas)
    suffix = ".md" if args.markdown else ".html"
    path = Path(args.output or f"runs/{study.study_name.replace('/', '-')}{suffix}")
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
