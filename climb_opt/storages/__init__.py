"""Where a study lives: URL or path -> Optuna storage, its lock, patience with it.

    runs/climb.journal        a journal file: several processes on one machine (the default)
    postgresql://user@host/db many machines; MySQL by mysql://
    grpc://host:port          Optuna's gRPC proxy in front of a database, for hundreds of workers
    sqlite:///file.db         one process

Whatever goes wrong while opening one is a `UserError` of one line. Passwords are never shown:
every message passes through `redact`.
"""

from climb_opt.storages.locks import StudyLock, study_lock
from climb_opt.storages.opening import DEFAULT, command_on, describe, let_go, location
from climb_opt.storages.outages import (
    explained,
    impatient,
    is_outage,
    never,
    open_storage,
    patient,
    persist,
    reading_once,
    rest,
)
from climb_opt.text import redact

__all__ = [
    "DEFAULT",
    "StudyLock",
    "command_on",
    "describe",
    "explained",
    "impatient",
    "is_outage",
    "let_go",
    "location",
    "never",
    "open_storage",
    "patient",
    "persist",
    "reading_once",
    "redact",
    "rest",
    "study_lock",
]
