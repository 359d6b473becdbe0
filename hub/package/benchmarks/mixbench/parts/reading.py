# Written by hub/build.py from climb_opt: change it there.
"""Files that people hand over -> text, JSON, tables, however they were saved.

Compression and encodings are those of `climb_opt.streams`; cells are as long as the file has them.
A table may also be Parquet, whatever its name.
What cannot be read is one `UserError` with file, place, value and remedy.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import UserError, brief, misnamed
from .extras import need
from .streams import encoding_of, read_bytes
from .unpacking import Damaged

MARK = "\ufeff"
PARQUET = b"PAR1"  # how such a file begins
_LONGEST_CELL = 2**31 - 1  # a C long everywhere; the library refuses more than 131,072
AS_LINES = (
    "Each line must be one JSON object; a file that is a list, or has an object over several "
    "lines, is turned into lines by: jq -c 'if type == \"array\" then .[] else . end' FILE"
)
ESCAPED = (
    "write the file anew with them escaped: python3 -c 'import json, sys; [print(json.dumps("
    "json.loads(line, strict=False))) for line in sys.stdin.buffer]' < FILE > NEW.jsonl"
)
AS_UTF8 = "save it as UTF-8 (for example: iconv -f LATIN1 -t UTF-8)"


def read_text(path: Path | str) -> str:
    """The text of a file, without its byte-order mark.

    Raises:
        UserError: the file cannot be read, is damaged, or is not in one of the encodings.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        place = len(data) - len(error.object) + error.start
        raise UserError(
            f"{path}, line {_line(data, place)}, byte {place}: 0x{data[place]:02x} is not "
            f"{error.encoding.upper()}; {AS_UTF8}."
        ) from None


def read_json(path: Path | str) -> Any:
    """The plain data of a JSON file.

    Raises:
        UserError: as `read_text`, or the text is not JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}.") from None


def read_csv(path: Path | str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table and its other rows, each with the number of its line; see `table`.

    Of a Parquet file the cells are what Python prints of them, nothing where there is none, and
    the lines those that it would have as CSV.

    Raises:
        UserError: as `read_text`, or the file is no table (an open quote, a broken Parquet file),
            or pyarrow is not installed.
    """
    if _begins_with(path, PARQUET):
        return _read_parquet(path)
    rows = table(io.StringIO(read_text(path), newline=""), str(path))
    _, header = next(rows, (0, []))
    return header, [(line, row) for line, row in rows if row]


def table(text: IO[str], name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, the header first, each with the number of its last line.

    Cells are parted by commas, or by tabs or semicolons where the first line holds no comma; in
    files called .tsv, by tabs.

    Args:
        text: with all its line ends, as `newline=""` leaves them.

    Raises:
        UserError: a quote is open.
    """
    first = text.readline()
    said = re.fullmatch(r"sep=(.)\s*", first)  # a first line that is Excel's, not the table's
    marks = "\t,;" if ".tsv" in name.lower() else ",\t;"
    mark = said[1] if said else next((c for c in marks if c in first), ",")
    limit = csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(itertools.chain([first], text), delimiter=mark, strict=True)
    last = 0
    try:
        if said:
            next(reader)
        for row in reader:
            last = reader.line_num
            yield last, row
    except csv.Error as error:
        raise Damaged(
            f"{name}, line {last + 1}: not readable as CSV: {error}; look for a quote that is not "
            "closed or not doubled."
        ) from None
    finally:
        csv.field_size_limit(limit)


def no_column(path: Path | str, column: str, header: Sequence[str]) -> UserError:
    """What to raise for a column that a table has not."""
    return UserError(f"{path} has no {misnamed('column', column, header)}")


def named(columns: str | Sequence[str]) -> list[str]:
    """Names of columns; one that stands alone is a list of one."""
    return [columns] if isinstance(columns, str) else list(columns)


def check_there(what: str, columns: Sequence[str], files: Iterable[Path | str]) -> None:
    """A UserError, if one of the columns that `what` names is in none of the files."""
    headers = [read_csv(path)[0] for path in files] if columns else []
    known = list(dict.fromkeys(name for header in headers for name in header))
    if absent := [name for name in columns if name not in known]:
        raise UserError(f"{what}: no file has {misnamed('column', absent[0], known)}")


def check_once(path: Path | str, header: Sequence[str], used: Iterable[str]) -> None:
    """A UserError, if one of the used columns is there twice."""
    if twice := [name for name in used if header.count(name) > 1]:
        raise UserError(f"{path} names column {twice[0]!r} twice.")


def whole_rows(
    path: Path | str, header: Sequence[str], rows: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[str, list[str]]]:
    """Where each row is, and its cells.

    Raises:
        UserError: a row has not as many as there are columns.
    """
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f"{path}, line {line}: {len(row)} cells under {len(header)} columns.")
        yield f"{path}, line {line}", row


def decode(data: bytes) -> str:
    """Bytes as text, by their mark, without it.

    Raises:
        UnicodeDecodeError: they are in no known encoding.
    """
    encoding, mark = encoding_of(data[:4])
    return data[mark:].decode(encoding)


def parse_json(text: str) -> Any:
    """JSON -> plain data; a whole number of too many digits for Python stays text.

    Raises:
        ValueError: it is no JSON, or nested deeper than Python can follow.
    """
    text = text.removeprefix(MARK)  # also within a file, where several were joined
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python's limit of 4300 digits
        return json.loads(text, parse_int=integer)
    except RecursionError:
        raise ValueError("nested too deeply for Python's JSON") from None


def is_control(error: ValueError) -> bool:
    """Whether what is wrong with JSON is a character such as a tab in a string, not escaped."""
    return isinstance(error, json.JSONDecodeError) and error.msg.startswith("Invalid control")


def json_remedy(error: ValueError) -> str:
    """What to do about a line that is no JSON."""
    return f"JSON has it escaped; {ESCAPED}." if is_control(error) else f"{AS_LINES}."


def integer(digits: str) -> int | str:
    """A whole number of JSON; as text, where it has more digits than Python turns into one."""
    try:
        return int(digits)
    except ValueError:
        return digits


# --- private -------------------------------------------------------------------------------------


def _begins_with(path: Path | str, mark: bytes) -> bool:
    try:
        with open(path, "rb") as raw:
            return raw.read(len(mark)) == mark
    except OSError:
        return False  # whoever reads it says so


def _read_parquet(path: Path | str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    parquet = need("pyarrow.parquet", f"Reading {path}", "pyarrow")
    arrow = need("pyarrow", f"Reading {path}", "pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            found = file.read()
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"{path} is Parquet but cannot be read ({brief(error)}).") from None
    columns = [["" if x is None else str(x) for x in c.to_pylist()] for c in found.columns]
    rows = zip(*columns, strict=True)
    return found.column_names, [(line, list(row)) for line, row in enumerate(rows, 2)]


def _line(data: bytes, place: int) -> int:
    """The number of the line that a byte is in, whatever ends lines."""
    return len(re.findall(rb"\r\n?|\n", data[:place])) + 1
