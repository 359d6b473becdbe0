"""`climb-opt search NEW --from OLD`, `--import-csv FILE`: begin with what is already known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from climb_opt.errors import UserError

if TYPE_CHECKING:
    import optuna

    from climb_opt.view import StudyView
    from climb_opt.warmstart import Imported


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of a warm start."""
    warm = command.add_argument_group("begin with what is known")
    warm.add_argument(
        "--from", dest="source", metavar="STUDY", help="an older study, its domains may differ"
    )
    warm.add_argument("--from-storage", help="where the older study is (default: the same)")
    warm.add_argument(
        "--lineage", metavar="FILE", help="YAML, new domain: the old ones it is made of"
    )
    warm.add_argument("--import-csv", metavar="FILE", help="a table of runs: weights and value")


def begin(study: optuna.Study, args: argparse.Namespace) -> list[str]:
    """Import what the options name into a study; lines to print. Nothing is imported twice.

    Raises:
        UserError: a source that is missing or cannot be compared.
    """
    if args.source is None and args.lineage is not None:
        raise UserError("--lineage describes the domains of an older study: give --from STUDY too.")
    from climb_opt.storages import study_lock

    lines: list[str] = []
    if args.source is None and args.import_csv is None:
        return lines
    with study_lock(study):  # workers that start together import once
        if args.source is not None:
            lines += _from_study(study, args).lines()
        if args.import_csv is not None:
            lines += _from_csv(study, args.import_csv).lines()
    return lines


def _from_study(study: optuna.Study, args: argparse.Namespace) -> Imported:
    from climb_opt.study import open_study, read_recipe
    from climb_opt.view import StudyView
    from climb_opt.warmstart import read_lineage, warm_start

    view = StudyView(study)
    where = view.storage
    if args.from_storage is not None:
        from climb_opt.storages import open_storage

        where = open_storage(args.from_storage, write=False)
    old = open_study(study_name=args.source, storage=where, create=False)
    before, now = (_tokens(v) for v in (StudyView(old), view))
    lineage = read_lineage(before, now, None if args.lineage is None else Path(args.lineage))
    return warm_start(
        study,
        old,
        lineage,
        space=view.space,
        recipe=read_recipe(study),
        old_recipe=read_recipe(old),
    )


def _tokens(view: StudyView) -> dict[str, float]:
    if view.corpus is None:
        raise UserError(f"Study {view.name!r} does not say which domains it mixes.")
    return dict(view.corpus.tokens)


def _from_csv(study: optuna.Study, file: str) -> Imported:
    from climb_opt.study import read_recipe
    from climb_opt.view import StudyView
    from climb_opt.warmstart import import_csv

    return import_csv(study, Path(file), space=StudyView(study).space, recipe=read_recipe(study))
