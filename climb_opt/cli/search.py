"""`climb-opt search`: create a study or join it, and work on it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TextIO

from climb_opt.cli import crew, process
from climb_opt.cli.arguments import quieten_optuna, set_argument, storage_arguments
from climb_opt.cli.following import Following, following
from climb_opt.cli.offering import names_of, offer, recipes_of
from climb_opt.cli.stopping import Stop, leads, member, rank, stop_flag
from climb_opt.commands import command
from climb_opt.text import score

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from climb_opt.study.seeds import Objective
    from climb_opt.workers import Status

log = logging.getLogger(__name__)

READY = "ready to train"  # what a worker of `--workers` prints; its leader keeps it to itself


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `search` to the command line."""
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
    set_argument(search, "change a key of the recipe, e.g. proxy.lr=2e-3; as often as needed")
    crew.add_argument(search)
    process.runs_arguments(search)
    _add_warm_start(search)
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


def _add_warm_start(command: argparse.ArgumentParser) -> None:
    warm = command.add_argument_group("begin with what is known")
    warm.add_argument(
        "--from", dest="source", metavar="STUDY", help="an older study, its domains may differ"
    )
    warm.add_argument("--from-storage", help="where the older study is (default: the same)")
    warm.add_argument(
        "--lineage", metavar="FILE", help="YAML, new domain: the old ones it is made of"
    )
    warm.add_argument("--import-csv", metavar="FILE", help="a table of runs: weights and value")


def _search(args: argparse.Namespace) -> int:
    from climb_opt.study import discard_untried

    quieten_optuna()
    team, created = process.wanted(args), _Created()
    with stop_flag() as stop:
        if leads() and args.source:  # what is missing is said before the search has its name
            from climb_opt.warmstart import older_study

            older_study(args.source, args.from_storage or args.storage, stop)
        study = _join(args, created.hear, stop)
        try:
            return _work(study, team, stop, created)
        except Exception:
            # A recipe that cannot train must not keep its name from the corrected one.
            if created.news and discard_untried(study, args.runs) and created.told:
                log.info("Removed study %s again: nothing was trained for it.", study.study_name)
            raise


class _Created:
    """Whether this command made the study: told once a trial may begin, since nothing is left of
    what cannot train. A worker of `--workers` tells its leader that one may."""

    def __init__(self) -> None:
        self.news, self.told = "", False

    def hear(self, news: str) -> None:
        self.news = news

    def tell(self) -> None:
        if member():
            print(READY, flush=True)
        elif self.news and not self.told:
            self.told = True
            log.info("%s", self.news)


class _Led:
    """What `following` follows, told by workers: their first `READY` is for `_Created`."""

    def __init__(self, follow: Following, created: _Created) -> None:
        self._follow, self._created, self.move = follow, created, follow.move

    def say(self, text: str, file: TextIO) -> None:
        if text == READY:
            self._created.tell()
        else:
            self._follow.say(text, file)


def _work(study: optuna.Study, team: crew.Crew, stop: Stop, created: _Created) -> int:
    from climb_opt import study as studies
    from climb_opt.storages import open_storage
    from climb_opt.view import StudyView
    from climb_opt.warmstart import begin

    args, plan = team.args, StudyView(study).plan
    if leads():
        older = args.from_storage and open_storage(args.from_storage, write=False, stop=stop)
        lines = begin(study, args.source, older, args.lineage, args.import_csv)
        if lines:
            created.tell()
        for line in lines:
            print(line)
    if team.count > 1:
        studies.load_corpus(study, studies.corpus_here(study, args.set))  # built once, here
    with following(study, plan) as follow:
        train = partial(_train, study, args, stop, follow, created)
        led = _Led(follow, created)
        status = process.work(replace(team, most=plan.widest), led, train, stop)
    if leads():
        created.tell()  # of workers that died before they were ready: the study stays
        print(_conclusion(studies.status(study)))
        if not status:
            process.check_any_finished(study)
    return status


def _train(
    study: optuna.Study, args: argparse.Namespace, stop: Stop, follow: Following, created: _Created
) -> None:
    from climb_opt import study as studies
    from climb_opt.reports.dashboard.notebook import notebook_for

    notes = notebook_for(study, args.runs)

    def wrap(proxies: Objective) -> Objective:  # that can train
        created.tell()
        return notes.annotate(proxies)

    def on_trial(trial: FrozenTrial) -> None:
        follow.show(trial)
        notes.on_trial(trial)

    studies.work(
        study,
        corpus=studies.corpus_here(study, args.set),
        directory=args.runs,
        wrap=wrap,
        stop=stop,
        on_trial=on_trial,
    )


def _join(args: argparse.Namespace, on_create: Callable[[str], None], stop: Stop) -> optuna.Study:
    """Rank 0 creates or joins, when the storage answers; the others wait until it has."""
    from climb_opt.study import awaits_corpus, open_study

    look = partial(
        open_study, args.name, storage=args.storage, study_name=args.study_name, overrides=args.set
    )
    if rank() == 0:
        return look(on_create=on_create, stop=stop)
    building = partial(awaits_corpus, args.name, args.set)  # by rank 0
    return process.wait_for(partial(look, create=False), stop, building)


def _conclusion(now: Status) -> str:
    from climb_opt.cli.status import at_target, slots_done, spending

    best = "" if now.best is None else f", best score {score(now.best)}{at_target(now)}"
    spent = f", {spending(now)}" if now.rungs else ""
    text = f"{now.name}: {slots_done(now)}{best}{spent}."
    if now.given_up:
        slots = ", ".join(map(str, now.given_up))
        text += (
            f" Given up after repeated failures: {slots}; see `{command('status', now.name)}`, "
            f"then `{command('retry', now.name)}`."
        )
    left_out = [f"caution: {said}" for said in now.verdicts if " does not hold here" in said]
    return "\n".join([text, *left_out])
