"""`climb-opt search`: create a study or join it, and work on it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from climb_opt.cli import annotating, steering, warming
from climb_opt.cli.naming import quieten_optuna, storage_arguments
from climb_opt.cli.steering import number
from climb_opt.errors import Interrupted, UserError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from climb_opt.rounds import Status

log = logging.getLogger(__name__)

JOIN_WAIT = 120.0  # seconds that ranks above 0 wait for rank 0 to create the study
SECOND_SIGNAL = 1.0  # seconds; a launcher repeats a signal at once, a person does not


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands to the command line."""
    search = subparsers.add_parser(
        "search",
        help="work on a search: create it, or join it from anywhere",
        description="Create the study of a recipe, or join it, and train proxies until its plan is "
        "done. Start it as often as you like, on any machine; `accelerate launch -m climb_opt "
        "search NAME` makes one worker of several devices. Stopped, it is continued by the same "
        "command.",
    )
    search.add_argument(
        "name", nargs="?", help="a shipped recipe, the path of one, or the name of a study"
    )
    storage_arguments(search)
    search.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe"
    )
    search.add_argument("--runs", default="runs", help="folder of checkpoints and models")
    warming.add_arguments(search)
    search.set_defaults(run=_search)

    steering.add(subparsers)


# --- search ------------------------------------------------------------------------------------


def _search(args: argparse.Namespace) -> None:
    from climb_opt.study import discard_untried

    quieten_optuna()
    created: list[bool] = []
    with _stop_flag() as stop:
        study = _join(args, lambda: created.append(True))
        try:
            _work(study, args, stop)
        except UserError:
            # A recipe that cannot train must not keep its name from the corrected one.
            if created:
                discard_untried(study)
            raise


def _work(study: optuna.Study, args: argparse.Namespace, stop: _Stop) -> None:
    from climb_opt import study as studies

    corpus = next((s.partition("=")[2] for s in args.set if s.startswith("corpus=")), None)
    if _rank() == 0:
        for line in warming.begin(study, args):
            print(line)
    with _progress(study) as progress:
        notes = annotating.notebook_for(study, args.runs)
        studies.work(
            study,
            corpus=corpus,
            directory=args.runs,
            wrap=notes.annotate,
            stop=stop,
            on_trial=annotating.both(progress.show, notes.on_trial),
        )
    if _rank() > 0:
        return
    if stop():
        raise Interrupted("stopped")
    print(_conclusion(studies.status(study)))


def _join(args: argparse.Namespace, on_create: Callable[[], None]) -> optuna.Study:
    """Rank 0 creates or joins; the others wait until it has."""
    from climb_opt.study import open_study

    wanted = {"storage": args.storage, "study_name": args.study_name, "overrides": args.set}
    if _rank() == 0:
        return open_study(args.name, on_create=on_create, **wanted)
    until = time.monotonic() + JOIN_WAIT
    while True:
        try:
            return open_study(args.name, create=False, **wanted)
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _rank() -> int:
    """This process's place in its launch; known before any process group is."""
    return int(os.environ.get("RANK", "0"))


class _Stop:
    """Becomes true with the first signal; a later one ends the process where it stands."""

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self) -> bool:
        return self._first is not None

    def signalled(self, signum: int, frame: Any) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            if _rank() == 0:
                text = "\nStopping: the trial is saved and given back. Once more: leave at once.\n"
                os.write(2, text.encode())
        elif now - self._first > SECOND_SIGNAL:
            raise KeyboardInterrupt


@contextmanager
def _stop_flag() -> Iterator[_Stop]:
    stop = _Stop()
    before = {s: signal.signal(s, stop.signalled) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class _Progress:
    """One line a trial, and a bar with rate and time left where a person looks."""

    def __init__(self, study: optuna.Study, bar: Any) -> None:
        from climb_opt.view import StudyView

        self._study, self._bar = study, bar
        self._plan = StudyView(study).plan

    def show(self, trial: FrozenTrial) -> None:
        from climb_opt import rounds

        now = rounds.status(self._study, self._plan)
        self._bar.write(self._line(trial, now), file=sys.stdout)
        sys.stdout.flush()
        self._bar.n = now.finished
        self._bar.set_postfix_str(f"best {number(now.best)}", refresh=False)
        self._bar.refresh()

    def _line(self, trial: FrozenTrial, now: Status) -> str:
        from climb_opt.attributes import ERROR, INTERRUPTED, SLOT

        slot = trial.user_attrs.get(SLOT)
        if isinstance(slot, int):
            place = f"round {self._plan.round_of(slot) + 1}  slot {slot}"
        else:
            place = slot or "no slot"
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        head = f"trial {trial.number:>4}  {place:<20}"
        # Optuna gives a pruned trial its last report as a value: not a score.
        if trial.values is not None and trial.state.name != "PRUNED":
            scores = " / ".join(map(number, trial.values))
            best = f"  best {number(now.best)}" if len(trial.values) == 1 else ""
            return f"{head}  score {scores}{best}  {seconds:.1f} s"
        what = trial.state.name.lower()
        if trial.user_attrs.get(INTERRUPTED):
            what = "given back"
        elif trial.user_attrs.get(ERROR):
            what = f"failed: {trial.user_attrs[ERROR]}"
        return f"{head}  {what}  {seconds:.1f} s"


@contextmanager
def _progress(study: optuna.Study) -> Iterator[_Progress]:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from climb_opt.study import status

    now = status(study)
    # disable=None: no bar where nobody looks (a file, a pipe, a cluster's log).
    with (
        logging_redirect_tqdm(),
        tqdm(
            total=now.size, initial=now.finished, desc=now.name, unit="trial", disable=None
        ) as bar,
    ):
        yield _Progress(study, bar)


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
