"""All runs of an ablation, by any number of workers, resumed where they were left.

Emulated runs take seconds, so a worker does one whole; workers that share the output folder or the
storage share the work. Live runs are studies on a shared storage: every worker takes slots of the
same studies, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from climb_opt.ablation.recipe.recipe import AblationRecipe
from climb_opt.ablation.recipe.resolve import Run, runs
from climb_opt.ablation.run import sharing
from climb_opt.ablation.run.emulate import Searches, emulate
from climb_opt.ablation.run.judge import Place
from climb_opt.ablation.run.results import Archive, RunResult
from climb_opt.ablation.run.sharing import Desk
from climb_opt.errors import Interrupted
from climb_opt.storages import open_storage, rest

OnRun = Callable[[Run, RunResult], None]
OnTrial = Callable[[FrozenTrial], None]


def finished(recipe: AblationRecipe, archive: Archive) -> list[RunResult]:
    """The results there are, in the order of the runs."""
    return [result for run in runs(recipe) if (result := archive.get(run)) is not None]


def run_ablation(
    recipe: AblationRecipe,
    archive: Archive,
    *,
    storage: str | BaseStorage | None = None,
    prefix: str = "ablation",
    stop: Callable[[], bool] = lambda: False,
    on_run: OnRun = lambda run, result: None,
    on_trial: OnTrial = lambda trial: None,
) -> list[RunResult]:
    """Do the runs that are left; return all results when every run is done.

    Args:
        storage: where the runs' studies are kept (a URL, a journal's path, an Optuna storage).
            Emulated runs are kept in memory by default, live ones in a journal beside the archive.
        prefix: of the studies' names.
        stop: whether the worker was asked to stop.
        on_run: called after each run that this worker did.
        on_trial: called after each trial of a live run that this worker did.

    Raises:
        Interrupted: `stop` said so; finished runs are kept.
        UserError: a run cannot be done (an unknown option, a table that cannot be read).
    """
    if recipe.live:
        studies = open_storage(storage or str(archive.folder / "studies.journal"), stop=stop)
        place = Place(studies, prefix, archive.folder / "proxies", stop)
        return _run_live(recipe, archive, place, on_run, on_trial)
    opened = None if storage is None else open_storage(storage, stop=stop)
    desk, searches = Desk(opened, prefix, archive.folder), Searches()
    left = [run for run in runs(recipe) if archive.get(run) is None]
    while left:
        elsewhere = []
        for run in left:
            if stop():
                raise Interrupted("the ablation was stopped between two runs")
            with archive.claim(run) as mine:
                if not mine:
                    elsewhere.append(run)
                elif archive.get(run) is not None:
                    continue
                elif (found := desk.result(run)) is not None:
                    archive.put(run, found)
                elif (result := _result(run, desk, opened, prefix, searches)) is not None:
                    archive.put(run, result)
                    on_run(run, result)
                else:
                    elsewhere.append(run)
        left = [run for run in elsewhere if archive.get(run) is None]
        if len(left) == len(elsewhere) and left:
            rest(sharing.PACE.poll, stop)
    return finished(recipe, archive)


def _result(
    run: Run, desk: Desk, storage: BaseStorage | None, prefix: str, searches: Searches
) -> RunResult | None:
    """Done here; None while another worker has it."""
    if not desk.claim(run):
        return None
    try:
        with desk.at_work(run):
            result = emulate(run, storage=storage, prefix=prefix, searches=searches)
    except KeyError:  # Optuna's answer when a study is gone
        if desk.lost(run):
            return None
        raise
    desk.keep(run, result)
    return result


def _run_live(
    recipe: AblationRecipe, archive: Archive, place: Place, on_run: OnRun, on_trial: OnTrial
) -> list[RunResult]:
    from climb_opt.ablation.run.live import run_live

    for run, result in run_live(recipe, place, on_trial):
        known = archive.get(run) is not None  # judged before, or by another worker
        archive.put(run, result)
        if not known:
            on_run(run, result)
    return finished(recipe, archive)
