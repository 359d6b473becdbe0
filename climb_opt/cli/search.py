"""`climb-opt search`: create a study or join it, and work on it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from climb_opt.cli import annotating, crew, steering, warming
from climb_opt.cli.following import Following, following
from climb_opt.cli.naming import quieten_optuna, storage_arguments
from climb_opt.cli.offering import names_of, offer, recipes_of
from climb_opt.cli.steering import number
from climb_opt.cli.stopping import JOIN_WAIT, Stop, leads, rank, stop_flag
from climb_opt.errors import Interrupted, UserError

if TYPE_CHECKING:
    import optuna

    from climb_opt.workers import Status


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands to the command line."""
    search = subparsers.add_parser(
        "search",
        help="work on a search: create it, or join it from anywhere",
        description="Create the study of a recipe, or join it, and train proxies until its plan is "
        "done. Start it as often as you like, on any machine; `--workers auto` starts a worker for "
        "each GPU or core of this one, `accelerate launch -m climb_opt search NAME` makes one "
        "worker of several devices. Stopped, it is continued by the same command.",
    )
    search.add_argument(
        "name", nargs="?", help="a shipped recipe, the path of one, or the name of a study"
    )
    storage_arguments(search)
    search.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe, e.g. proxy.lr=2e-3; as often as needed",
    )
    crew.add_argument(search)
    search.add_argument("--runs", default="runs", help="folder of checkpoints and models")
    warming.add_arguments(search)
    offer(
        search,
        recipes=recipes_of("studies"),
        samplers_in_a_recipe=names_of("sampler"),
        their_predictors=names_of("predictor"),
        evaluators=names_of("evaluator"),
        pruners=names_of("pruner"),
        proxies=recipes_of("proxies"),
    )
    search.set_defaults(run=_search)

    steering.add(subparsers)


# --- search ------------------------------------------------------------------------------------


def _search(args: argparse.Namespace) -> int:
    from climb_opt.storages import location
    from climb_opt.study import discard_untried

    quieten_optuna()
    count = crew.wanted(args, location(args.storage))
    created: list[bool] = []
    with stop_flag() as stop:
        study = _join(args, lambda: created.append(True), stop)
        try:
            return _work(study, args, count, stop)
        except Exception:
            # A recipe that cannot train must not keep its name from the corrected one.
            if created:
                discard_untried(study)
            raise


def _work(study: optuna.Study, args: argparse.Namespace, count: int, stop: Stop) -> int:
    from climb_opt import study as studies
    from climb_opt.view import StudyView

    plan, status = StudyView(study).plan, 0
    if leads():
        for line in warming.begin(study, args):
            print(line)
    with following(study, plan) as follow:
        if count > 1:
            status = crew.lead(args, count, plan.widest, stop=stop, follow=follow)
        else:
            _train(study, args, stop, follow)
    if rank() > 0:
        return 0
    if stop():
        raise Interrupted("stopped")
    if leads():
        print(_conclusion(studies.status(study)))
    return status


def _train(study: optuna.Study, args: argparse.Namespace, stop: Stop, follow: Following) -> None:
    from climb_opt import study as studies

    notes = annotating.notebook_for(study, args.runs)
    studies.work(
        study,
        corpus=next((s.partition("=")[2] for s in args.set if s.startswith("corpus=")), None),
        directory=args.runs,
        wrap=notes.annotate,
        stop=stop,
        on_trial=annotating.both(follow.show, notes.on_trial),
    )


def _join(args: argparse.Namespace, on_create: Callable[[], None], stop: Stop) -> optuna.Study:
    """Rank 0 creates or joins, when the storage answers; the others wait until it has."""
    from climb_opt.storages import is_outage
    from climb_opt.study import open_study

    wanted = {"storage": args.storage, "study_name": args.study_name, "overrides": args.set}
    if rank() == 0:
        return open_study(args.name, on_create=on_create, stop=stop, **wanted)
    until = time.monotonic() + JOIN_WAIT
    while True:
        try:
            return open_study(args.name, create=False, **wanted)
        except UserError as error:
            if stop() or (time.monotonic() > until and not is_outage(error)):
                raise
            time.sleep(0.5)


def _conclusion(now: Status) -> str:
    best = "" if now.best is None else f", best score {number(now.best)}"
    text = f"{now.name}: {now.finished} of {now.size} slots done{best}."
    if now.given_up:
        slots = ", ".join(map(str, now.given_up))
        text += (
            f" Given up after repeated failures: {slots}; see `climb-opt status {now.name}`, then "
            f"`climb-opt retry {now.name}`."
        )
    return text
