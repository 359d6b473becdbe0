"""Reading a journal that another program damaged: every line that can be read counts.

A line that is no operation of Optuna's (garbage, zero bytes after a power cut, another program's
JSON) is left out, and said. Of two lines run together the second is read. Trials have no number in
the journal: they are counted as they are created, so a creation that was lost would shift all later
ones onto each other's results; later lines tell how many are missing, and each gets a stand-in that
a worker fails like the trial of a dead one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

from climb_opt.attributes import BEAT, ERROR
from climb_opt.errors import UserError
from climb_opt.storages.database import StorageAway

log = logging.getLogger(__name__)

Log = dict[str, Any]
START = b'{"op_code":'
# Optuna's operations by number: what each must hold.
NEEDED: dict[int, tuple[str, ...]] = {
    0: ("study_name", "directions"),
    1: ("study_id",),
    2: ("study_id", "user_attr"),
    3: ("study_id", "system_attr"),
    4: ("study_id", "datetime_start"),
    5: ("trial_id", "param_name", "param_value_internal", "distribution"),
    6: ("trial_id", "state", "values"),
    7: ("trial_id", "step", "intermediate_value"),
    8: ("trial_id", "user_attr"),
    9: ("trial_id", "system_attr"),
    10: (),
}
CREATE_STUDY, DELETE_STUDY, CREATE_TRIAL = 0, 1, 4
SHOWN = 5  # numbers of damaged lines in a message


@contextmanager
def in_use(journal: str | Path) -> Iterator[None]:
    """Where a journal is used that was there when it was opened.

    Raises:
        StorageAway: it or its folder is no more; it may be put back.
    """
    try:
        yield
    except FileNotFoundError:
        raise StorageAway(
            f"Journal {str(journal)!r} is gone: it was moved or deleted while in use. Put it back, "
            "or start again with another --storage."
        ) from None


@dataclass
class _Numbers:
    """The numbers that Optuna gives to studies and trials as it replays a journal."""

    studies: dict[int, str] = field(default_factory=dict)  # those not deleted
    next_study: int = 0
    trials: int = 0
    latest: int = 0  # the study of the last trial

    def apply(self, entry: Log) -> None:
        kind = entry["op_code"]
        if kind == CREATE_STUDY and entry["study_name"] not in self.studies.values():
            self.studies[self.next_study] = entry["study_name"]
            self.next_study += 1
        elif kind == DELETE_STUDY:
            self.studies.pop(entry["study_id"], None)
        elif kind == CREATE_TRIAL and self._known(entry["study_id"]):
            self.trials += 1
            self.latest = entry["study_id"]

    def _known(self, study: int) -> bool:
        return study in self.studies or study >= self.next_study

    def copy(self) -> _Numbers:
        return replace(self, studies=dict(self.studies))


class SalvagingBackend(JournalFileBackend):
    """Optuna's journal file, read as far as it can be.

    `damaged` has the numbers of the lines that could not, `line` is the last one read.
    """

    def __init__(self, path: str, lock: Any) -> None:
        super().__init__(path, lock_obj=lock)
        self._begin()

    def _begin(self) -> None:
        self.damaged: list[int] = []
        self.line, self._replaced = 0, 0
        self._numbers = _Numbers()
        self._next = (0, 0)  # the log that comes next, and where it begins in the file

    def read_logs(self, log_number_from: int) -> Iterator[Log]:  # type: ignore[override]
        """The operations from this one on; a last line that is not whole yet is left for later."""
        if log_number_from != self._next[0]:
            self._begin()  # the storage was copied, or left in the middle of a damaged line
        before = len(self.damaged)
        number, place = self._next
        with in_use(self._file_path), open(self._file_path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < place:
                raise UserError(
                    f"Journal {self._file_path!r} was cut or replaced while in use. Start again; "
                    "what it holds now is gone on with."
                )
            file.seek(place)
            while (line := file.readline()).endswith(b"\n") and file.tell() <= size:
                self.line += 1
                found = self._entries(line, file.tell())
                self._next = (number + len(found), file.tell())
                for entry in found:
                    self._numbers.apply(entry)
                    number += 1
                    if number > log_number_from:
                        yield entry
        if len(self.damaged) > before:
            log.warning("%s", self.described())

    def described(self) -> str:
        """One line: what could not be read."""
        count = len(self.damaged)
        lines = ", ".join(map(str, self.damaged[:SHOWN])) + (", ..." if count > SHOWN else "")
        text = (
            f"Journal {self._file_path!r} is damaged: {count} of {self.line} lines cannot be "
            f"read and are left out (line{'s' if count > 1 else ''} {lines})."
        )
        if self._replaced:
            text += f" Of {self._replaced} trials the beginning is lost: they will be failed."
        return text

    @property
    def readable(self) -> int:
        """Lines that were read whole."""
        return self.line - len(self.damaged)

    def _entries(self, line: bytes, end: int) -> list[Log]:
        whole = _read(line)
        if whole is not None:
            return [whole]
        self.damaged.append(self.line)
        last = _read(line[max(0, line.rfind(START)) :])  # a line that was cut, and the next
        found = [] if last is None else [last]
        return self._missing(end, found) + found

    def _missing(self, place: int, found: list[Log]) -> list[Log]:
        """Stand-ins for what the damaged line created, by what the lines after it speak of."""
        numbers, trials, studies = self._numbers.copy(), 0, 0
        for entry in [*found, *self._whole_lines(place)]:
            if "trial_id" in entry:
                trials = max(trials, entry["trial_id"] - numbers.trials + 1)
            if "study_id" in entry:
                studies = max(studies, entry["study_id"] - numbers.next_study + 1)
            numbers.apply(entry)
        self._replaced += trials
        first = self._numbers.next_study
        study = self._numbers.latest if self._numbers.studies else 0
        return [_stand_in_study(first + i) for i in range(studies)] + [
            _stand_in_trial(study) for _ in range(trials)
        ]

    def _whole_lines(self, place: int) -> Iterator[Log]:
        """The operations from a place in the file to the next damaged line."""
        with open(self._file_path, "rb") as file:
            file.seek(place)
            while (line := file.readline()).endswith(b"\n") and (entry := _read(line)):
                yield entry


def _read(line: bytes) -> Log | None:
    """The operation of a line; None for anything else."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and _is_operation(entry) else None


def _is_operation(entry: Log) -> bool:
    kind = entry.get("op_code")
    numbers = (entry.get(name, 0) for name in ("study_id", "trial_id"))
    return (
        type(kind) is int
        and kind in NEEDED
        and isinstance(entry.get("worker_id"), str)
        and all(name in entry for name in NEEDED[kind])
        and all(type(number) is int and number >= 0 for number in numbers)
    )


def _stand_in_study(number: int) -> Log:
    name = f"damaged-{number}"
    return {"op_code": CREATE_STUDY, "worker_id": "", "study_name": name, "directions": [1]}


def _stand_in_trial(study: int) -> Log:
    attrs = {ERROR: "its beginning in the journal was damaged", BEAT: {"worker": "unknown"}}
    return {
        "op_code": CREATE_TRIAL,
        "worker_id": "",
        "study_id": study,
        "datetime_start": None,
        "user_attrs": attrs,
    }
