"""What a search begins with: an older study by its name, a table by its path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from climb_opt.errors import UserError
from climb_opt.storages import describe, impatient, open_storage, study_lock
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
        UserError: a source that is missing, cannot be compared or is the study itself.
    """
    if source is None and lineage is not None:
        raise UserError("--lineage describes the domains of an older study: give --from STUDY too.")
    lines: list[str] = []
    if source is None and csv is None:
        return lines
    with study_lock(study):  # workers that start together import once
        if source is not None:
            old = older_study(source, storage or StudyView(study).storage)
            if _same(old, study):
                raise UserError(
                    f"--from {source!r} is the search itself; name an older study, or leave it out."
                )
            parents = read_lineage(_tokens(old), _tokens(study), lineage)
            lines += warm_start(study, old, parents).lines()
        if csv is not None:
            lines += import_csv(study, Path(csv)).lines()
    return lines


def older_study(
    name: str,
    storage: str | BaseStorage | None = None,
    stop: Callable[[], bool] | None = None,
) -> optuna.Study:
    """The study that a search is to begin with; arguments and errors as of `open_study`."""
    where = open_storage(storage, write=False, stop=stop)
    return open_study(study_name=name, storage=where, create=False, stop=stop)


def _same(old: optuna.Study, study: optuna.Study) -> bool:
    one, other = StudyView(impatient(old)), StudyView(impatient(study))
    here, there = one.storage, other.storage
    named = not isinstance(here, InMemoryStorage) and describe(here) == describe(there)
    return (here is there or named) and one.number == other.number


def _tokens(study: optuna.Study) -> dict[str, float]:
    corpus = StudyView(study).corpus
    if corpus is None:
        raise UserError(f"Study {study.study_name!r} does not say which domains it mixes.")
    return dict(corpus.tokens)
