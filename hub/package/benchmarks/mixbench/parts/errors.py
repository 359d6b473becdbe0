# Written by hub/build.py from climb_opt: change it there.
"""What can go wrong, by who must act.

UserError     the input is wrong: one line, exit status 2, nothing lost
TrialFailed   this trial is lost, the search goes on (non-finite loss, out of memory, bad scores)
Interrupted   the worker was asked to stop: its state is saved, its slot will be resumed
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

LISTED = 12  # names that a message lists at most, where people make the names


class UserError(ValueError):
    """Bad input. The message says what was wrong, which value, what is allowed, what to do next.

    >>> import climb_opt
    >>> climb_opt.MixtureSpace({})
    Traceback (most recent call last):
    climb_opt.errors.UserError: A mixture space needs at least one domain.
    """


@contextmanager
def within(where: str) -> Iterator[None]:
    """Begin what a `UserError` raised inside says with where that was: "phase 2: ..."."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'web'?": what was probably meant by a name that is not known, or nothing.

    Names that differ by case, accents or Unicode form only come first, and are told apart.
    """
    known = list(known)
    near = [k for k in known if bare(k) == bare(name)]
    near = near or difflib.get_close_matches(name, known, n=1)
    if not near:
        return ""
    same = [unicodedata.normalize("NFC", k) == unicodedata.normalize("NFC", name) for k in near]
    asked = [
        f"{k!r}, in another Unicode form ({k!a})" if equal else repr(k)
        for k, equal in zip(near, same, strict=True)
    ]
    return f" Did you mean {' or '.join(asked)}?"


def misnamed(kind: str, name: str, known: Iterable[str]) -> str:
    """What is not known, what was probably meant, and which there are: "domain 'wep'. Did you mean
    'web'? Domains: web, code."."""
    known = list(known)
    return f"{kind} {name!r}.{did_you_mean(name, known)} {kind.capitalize()}s: {listed(known)}."


def listed(names: Iterable[str], most: int = LISTED) -> str:
    """Names for a message: all, or the first `most` and how many more; "none" without any."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def bare(name: str) -> str:
    """A name's letters without case, accents and blanks around them."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in letters if not unicodedata.combining(c)).casefold().strip()


class TrialFailed(RuntimeError):
    """One trial cannot be finished; its reason is stored with it and the search goes on.

    >>> import climb_opt, optuna
    >>> space = climb_opt.MixtureSpace({"web": 1, "code": 1})
    >>> study = optuna.create_study(sampler=climb_opt.ClimbSampler(space, rounds=(2,), seed=0))
    >>> def diverge(trial):
    ...     space.suggest(trial)
    ...     raise climb_opt.TrialFailed("loss is nan at step 37")
    >>> study.optimize(diverge, n_trials=2, catch=climb_opt.TrialFailed)
    >>> [trial.state.name for trial in study.trials]
    ['FAIL', 'FAIL']
    """


class Diverged(TrialFailed):
    """Its loss rose or was no number, as the same data in the same order would make it again."""


class Interrupted(RuntimeError):
    """The worker was told to stop (SIGTERM, Ctrl-C); the trial's checkpoint is on disk."""


@contextmanager
def running(kind: str, name: str) -> Iterator[None]:
    """Where code of an entry runs: an error of somebody's own is one line that names the entry.

    Raises:
        UserError: an entry called "module:Name" raised an error, or called `sys.exit`.
    """
    try:
        yield
    except (UserError, TrialFailed, Interrupted):
        raise
    except (Exception, SystemExit) as error:  # the user's own code: anything
        if ":" not in name:
            raise
        raise UserError(f"{kind} {name!r} raised {error!r}.") from error


@contextmanager
def options_of(
    kind: str,
    name: str,
    options: Mapping[str, Any],
    errors: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Where something is made, or tried, with its options: an error is one line that shows them.

    Raises:
        UserError: one of `errors` was raised.
    """
    try:
        yield
    except UserError:
        raise
    except errors as error:
        said = brief(error).partition(" at /")[0].rstrip(" .")  # not where C++ found it
        given = listed(f"{key}: {value!r:.60}" for key, value in options.items())
        raise UserError(f"{kind} {name!r}: {said}. Correct its options: {given}.") from error


def check_number(what: str, value: float | None, least: float = 1, most: float = math.inf) -> None:
    """Refuse a number that is outside its bounds; None, for one that is not given, is not.

    Raises:
        UserError: with what it is called, what is allowed, and the number.
    """
    if value is not None and not least <= value <= most:
        allowed = f"at least {least}" if most == math.inf else f"in [{least}, {most}]"
        raise UserError(f"{what} must be {allowed}, but is {value}.")


def brief(error: BaseException, most: int = 200) -> str:
    """What an error of somebody else's code says, on one line, with its kind."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error  # no quotes
    text = " ".join(str(said).split())[:most]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(error: object) -> str:
    """What an error of a library says, in one line: its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def unloadable(error: OSError) -> str:
    """What to say of a package that lacks a library of the system: which, and its loader's words.

    >>> unloadable(OSError("libgomp.so.1: cannot open shared object file"))
    'a package could not be loaded (libgomp.so.1: cannot open shared object file). Install the \
library that it names.'
    """
    frames = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    tops = [name.partition(".")[0] for name in frames]
    package = next((top for top in tops if top not in ("importlib", "climb_opt")), "a package")
    return (
        f"{package} could not be loaded ({first_line(error)}). Install the library that it names."
    )
