"""How far a long command is: a bar at a terminal, elsewhere a line now and then.

    demo: 12 of 30 trials, 3.1 trials a minute, 5 min 50 s left

Where nobody looks (a pipe, a file, a cluster's log) the first line comes after `FIRST` seconds, so
that short commands stay silent there, and then one every `EVERY` seconds at most, also while
nothing moves: a step that is one call of a library (`doing`) says how long it has taken.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from climb_opt.text import amount, counted, duration

FIRST = 10.0  # seconds until the first line
EVERY = 30.0  # seconds between two lines
PULSE = 1.0  # seconds between two looks whether it is time for one
BRIEF = 2.0  # seconds after which a bar appears of what is most often done in a moment

# The innermost last: it alone says that time passes. By `id`: tqdm's bars take themselves for equal
# where they stand on the same line, and cannot be compared with anything else.
_open: list[int] = []


@contextmanager
def quieter(level: int, *loggers: str) -> Iterator[None]:
    """Log nothing below `level` meanwhile: news of what is emulated buries what was asked for."""
    with ExitStack() as then:
        for log in map(logging.getLogger, loggers):
            then.callback(log.setLevel, log.level)
            log.setLevel(level)
        yield


@contextmanager
def progress(
    total: int | None,
    title: str,
    unit: str,
    *,
    initial: int = 0,
    large: bool = False,
    brief: bool = False,
    show: bool | None = None,
) -> Iterator[Any]:
    """A bar on standard error with rate and time left, or `Lines` where that is no terminal.

    Both are told by `update(n)`, and show that time passes meanwhile.

    Args:
        total: units in all; None where that is not known.
        title: what goes on.
        unit: what is counted, in the singular; "" where nothing is.
        initial: units done before.
        large: units by the thousand and million, such as bytes and tokens.
        brief: most often done in a moment: a bar appears after two seconds, and goes again; a line
            after `EVERY`, and none at the end.
        show: False for neither.
    """
    bar: Any = Lines(total, title, unit, initial=initial, large=large, brief=brief)
    if show is False or sys.stderr.isatty():
        bar = tqdm(
            total=total,
            initial=initial,
            desc=title,
            unit=unit,
            unit_scale=large,
            bar_format=None if unit else "{desc}: {elapsed}",
            delay=BRIEF if brief else 0.0,
            leave=not brief,
            disable=show is False,
        )
    ended = threading.Event()
    pulse = threading.Thread(target=_pulse, args=(bar, ended), daemon=True)
    with bar:
        _open.append(id(bar))
        pulse.start()
        try:
            yield bar
        finally:
            ended.set()
            pulse.join()
            _open.remove(id(bar))


def doing(title: str, *, show: bool | None = None) -> AbstractContextManager[Any]:
    """`progress` of one step that cannot say how far it is: for how long it has run."""
    return progress(None, title, "", brief=True, show=show)


def _pulse(bar: Any, ended: threading.Event) -> None:
    pause = max(PULSE, BRIEF)
    while not ended.wait(pause):
        pause = PULSE
        if _open[-1:] == [id(bar)]:
            bar.refresh()


def counting(bar: Any) -> Callable[[int, int], None]:
    """Tell `bar` how many units are done of how many, for work that counts them itself."""

    def count(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return count


class Lines:
    """What `progress` gives where standard error is no terminal; `tqdm`'s calls that we use.

    Args:
        brief: as of `progress`.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        total: int | None,
        title: str,
        unit: str,
        *,
        initial: int = 0,
        large: bool = False,
        brief: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.n = total, initial
        self._title, self._unit, self._large = title.strip(), unit, large
        self._initial, self._postfix, self._said = initial, "", initial
        self._clock, self._lock = clock, threading.Lock()
        self._begun = clock()
        self._brief, self._first = brief, self._begun + (EVERY if brief and unit else FIRST)
        self._next = self._first

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """`n` more units are done."""
        with self._lock:  # stages advance it from several threads
            self.n += n
        self.refresh()

    def refresh(self) -> None:
        """Write a line if it is time for one."""
        with self._lock:
            if self._clock() >= self._next:
                self._write()

    def close(self) -> None:
        """Write how it ended, where lines were written before."""
        with self._lock:
            if self._next > self._first and self.n != self._said and not self._brief:
                self._write()

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Words that end the line."""
        self._postfix = text
        if refresh:
            self.refresh()

    @staticmethod
    def write(text: str, file: TextIO | None = None) -> None:
        """A line of something else, on standard output by default."""
        print(text, file=file or sys.stdout, flush=True)

    def line(self) -> str:
        """How far it is, how fast, how long still."""
        seconds = self._clock() - self._begun
        if not self._unit:
            return f"{self._title}: {duration(seconds)} so far"
        units = counted(0, self._unit).partition(" ")[2]
        said = amount if self._large else str
        whole = "" if self.total is None else f" of {said(self.total)}"
        words = [f"{said(self.n)}{whole} {units}"]
        if self.n == self._initial:
            words.append(f"{duration(seconds)} so far")
        elif seconds > 0:
            rate = (self.n - self._initial) / seconds
            words.append(speed(rate, units))
            if self.total is not None and self.n < self.total:
                words.append(f"{duration((self.total - self.n) / rate)} left")
        return f"{self._title}: {', '.join([*words, *filter(None, [self._postfix])])}"

    def _write(self) -> None:
        self._next, self._said = self._clock() + EVERY, self.n
        print(self.line(), file=sys.stderr, flush=True)


def speed(rate: float, units: str) -> str:
    """Units a second, told in the period that makes it a number a person grasps."""
    for period, seconds in (("second", 1.0), ("minute", 60.0), ("hour", 3600.0)):
        if rate * seconds >= 1 or period == "hour":
            break
    article = "an" if period == "hour" else "a"
    return f"{amount(rate * seconds)} {units} {article} {period}"
