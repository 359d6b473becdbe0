"""`climb-opt export` and `dashboard`: the mixture for a trainer, the study for a browser."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb_opt.cli.naming import existing, study_arguments
from climb_opt.cli.offering import names_of, offer
from climb_opt.errors import UserError
from climb_opt.progress import progress

if TYPE_CHECKING:
    import optuna

    from climb_opt.exports import Handover
    from climb_opt.shards import Corpus

MATERIALISE = "materialise"
EXPORT_EPILOG = """examples:
  climb-opt export climb-62m --format megatron --path 'data/{domain}_text_document'
  climb-opt export climb-62m --format olmo-core --tokens 40e9 --output mix.yaml
  climb-opt export climb-62m --format materialise --tokens 1e9 --output data/mixed
  climb-opt export climb-62m --trial 17 --format yaml | climb-opt enqueue climb-62m -
"""


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands to the command line."""
    export = subparsers.add_parser(
        "export",
        help="the mixture in the form a trainer reads",
        epilog=EXPORT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study_arguments(export)
    export.add_argument("--format", required=True, help="see below")
    export.add_argument(
        "--output", metavar="PATH", help="a file (default: print); for materialise a folder"
    )
    export.add_argument(
        "--rule",
        help="the rule to follow (default: the one that loses least)",
    )
    export.add_argument("--trial", type=int, metavar="N", help="a trial's mixture instead")
    export.add_argument(
        "--path",
        metavar="TEMPLATE",
        help="where a domain's data is for the trainer; {domain} is its name made safe for a path, "
        "{index} its place in the corpus, 000 for the first (default: the corpus's own shards, "
        "else what `corpus export` makes below data/)",
    )
    export.add_argument("--tokens", metavar="N", help="what the run will train on, e.g. 40e9")
    export.add_argument(
        "--sequence", type=int, default=2048, metavar="N", help="tokens a sequence (default: 2048)"
    )
    export.add_argument(
        "--seed", type=int, default=42, metavar="N", help="for formats that shuffle (default: 42)"
    )
    export.add_argument("--corpus", help="where the corpus lies on this machine")
    export.add_argument("--documents", action="store_true", help="materialise text, not tokens")
    export.set_defaults(run=_export)
    offer(export, formats=names_of("format"), rules=names_of("rule"))

    dashboard = subparsers.add_parser("dashboard", help="optuna-dashboard on the study")
    study_arguments(dashboard)
    dashboard.add_argument("--host", default="localhost", help="address to serve on; 0.0.0.0: all")
    dashboard.add_argument("--port", type=int, default=8080, help="default: 8080")
    dashboard.add_argument("--artifacts", metavar="FOLDER", help="of the trials (default: stored)")
    dashboard.set_defaults(run=_dashboard)


# --- export --------------------------------------------------------------------------------------


def _export(args: argparse.Namespace) -> None:
    from climb_opt.exports import format_of, render

    if args.format == MATERIALISE:
        _materialise(args)
        return
    format_of(args.format)  # before the study is read
    text = render(args.format, _handover(args, needs_corpus=False)[0])
    if args.output in (None, "-"):
        sys.stdout.write(text)
        return
    path = Path(args.output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{args.output!r} cannot be written: {error.strerror}.") from None
    print(f"{args.format}: {path}")


def _materialise(args: argparse.Namespace) -> None:
    from climb_opt.exports.materialise import materialise
    from climb_opt.text import amount

    if args.output is None:
        raise UserError("Materialising writes a folder: give --output FOLDER.")
    handover, corpus = _handover(args, needs_corpus=True)
    assert corpus is not None
    kind: Any = "documents" if args.documents else "tokens"
    with progress(handover.tokens, "tokens", "token", large=True) as bar:
        written = materialise(
            handover, corpus, Path(args.output), kind=kind, progress=lambda n: bar.update(n)
        )
    most = max(written.epochs, key=lambda d: written.epochs[d])
    cut = sum(written.cut.values())
    print(
        f"{written.path}: {amount(written.total)} tokens, {sum(written.documents.values())} "
        f"documents{f' ({cut} cut to fit)' if cut else ''}; {most!r} is read "
        f"{written.epochs[most]:.2f} times."
    )


def _handover(args: argparse.Namespace, *, needs_corpus: bool) -> tuple[Handover, Corpus | None]:
    from climb_opt.exports import prepare
    from climb_opt.view import StudyView

    if args.sequence < 1:
        raise UserError(f"--sequence must be at least 1 token, but is {args.sequence}.")
    tokens, study = _tokens(args.tokens), existing(args)
    view = StudyView(study)
    mixture, rule = _mixture(args, study)
    corpus = corpus_of(study, args.corpus, needed=needs_corpus)
    handover = prepare(
        mixture,
        study=study.study_name,
        rule=rule,
        corpus=corpus,
        corpus_path=args.corpus or (view.recipe.corpus if view.recipe else None) or "CORPUS",
        inventory=view.corpus.tokens if view.corpus is not None else None,
        template=args.path,
        tokens=tokens,
        sequence=args.sequence,
        seed=args.seed,
    )
    return handover, corpus


def _mixture(args: argparse.Namespace, study: optuna.Study) -> tuple[dict[str, float], str]:
    from climb_opt.reports.assemble import advise
    from climb_opt.reports.snapshot import take
    from climb_opt.view import StudyView

    if args.trial is None:
        advice = advise(study, take(study), args.rule, every=False)
        if advice is None:
            raise UserError(
                f"Study {study.study_name!r} has nothing to export yet: no trial has finished. "
                f"`climb-opt status {study.study_name}` shows how far it is."
            )
        return dict(advice.chosen), advice.followed
    trials = {t.number: t for t in study.get_trials(deepcopy=False)}
    if args.trial not in trials:
        raise UserError(f"Study {study.study_name!r} has no trial {args.trial}.")
    space = StudyView(study).space
    weights = space.weights_of(trials[args.trial])
    if weights is None:
        raise UserError(f"Trial {args.trial} of {study.study_name!r} holds no mixture.")
    return space.mixture(weights), f"trial {args.trial}"


def corpus_of(study: optuna.Study, path: str | None, *, needed: bool) -> Corpus | None:
    """The study's corpus; None where it is not at hand and neither `needed` nor named by `path`.

    Raises:
        UserError: it is missing though needed, or it is another one.
    """
    from climb_opt.shards import MANIFEST, Corpus
    from climb_opt.study import check_corpus, read_recipe
    from climb_opt.view import StudyView

    optional = not needed and not path
    folder = Path(path or read_recipe(study).corpus)
    if optional and not (folder / MANIFEST).is_file():
        return None
    corpus = Corpus.load(folder)
    made_with = StudyView(study).corpus
    if optional and (made_with is None or not corpus.is_known_as(made_with.digest)):
        return None  # another corpus lies where the study's did
    check_corpus(study, corpus)
    return corpus


def _tokens(given: str | None) -> int | None:
    if given is None:
        return None
    try:
        tokens = float(given.replace("_", ""))
    except ValueError:
        tokens = float("nan")
    if not 1 <= tokens < 1e18:
        raise UserError(f"--tokens must be a number of tokens such as 40e9, but is {given!r}.")
    return int(tokens)


# --- dashboard -----------------------------------------------------------------------------------


def _dashboard(args: argparse.Namespace) -> None:
    from climb_opt.attributes import ARTIFACTS
    from climb_opt.reports.dashboard import server as board
    from climb_opt.view import StudyView

    study = existing(args, write=True)
    view = StudyView(study)
    folder = args.artifacts or study.user_attrs.get(ARTIFACTS)
    store = None
    if folder is not None and Path(folder).is_dir():
        from optuna.artifacts import FileSystemArtifactStore

        store = FileSystemArtifactStore(str(folder))
    app = board.application(view.storage, store)
    url = f"http://{args.host}:{args.port}/dashboard/studies/{view.number}"
    print(f"{study.study_name}: {url}\nCtrl-C stops the dashboard, not the search.", flush=True)
    # The cards of a large study take some seconds: the browser need not wait for them.
    cards = threading.Thread(target=_refresh, args=(study,), daemon=True)
    cards.start()
    try:
        board.serve(app, host=args.host, port=args.port)
    except OSError as error:
        raise UserError(
            f"Port {args.port} of {args.host} cannot be used: {error.strerror}. "
            "Give another --port."
        ) from None
    cards.join()


def _refresh(study: optuna.Study) -> None:
    from climb_opt.reports.assemble import contents_of
    from climb_opt.reports.dashboard import notebook

    try:
        notebook.show(study, contents_of(study, every_rule=False))
    except UserError as error:
        print(f"No cards yet: {error}", flush=True)
