"""Mixtures and schedules as people write them, in files and on standard input."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from climb_opt.errors import UserError, within
from climb_opt.reading import AS_UTF8, decode, read_csv
from climb_opt.schedules import SAME, Phase, Schedule, check_shares, constant
from climb_opt.strict import check_keys
from climb_opt.sums import checked_sum
from climb_opt.written import number
from climb_opt.yamls import parse_yaml, read_yaml

TRAIN = "train"  # RegMix's files hold the mixture under this key, beside `valid`
PHASES = "phases"  # the key of a file under which a schedule stands
KEYS = ("share", "mixture")


def read_mixture(file: str | Path, prefix: str = "") -> dict[str, float]:
    """domain -> weight of a YAML file, or of standard input for "-"; RegMix's `train:` is opened.

    Args:
        prefix: cut from the file's names, e.g. "train_".

    Raises:
        UserError: no such file, or it holds no mixture.
    """
    return mixture_from(*_read(file), prefix)


def read_mixtures(file: str, prefix: str = "") -> list[tuple[str, dict[str, float] | Schedule]]:
    """The mixture or schedule of a file as `read_mixture` and `read_schedule` take it, or the
    mixtures of the rows of a .csv or .tsv.

    Returns:
        what tells each from the file's others ("", or "-2" for the table's second line), and it.

    Raises:
        UserError: as of `read_mixture`; a row with other than a cell for each domain of the header.
    """
    if not file.lower().removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".tsv")):
        data, where = _read(file)
        phased = isinstance(data, list) or (
            isinstance(data, Mapping) and isinstance(data.get(PHASES), list)
        )
        return [("", (schedule_from if phased else mixture_from)(data, where, prefix))]
    header, rows = read_csv(file)
    if not rows:
        raise UserError(f"{file}: no mixture; each row below the domains' names is one.")
    if twice := [name for name in header if header.count(name) > 1]:
        raise UserError(
            f"{file}, line 1: domain {twice[0]!r} has {header.count(twice[0])} columns."
        )
    found: list[tuple[str, dict[str, float] | Schedule]] = []
    for line, row in rows:
        where = f"{file}, line {line}"
        if len(row) != len(header):
            raise UserError(
                f"{where}: {len(row)} cells, but the first line names {len(header)} domains. "
                "Give a column for each domain and no other."
            )
        found.append((f"-{line}", mixture_from(dict(zip(header, row, strict=True)), where, prefix)))
    return found


def mixture_from(data: Any, where: str, prefix: str = "") -> dict[str, float]:
    """As `read_mixture`, from data that was read already; numbers may be text such as "30%"."""
    if isinstance(data, Mapping) and isinstance(data.get(TRAIN), Mapping):
        data = data[TRAIN]
    rule = "a mixture is a mapping of domains to weights"
    if not isinstance(data, Mapping) or not data:
        raise UserError(f"{where}: {rule}, but this is {_kind(data)}.")
    mixture: dict[str, float] = {}
    for key, value in data.items():
        name = str(key).removeprefix(prefix)
        if isinstance(value, Mapping):
            raise UserError(
                f"{where}: {rule}, but {name!r} holds a mapping. Give the mixture alone, or "
                f"under {TRAIN!r}."
            )
        if name in mixture:
            raise UserError(f"{where}: without {prefix!r} there are two domains {name!r}.")
        with within(f"{where}: {rule}"):
            mixture[name] = number(value, f"the weight of {name!r}")
    return mixture


def schedule_from(data: Any, where: str, prefix: str = "") -> Schedule:
    """A schedule from plain data: a list of phases, {"share": ..., "mixture": ...}, or a mapping
    with that list under "phases"; any other mapping is one mixture throughout.

    Args:
        where: the data is from, for messages.
        prefix: cut from domains' names, e.g. "train_".

    Raises:
        UserError: what is wrong, in which phase.
    """
    if isinstance(data, Mapping) and isinstance(data.get(PHASES), list):
        if others := [key for key in data if key != PHASES]:
            raise UserError(f"{where}: unknown key {others[0]!r} beside {PHASES!r}.")
        data = data[PHASES]
    if not isinstance(data, list):
        return constant(_weights(data, where, prefix))
    for place, phase in enumerate(data, start=1):
        of = f"{where}, phase {place}"
        if not isinstance(phase, Mapping):
            raise UserError(f"{of}: a phase has a share and a mixture, but this is {phase!r}.")
        check_keys(phase, KEYS, KEYS, of)
    shares = check_shares([phase["share"] for phase in data], where)
    mixtures = [
        _weights(p["mixture"], f"{where}, phase {n}", prefix) for n, p in enumerate(data, 1)
    ]
    return tuple(Phase(share, mix) for share, mix in zip(shares, mixtures, strict=True))


def read_schedule(file: str | Path) -> Schedule:
    """The schedule of a YAML or JSON file, or of standard input for "-"; as `schedule_from`."""
    return schedule_from(*_read(file))


def _read(file: str | Path) -> tuple[Any, str]:
    """What a file or standard input holds, and its name for messages."""
    if file != "-":
        return read_yaml(file, text_values=True), str(file)
    where = "standard input"
    return parse_yaml(_standard_input(), where, text_values=True), where


def _weights(data: Any, where: str, prefix: str) -> dict[str, float]:
    mixture = mixture_from(data, where, prefix)
    for name, weight in mixture.items():
        if not 0 <= weight < math.inf:
            raise UserError(
                f"{where}: the weight of {name!r} must be at least 0 and finite, but is {weight:g}."
            )
    total = checked_sum(mixture.values(), where)
    return mixture if abs(total - 1) < SAME else {name: w / total for name, w in mixture.items()}


def _standard_input() -> str:
    if sys.stdin is None:
        raise UserError("standard input is closed; pipe a mixture in, or name a file.")
    raw = getattr(sys.stdin, "buffer", None)  # its own decoding depends on the terminal's
    try:
        return str(sys.stdin.read()) if raw is None else decode(raw.read())
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: {error}; {AS_UTF8}.") from None


def _kind(data: object) -> str:
    if data is None or data == "":
        return "empty"
    if isinstance(data, Mapping):
        return "an empty one"
    return "a list" if isinstance(data, list) else f"{data!r}"
