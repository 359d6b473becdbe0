"""Signs of life: a worker's beat on what it is at, and how others see that it stopped."""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from climb_opt.attributes import BEAT, RUN_BEAT, SLOT
from climb_opt.files import is_full
from climb_opt.storages import impatient, is_outage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often workers write and look, in seconds.

    All workers of a study need the same `beat` and `grace`; a trial without a beat for `grace`
    seconds is failed. `poll` is the longest pause of a worker that waits for others.
    """

    beat: float = 30.0
    grace: float = 180.0
    poll: float = 10.0


def worker_name() -> str:
    """The machine and the process, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


def sign(count: int) -> dict[str, Any]:
    """The beat that a worker writes. `at` is its own clock, never compared with another's."""
    return {"count": count, "at": time.time(), "worker": worker_name(), "life": life(os.getpid())}


@functools.lru_cache
def machine() -> str | None:
    """This boot of this machine and its process namespace; None where Linux does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def life(process: int) -> str | None:
    """One life of one process: machine, number and start time; None if it is no more.

    A dead process stays in the table until its parent asks for it, which in a container may be
    never: it is no more, too.
    """
    try:
        # Fields 3 and 22, counted after the name in parentheses, which may hold blanks.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        state, start = fields[0], fields[19]
    except (OSError, IndexError):
        return None
    return None if state in "ZX" else f"{machine()}/{process}/{start}"


class Heart:
    """Beats, in a thread, while it is entered. A storage that is away misses beats.

    Args:
        write: stores a beat, in one attempt: one that comes late is worth nothing.
        whose: what the worker is at, in words.
        lost: set where that has ended without this worker.
    """

    def __init__(
        self,
        write: Callable[[dict[str, Any]], None],
        interval: float,
        whose: str,
        lost: threading.Event | None = None,
    ) -> None:
        self._write, self._interval, self._whose = write, interval, whose
        self._lost = lost or threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="climb-beat", daemon=True)

    @classmethod
    def of_trial(cls, trial: optuna.Trial, interval: float, lost: threading.Event) -> Heart:
        """Beats on a trial."""
        store = impatient(trial.study)._storage.set_trial_user_attr
        write = functools.partial(store, trial._trial_id, BEAT)
        return cls(write, interval, f"trial {trial.number}", lost)

    @classmethod
    def of_run(cls, study: optuna.Study, interval: float) -> Heart:
        """Beats on a study that one worker does whole: an ablation's run."""
        store = impatient(study)._storage.set_study_user_attr
        write = functools.partial(store, study._study_id, RUN_BEAT)
        return cls(write, interval, f"run {study.study_name}")

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=self._interval)

    def _beat(self) -> None:
        count = 1
        while not self._done.wait(self._interval):
            try:
                self._write(sign(count))
                count += 1
            except (UpdateFinishedTrialError, KeyError):
                if not self._done.is_set():  # deleted, or taken for dead while this process slept
                    self._lost.set()
                return
            except Exception as error:
                if not is_outage(error) and not is_full(error):
                    log.warning("The beat of %s stopped: %s", self._whose, error)
                    return


class Silence:
    """For how long workers have given no sign, by what this process saw itself.

    Silence is only counted while this process looked: of a gap between two looks at most a quarter
    of `grace`. While a database is away nobody can beat, and its return must not look like the
    death of all.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._seen: dict[Hashable, tuple[Any, float, float]] = {}  # key -> beat, seconds, looked

    def broken(self, key: Hashable, beat: Any, since: Any = None) -> str:
        """Why the worker that holds `key` is taken for dead; "" while it is not.

        Args:
            since: what else must stay the same for a silence to go on.
        """
        now, state = time.monotonic(), (beat, since)
        before, seconds, looked = self._seen.get(key, (None, 0.0, now))
        seconds = seconds + min(now - looked, self._grace / 4) if before == state else 0.0
        self._seen[key] = (state, seconds, now)
        who = beat.get("worker", "unknown") if isinstance(beat, dict) else "unknown"
        if ended_here(beat):
            return f"its worker {who} died"
        return f"no sign of its worker {who} for {seconds:.0f} s" if seconds > self._grace else ""


class Reaper:
    """Which running trials lost their worker."""

    def __init__(self, grace: float) -> None:
        self._silence = Silence(grace)

    def dead(self, trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, str]]:
        """Running trials whose worker is gone, each with the reason.

        Trials with neither a slot nor a beat are somebody else's (`study.optimize`) and are left
        alone.
        """
        found = []
        for trial in trials:
            beat = trial.user_attrs.get(BEAT)
            if trial.state != TrialState.RUNNING or (beat is None and SLOT not in trial.user_attrs):
                continue
            if reason := self._silence.broken(trial.number, beat):
                found.append((trial, reason))
        return found


def ended_here(beat: Any) -> bool:
    """Whether the beat is of a process of this very machine that is no more."""
    token = beat.get("life") if isinstance(beat, dict) else None
    here = machine()
    if token is None or here is None or not token.startswith(f"{here}/"):
        return False
    return life(int(token.split("/")[-2])) != token
