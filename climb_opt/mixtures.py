"""Mixtures as people write them, in files and on standard input; `sums.py` says which are any."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from climb_opt.errors import UserError
from climb_opt.reading import AS_UTF8, decode, read_csv
from climb_opt.written import number
from climb_opt.yamls import parse_yaml, read_yaml

TRAIN = "train"  # RegMix's files hold the mixture under this key, beside `valid`


def read_mixture(file: str | Path, prefix: str = "") -> dict[str, float]:
    """domain -> weight of a YAML file, or of standard input for "-"; RegMix's `train:` is opened.

    Args:
        prefix: cut from the file's names, e.g. "train_".

    Raises:
        UserError: no such file, or it holds no mixture.
    """
    if file != "-":
        return mixture_from(read_yaml(file, text_values=True), str(file), prefix)
    where = "standard input"
    return mixture_from(parse_yaml(_standard_input(), where, text_values=True), where, prefix)


def read_mixtures(file: str, prefix: str = "") -> list[tuple[str, dict[str, float]]]:
    """The mixtures of a file as `read_mixture` takes it, or of the rows of a .csv or .tsv.

    Returns:
        what tells each from the file's others ("", or "-2" for the table's second line), and it.

    Raises:
        UserError: as of `read_mixture`; a row with other than a cell for each domain of the header.
    """
    if not file.lower().removesuffix(".gz").removesuffix(".zst").endswith((".csv", ".tsv")):
        return [("", read_mixture(file, prefix))]
    header, rows = read_csv(file)
    if not rows:
        raise UserError(f"{file}: no mixture; each row below the domains' names is one.")
    found = []
    for line, row in rows:
        where = f"{file}, line {line}"
        if len(row) != len(header) or len(set(header)) < len(header):
            raise UserError(
                f"{where}: {len(row)} cells, but the first line names {len(set(header))} domains. "
                "Give a column for each domain and no other."
            )
        mixture = mixture_from(dict(zip(header, row, strict=True)), where, prefix)
        found.append((f"-{line}", mixture))
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
        try:
            mixture[name] = number(value, f"the weight of {name!r}")
        except UserError as error:
            raise UserError(f"{where}: {rule}: {error}") from None
    return mixture


def _standard_input() -> str:
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
