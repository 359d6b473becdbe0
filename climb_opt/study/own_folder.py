"""Whose runs a folder holds: studies of one name must not mix what they keep in it.

A name is one study's in its storage only, and two teams may give one folder of runs to studies of
one name. So a study has an identity, drawn when it is first trained, which goes wherever its
attributes are copied to; a file in its folder says the same one. Studies and folders of version
0.1.0 have neither, and get it from the first worker.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import optuna
from optuna.storages import InMemoryStorage

from climb_opt.attributes import IDENTITY
from climb_opt.errors import UserError
from climb_opt.files import write_whole, writing
from climb_opt.storages import explained, persist, study_lock
from climb_opt.text import file_name
from climb_opt.view import StudyView

MARKER = "study.json"  # in a study's folder


def own_folder(study: optuna.Study, directory: str | Path) -> Path:
    """The study's folder in one of runs.

    Raises:
        UserError: it is another study's, or its marker cannot be read.
    """
    folder = _folder(study, directory)
    found = _marked(folder)  # read first: written last
    if found is not None and found != study.user_attrs.get(IDENTITY):
        raise UserError(
            f"{str(folder)!r} holds runs of another study that is called {study.study_name!r} "
            f"({MARKER} in it); give another --runs, or this study another name. If that one is "
            "gone for good, remove the folder; if this is that study, out of a copy of its storage "
            f"from before {MARKER} was written, remove {MARKER} alone."
        )
    return folder


def mark_folder(
    study: optuna.Study, directory: str | Path, stop: Callable[[], bool] = lambda: False
) -> None:
    """Make the folder this study's, for whoever comes later.

    One in memory leaves it as it is: nobody can go on with it.

    Args:
        stop: asked while the storage is away.

    Raises:
        UserError: it is another study's, or cannot be written.
    """
    storage = StudyView(study).storage
    if isinstance(storage, InMemoryStorage):
        return
    with explained(storage):
        identity = persist(partial(_identity, study), stop)
    folder = own_folder(study, directory)
    if _marked(folder) is None:
        with writing(folder / MARKER):
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"study": study.study_name, "identity": identity})
            write_whole(folder / MARKER, f"{text}\n")


def leave_folder(study: optuna.Study, directory: str | Path) -> None:
    """The folder is no longer this study's, and goes if nothing else lies in it."""
    folder = _folder(study, directory)
    # There is none, something lies in it, or nobody knows whose it is.
    with contextlib.suppress(OSError, UserError):
        if _marked(folder) == study.user_attrs.get(IDENTITY):
            (folder / MARKER).unlink(missing_ok=True)
        folder.rmdir()


# --- private -----------------------------------------------------------------------------------


def _folder(study: optuna.Study, directory: str | Path) -> Path:
    return Path(directory) / file_name(study.study_name)


def _identity(study: optuna.Study) -> str:
    if IDENTITY not in study.user_attrs:
        with study_lock(study):  # workers that begin at once must agree
            if IDENTITY not in study.user_attrs:
                study.set_user_attr(IDENTITY, uuid.uuid4().hex)
    return str(study.user_attrs[IDENTITY])


def _marked(folder: Path) -> str | None:
    """The identity of the study whose folder it is; None where it does not say."""
    file = folder / MARKER
    try:
        return str(json.loads(file.read_bytes())["identity"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(file)!r}, which says whose runs its folder holds, cannot be read "
            f"({type(error).__name__}: {error}); if they are this study's, remove it."
        ) from error
