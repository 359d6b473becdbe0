"""What a worker leaves for optuna-dashboard: the notebook of its study, wired to the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from climb_opt.reports.contents import Contents
    from climb_opt.reports.dashboard.notebook import Notebook

FOLDER = "artifacts"  # in the folder of runs


def notebook_for(study: optuna.Study, runs: str | Path) -> Notebook:
    """The notebook of a study: its `annotate` goes around the objective, its `on_trial` after it.

    Args:
        runs: artifacts go to its folder `artifacts`, which the study remembers.
    """
    from climb_opt.attributes import ARTIFACTS
    from climb_opt.reports.dashboard.notebook import Notebook
    from climb_opt.view import StudyView

    folder = study.user_attrs.get(ARTIFACTS)
    if folder is None:
        folder = str((Path(runs) / FOLDER).resolve())
        study.set_user_attr(ARTIFACTS, folder)
    space = StudyView(study).space
    return Notebook(
        study,
        artifacts=Path(folder),
        prior=space.mixture(space.prior),
        contents=_contents,
    )


def both(
    *calls: Callable[[FrozenTrial], Any],
) -> Callable[[FrozenTrial], None]:
    """One `on_trial` of several."""

    def call(trial: FrozenTrial) -> None:
        for one in calls:
            one(trial)

    return call


def _contents(study: optuna.Study) -> Contents:
    from climb_opt.reports.assemble import contents_of

    return contents_of(study, every_rule=False)
