"""What workers leave on optuna-dashboard: notes and artifacts of trials, cards of the study.

A trial's note and artifacts are written inside the objective, because the dashboard takes none from
a finished trial; the study's cards and note once per round, by whichever worker ends it. All of it
is for people: where a package or the artifact folder is missing, the search goes on without.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from climb_opt.attributes import ARTIFACTS, COMPONENTS, FACTS, METHOD, PATH, SHOWN
from climb_opt.errors import Interrupted, UserError
from climb_opt.extras import installed
from climb_opt.paths import path_mean
from climb_opt.phases import PhasedSpace, one_phase, to_train
from climb_opt.reports.contents import Contents
from climb_opt.reports.dashboard import cards, notes
from climb_opt.reports.draw import markdown
from climb_opt.reports.report import contents_of
from climb_opt.reports.snapshot import Snapshot, take
from climb_opt.schedules import Schedule
from climb_opt.study.seeds import Objective
from climb_opt.text import redact
from climb_opt.view import StudyView, mixture_of

log = logging.getLogger(__name__)

FOLDER = "artifacts"  # in the folder of runs


class Notebook:
    """Writes notes, artifacts and cards for one worker.

    Args:
        study: whose trials are annotated.
        artifacts: the folder that the dashboard serves; None writes no artifacts.
        prior: domain -> weight, to set beside each mixture.
        contents: computes the report's contents when a round has ended.
    """

    def __init__(
        self,
        study: optuna.Study,
        *,
        artifacts: Path | None = None,
        prior: dict[str, float] | None = None,
        contents: Callable[[optuna.Study], Contents] | None = None,
    ) -> None:
        self.study, self.prior = study, prior
        self.artifacts = artifacts
        self._contents = contents
        self._installed = installed("optuna_dashboard")
        if not self._installed:
            log.info("No notes for the dashboard: pip install 'climb-opt[dashboard]' for them.")

    def annotate(self, objective: Objective) -> Objective:
        """`objective`, with a note and artifacts written when it has succeeded."""
        if not self._installed:
            return objective

        def call(trial: optuna.Trial) -> Any:
            try:
                value = objective(trial)
            except optuna.TrialPruned:
                if (path := trial.user_attrs.get(PATH)) and METHOD in trial.user_attrs:
                    self.try_to_write(trial, path_mean(path))
                raise
            self.try_to_write(trial)
            return value

        return call

    def try_to_write(self, trial: optuna.Trial, learnt: dict[str, float] | None = None) -> None:
        """`write`; a failure is logged and no more."""
        try:
            self.write(trial, learnt)
        except Exception as error:  # a note that fails must not cost a trained proxy
            _tell(f"Trial {trial.number} has no note", error)

    def write(self, trial: optuna.Trial, learnt: dict[str, float] | None = None) -> None:
        """The note and the artifacts of a running trial.

        Args:
            learnt: the mixture that came of it, where it is not the one it was trained on.
        """
        mixture, schedule = self._read(trial) if learnt is None else (learnt, None)
        if not mixture:
            return
        attrs, ladder = trial.user_attrs, StudyView(self.study).ladder
        rung = ladder.rungs[ladder.rung_of(trial)].name if ladder else ""
        body = notes.trial_note(
            mixture,
            attrs.get(COMPONENTS, {}),
            {**attrs.get(FACTS, {}), "rung": rung, "schedule": schedule, "path": attrs.get(PATH)},
            prior=self.prior,
            rerun="" if learnt else notes.rerun_command(self.study.study_name, trial.number, rung),
        )
        _dashboard().save_note(trial, body)
        if self.artifacts is not None:
            self._upload(trial, mixture, schedule)

    def _read(self, trial: optuna.Trial) -> tuple[Mapping[str, float], Schedule | None]:
        """The mixture of a trial's whole run, and its schedule where it has phases."""
        view = StudyView(self.study)
        if view.prior_known and isinstance(view.space, PhasedSpace):
            return to_train(view.space, view.space.suggest(trial))
        return mixture_of(trial), None

    def on_trial(self, trial: FrozenTrial) -> None:
        """After a trial: the study's cards, if it ended a round."""
        if self._contents is None or not self._installed or not installed("plotly"):
            return
        ended = rounds_ended(take(self.study))
        if ended <= int(self.study.user_attrs.get(SHOWN, 0)):
            return
        self.study.set_user_attr(SHOWN, ended)
        try:
            show(self.study, self._contents(self.study))
        except Exception as error:  # whatever is wrong with a picture, the search goes on
            _tell("The dashboard's cards were not refreshed", error)

    def _upload(
        self, trial: optuna.Trial, mixture: Mapping[str, float], schedule: Schedule | None
    ) -> None:
        from optuna.artifacts import FileSystemArtifactStore, upload_artifact

        assert self.artifacts is not None
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            store = FileSystemArtifactStore(str(self.artifacts))
            with tempfile.TemporaryDirectory() as folder:
                files = [table := Path(folder, "mixture.csv")]
                table.write_text(notes.mixture_csv(mixture, self.prior, schedule), "utf-8")
                if installed("matplotlib"):
                    files.append(Path(folder, "mixture.png"))
                    notes.mixture_png(mixture, files[-1], self.prior)
                for path in files:
                    upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial)
        except OSError as error:
            log.warning("Artifacts of trial %d were not written: %s.", trial.number, error)


def notebook_for(study: optuna.Study, runs: str | Path) -> Notebook:
    """The notebook of a study: its `annotate` goes around the objective, its `on_trial` after it.

    Args:
        runs: artifacts go to its folder `artifacts`, which the study remembers.
    """
    folder = study.user_attrs.get(ARTIFACTS)
    if folder is None:
        folder = str((Path(runs) / FOLDER).resolve())
        study.set_user_attr(ARTIFACTS, folder)
    space = StudyView(study).space
    return Notebook(
        study,
        artifacts=Path(folder),
        prior=one_phase(space).mixture(one_phase(space).prior),
        contents=lambda study: contents_of(study, every_rule=False),
    )


def artifact_store(study: optuna.Study, folder: str | Path | None = None) -> Any:
    """Where the artifacts of a study's trials are; None where that is not on this machine.

    Args:
        folder: instead of the one that the study remembers.
    """
    from optuna.artifacts import FileSystemArtifactStore

    stored = folder or study.user_attrs.get(ARTIFACTS)
    return FileSystemArtifactStore(str(stored)) if stored and Path(stored).is_dir() else None


def show(study: optuna.Study, contents: Contents) -> None:
    """Put the report on the study's page: cards and a note."""
    dashboard = _dashboard()
    for name, figure in cards.cards(contents).items():
        dashboard.save_plotly_graph_object(study, figure, graph_object_id=name)
    dashboard.save_note(study, markdown.render(contents))


def rounds_ended(snapshot: Snapshot) -> int:
    """How many rounds, from the first on, have no slot left to run; tenths of a budget spent."""
    plan = snapshot.plan
    if plan.budget is not None and plan.ladder is not None:
        return int(10 * plan.ladder.spent(snapshot.taken) / plan.budget)
    numbers = range(len(plan.rounds))
    open_ones = (i for i in numbers if not plan.ended(plan.slots(i), snapshot.taken))
    return next(open_ones, len(plan.rounds))


def _tell(what: str, error: Exception) -> None:
    """One line, where the error says what is wrong: a full disk, a storage that is away."""
    said = isinstance(error, (UserError, Interrupted))
    log.warning("%s%s", what, f": {redact(error)}" if said else ".", exc_info=not said)


def _dashboard() -> Any:
    with warnings.catch_warnings(action="ignore"):  # GPyTorch, which it imports, warns of torch.jit
        import optuna_dashboard
    return optuna_dashboard
