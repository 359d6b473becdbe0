"""What a search begins with: an older study by its name, a table by its path."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from climb_opt.errors import UserError
from climb_opt.storages import open_storage, study_lock
from climb_opt.study import open_study
from climb_opt.view import StudyView
from climb_opt.warmstart.lineage import read_lineage
from climb_opt.warmstart.studies import warm_start
from climb_opt.warmstart.tables import import_csv


def begin(
    study: optuna.Study,
    source: str | None = None,
    storage: str | BaseStorage | None = None,
    lineage: str | Path | None = None,
    csv: str | Path | None = None,
) -> list[str]:
    """Import an older study, a table, or both into a study; lines for a person.

    Nothing is imported twice.

    Args:
        source: the older study's name.
        storage: where it is, unless beside `study`.
        lineage: YAML, new domain: the old ones it is made of.
        csv: a table of runs: weights and value.

    Raises:
        UserError: a source that is missing or cannot be compared.
    """
    if source is None and lineage is not None:
        raise UserError("--lineage describes the domains of an older study: give --from STUDY too.")
    lines: list[str] = []
    if source is None and csv is None:
        return lines
    with study_lock(study):  # workers that start together import once
        if source is not None:
            where = open_storage(storage or StudyView(study).storage, write=False)
            old = open_study(study_name=source, storage=where, create=False)
            parents = read_lineage(_tokens(old), _tokens(study), lineage)
            lines += warm_start(study, old, parents).lines()
        if csv is not None:
            lines += import_csv(study, Path(csv)).lines()
    return lines


def _tokens(study: optuna.Study) -> dict[str, float]:
    corpus = StudyView(study).corpus
    if corpus is None:
        raise UserError(f"Study {study.study_name!r} does not say which domains it mixes.")
    return dict(corpus.tokens)
