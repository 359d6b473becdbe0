"""What can go wrong, by who must act.

UserError     the input is wrong: one line, exit status 2, nothing lost
TrialFailed   this trial is lost, the search goes on (non-finite loss, out of memory, bad scores)
Interrupted   the worker was asked to stop: its state is saved, its slot will be resumed
"""

from __future__ import annotations


class UserError(ValueError):
    """Bad input. The message says what was wrong, which value, what is allowed, what to do next."""


class TrialFailed(RuntimeError):
    """One trial cannot be finished; its reason is stored with it and the search goes on."""


class Interrupted(RuntimeError):
    """The worker was told to stop (SIGTERM, Ctrl-C); the trial's checkpoint is on disk."""
