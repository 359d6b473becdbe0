"""Signals within a block of code."""

from __future__ import annotations

import os
import signal
import threading

from climb_opt.signals import handling


def test_signals_go_to_the_handlers_within_and_where_they_went_before_afterwards() -> None:
    heard: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    with handling({signal.SIGTERM: lambda number, frame: heard.append(number)}):
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_changes_nothing() -> None:
    within: list[object] = []

    def enter() -> None:
        with handling({signal.SIGTERM: signal.SIG_IGN}):
            within.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert within == [signal.getsignal(signal.SIGTERM)]
