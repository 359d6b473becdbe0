"""Commands that train: join what rank 0 creates, train alone or by a crew, followed."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from climb_opt.cli import crew
from climb_opt.cli.following import following
from climb_opt.cli.stopping import JOIN_WAIT, Stop, leads, rank, stop_flag
from climb_opt.commands import command
from climb_opt.errors import Interrupted, UserError
from climb_opt.lookup import KINDS, OWN, check_name
from climb_opt.text import counted

if TYPE_CHECKING:
    from threading import Event

    import optuna
    from optuna.storages import BaseStorage

    from climb_opt.plan import Plan
    from climb_opt.retrain.sibling import Runner
    from climb_opt.study.seeds import Objective

T = TypeVar("T")


def arguments(command: argparse.ArgumentParser, kind: str) -> None:
    """Name the study of a `kind`; where corpus and runs are on this machine."""
    command.add_argument("--as", dest="own_name", metavar="NAME", help=f"name the {kind} study")
    command.add_argument("--corpus", help="where the corpus lies on this machine")
    runs_arguments(command)
    crew.add_argument(command)


def runs_arguments(command: argparse.ArgumentParser) -> None:
    """Say what a worker leaves on this machine, and whom it tells of its training."""
    command.add_argument("--runs", default="runs", help="folder of checkpoints and models")
    command.add_argument(
        "--track",
        metavar="TRACKER",
        help=f"where training curves go: {', '.join(KINDS['tracker'])}{OWN} (default: nowhere)",
    )


def wanted(args: argparse.Namespace) -> crew.Crew:
    """The workers that a command on a study is to start; one: it works itself."""
    from climb_opt.storages import location

    if args.track:
        from climb_opt.proxy.job import TRACK

        check_name("tracker", args.track)
        os.environ[TRACK] = args.track  # for every process of every worker that is started here
    count = crew.wanted(args, location(args.storage))
    return crew.Crew(args, count, count)


def work(team: crew.Crew, follow: crew.Follower, train: Callable[[], Any], stop: Stop) -> int:
    """Train in this process, or lead those that do, which tell `follow`. The exit status.

    Raises:
        Interrupted: this process was asked to stop.
    """
    status = 0
    if team.count > 1:
        status = crew.lead(team, stop=stop, follow=follow)
    else:
        train()
    if rank() == 0 and stop():
        raise Interrupted("stopped")
    return status


def check_any_finished(study: optuna.Study) -> None:
    """Raise a `UserError` where every attempt at a trial of a study's plan failed for good."""
    from climb_opt.study import status

    now = status(study)
    failed = [failure.reason for failure in now.failures if not failure.interrupted]
    rounds = [r for r in (now.named, *now.rounds) if r is not None]
    if now.given_up and failed and not any(r.finished for r in rounds):
        raise UserError(
            f"{now.name}: no trial finished: {counted(len(failed), 'attempt')} failed, the last: "
            f"{failed[-1].rstrip('.')}. Mend that, then run "
            f"`{command('retry', now.name)}` and the same command again."
        )


def retrain(
    study: optuna.Study, plan: Plan, team: crew.Crew, work_on: Callable[[Runner], Any], **shown: Any
) -> int | None:
    """Train what `work_on` runs; the exit status, if this process speaks.

    Trials get notes and artifacts, as those of a search do.

    Args:
        plan: all that may be run.
        shown: options of `following`.
    """
    from climb_opt.retrain.sibling import run_by
    from climb_opt.storages import patient
    from climb_opt.study import discard_untried, with_proxies

    args, team = team.args, replace(team, most=plan.widest)
    with stop_flag() as stop, following(study, plan, **shown) as follow:
        study = patient(study, stop)

        def train() -> None:
            from climb_opt.reports.dashboard.notebook import notebook_for

            def run(proxies: Objective, lost: Event) -> None:
                objective = notebook_for(study, args.runs).annotate(proxies)
                work_on(run_by(objective, stop=stop, on_trial=follow.show, lost=lost))

            with_proxies(study, run, corpus=args.corpus, directory=args.runs, stop=stop)

        try:
            status = work(team, follow, train, stop)
        except UserError:
            # What cannot train, for want of its corpus for example, must not keep the name.
            if leads():
                discard_untried(study, args.runs)
            raise
    if not leads():
        return None
    if not status:
        check_any_finished(study)
    return status


def joined(storage: BaseStorage, name: str, mark: str) -> optuna.Study | None:
    """The study `name`, marked as complete, for those who do not create it; else None.

    Raises:
        UserError: it was not created within two minutes.
    """
    if leads():
        return None
    from climb_opt.view import study_named

    def look() -> optuna.Study:
        found = study_named(storage, name)
        if found is None or mark not in found.user_attrs:
            raise UserError(f"Rank 0 did not create study {name!r} within {JOIN_WAIT:.0f} s.")
        return found

    return wait_for(look)


def wait_for(
    look: Callable[[], T],
    stop: Callable[[], bool] = lambda: False,
    not_yet: Callable[[], bool] = lambda: False,
) -> T:
    """What `look` finds, once it is there; its error when that takes too long, or `stop` says so.

    While the storage does not answer, or it cannot be there yet, it is waited for as long as that
    takes.
    """
    from climb_opt.storages import is_outage

    until = time.monotonic() + JOIN_WAIT
    while True:
        try:
            return look()
        except UserError as error:
            if not_yet():
                until = time.monotonic() + JOIN_WAIT
            if stop() or (time.monotonic() > until and not is_outage(error)):
                raise
            time.sleep(0.5)
