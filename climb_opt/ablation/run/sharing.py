"""Emulated runs shared by workers that have a storage in common but no folder: several machines.

A run belongs to whoever created its study, and its result is kept in the study. Its worker beats
on the study, as workers of a search do on their trials, so that a run may take its time; one whose
worker is dead is done again from its beginning.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from climb_opt.ablation.recipe.resolve import Run
from climb_opt.ablation.run.results import RunResult, plain, run_digest
from climb_opt.ablation.run.searching import check_ours, study_of
from climb_opt.attributes import ABLATION, RESULT, RUN_BEAT
from climb_opt.errors import UserError
from climb_opt.storages.locks import study_lock
from climb_opt.strict import build
from climb_opt.view import StudyView
from climb_opt.workers import Pace
from climb_opt.workers.beats import Heart, Silence, machine, sign

log = logging.getLogger(__name__)

PACE = Pace(beat=20.0, grace=120.0, poll=1.0)


class Desk:
    """Who does which run. Without a storage every run is free, and the folder's locks decide.

    Args:
        folder: the worker's own. Its lock on a run shows that nobody else of this folder has it.
    """

    def __init__(self, storage: BaseStorage | None, prefix: str, folder: Path) -> None:
        self._storage, self._prefix = storage, prefix
        self._owner = f"{machine() or platform.node()}:{folder.resolve()}"
        self._silence = Silence(PACE.grace)

    def result(self, run: Run) -> RunResult | None:
        """What another worker found, if it has finished.

        Raises:
            UserError: it read a table, or ran a method, that is another one here.
        """
        study = self._study(run)
        stored = None if study is None else study.user_attrs.get(RESULT)
        if stored is None or study is None:
            return None
        result = build(RunResult, json.loads(stored), f"study {study.study_name}")
        if (name := result.outdated(run)) is not None:
            raise UserError(
                f"The storage holds run {run.key} of another {name} than the one here: it has "
                "changed since, or workers differ. Give them the same, and --study-name NEW."
            )
        return result

    def claim(self, run: Run) -> bool:
        """Whether the run is this worker's now.

        Raises:
            UserError: a study of its name exists that belongs to no ablation.
        """
        if self._storage is None or not run.arm.searches:
            return True
        study = self._study(run)
        if study is None:
            return self._create(run)
        if not self._dead(study, run):
            return False
        with study_lock(study):
            now = self._study(run)
            if now is not None and StudyView(now).number != StudyView(study).number:
                return False  # another waiter was faster
            if now is not None:
                optuna.delete_study(study_name=study.study_name, storage=self._storage)
            return self._create(run)

    @contextmanager
    def at_work(self, run: Run) -> Iterator[None]:
        """While this worker does a run that it claimed: the others see that it lives."""
        study = self._study(run)
        with nullcontext() if study is None else Heart.of_run(study, PACE.beat):
            yield

    def keep(self, run: Run, result: RunResult) -> None:
        """Let the other workers have the result."""
        if (study := self._study(run)) is not None:
            study.set_user_attr(RESULT, json.dumps(plain(dataclasses.asdict(result))))

    def lost(self, run: Run) -> bool:
        """Whether the run's study was taken for a dead worker's, and is another worker's now."""
        study = self._study(run)
        return study is None or study.user_attrs.get(ABLATION, {}).get("owner") != self._owner

    # --- private ---------------------------------------------------------------------------------

    def _study(self, run: Run) -> optuna.Study | None:
        if self._storage is None or not run.arm.searches:
            return None
        _, study = study_of(self._storage, self._prefix, run)
        if study is not None and (study.user_attrs or study.trials):
            check_ours(study)  # one that is just being created does not say so yet
        return study

    def _dead(self, study: optuna.Study, run: Run) -> bool:
        if study.user_attrs.get(ABLATION, {}).get("owner") == self._owner:
            return True  # we hold its lock in this folder
        beat = study.user_attrs.get(RUN_BEAT)
        reason = self._silence.broken(run.key, beat, StudyView(study).number)
        if not reason:
            return False
        check_ours(study)
        log.warning("Run %s is done again here: %s.", run.key, reason)
        return True

    def _create(self, run: Run) -> bool:
        assert self._storage is not None
        try:
            name, _ = study_of(self._storage, self._prefix, run)
            study = optuna.create_study(study_name=name, storage=self._storage)
        except optuna.exceptions.DuplicatedStudyError:
            return False
        belongs = {"key": run.key, "digest": run_digest(run), "owner": self._owner}
        study.set_user_attr(ABLATION, belongs)
        study.set_user_attr(RUN_BEAT, sign(0))
        return True
