"""Files that people hand over -> text, JSON, lines, tables, however they were saved.

    compression     gzip, bzip2, xz, Zstandard: known by the first bytes, whatever the name
    encoding        UTF-8; UTF-16 and UTF-32 by their mark or their zero bytes. A mark is no text
    cells, windows  as long as the file has them: the libraries' own limits are lifted

What cannot be read is one `UserError` with file, place, value and remedy.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from climb_opt.errors import UserError
from climb_opt.unpacking import FAULTS, Damaged, unpacked
from climb_opt.written import load

MARK = "\ufeff"
# UTF-32's mark begins with UTF-16's: the longer ones first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Which of the first four bytes are zero, where a file begins with two ASCII characters.
_ZEROS = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}
_LONGEST_CELL = 2**31 - 1  # a C long everywhere; the library refuses more than 131,072
AS_LINES = (
    "Each line must be one JSON object; a file that is a list, or has an object over several "
    "lines, is turned into lines by: jq -c 'if type == \"array\" then .[] else . end' FILE"
)
AS_UTF8 = "save it as UTF-8 (for example: iconv -f LATIN1 -t UTF-8)"


def read_text(path: Path | str) -> str:
    """The text of a file, without its byte-order mark.

    Raises:
        UserError: the file cannot be read, is damaged, or is not in one of the encodings.
    """
    data = _read_bytes(path)
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        place = len(data) - len(error.object) + error.start
        raise UserError(
            f"{path}, line {data[:place].count(10) + 1}, byte {place}: 0x{data[place]:02x} is not "
            f"{error.encoding.upper()}; {AS_UTF8}."
        ) from None


def read_json(path: Path | str) -> Any:
    """The plain data of a JSON file.

    Raises:
        UserError: as `read_text`, or the text is not JSON.
    """
    try:
        return parse_json(read_text(path))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}.") from None


def read_yaml(path: Path | str, *, text_values: bool = False, any_tags: bool = False) -> Any:
    """The plain data of a YAML file; see `climb_opt.written.load`.

    Raises:
        UserError: as `read_text`, or the text is not YAML.
    """
    text = read_text(path).removeprefix(MARK)
    return load(text, str(path), text_values=text_values, any_tags=any_tags)


def parse_yaml(text: str, where: str, *, text_values: bool = False) -> Any:
    """YAML -> plain data, with keys that are text whatever YAML takes them for.

    Args:
        text_values: leave values text too, for files that hold names.

    Raises:
        UserError: it is no YAML, has a key twice or a date that is none, or is nested too deeply.
    """
    return load(text.removeprefix(MARK), where, text_values=text_values)


def read_csv(path: Path | str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table and its other rows, each with the number of its line.

    Cells are parted by commas, or by tabs or semicolons where the first line holds no comma.

    Raises:
        UserError: as `read_text`, or the text is no table (an open quote).
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    said = re.fullmatch(r"sep=(.)\r?", first)  # a first line that is Excel's, not the table's
    mark = said[1] if said else next((c for c in ",\t;" if c in first), ",")
    limit = csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        if said:
            next(reader)
        header = next(reader, [])
        return header, [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: not readable as CSV: {error}; "
            "look for a quote that is not closed or not doubled."
        ) from None
    finally:
        csv.field_size_limit(limit)


def decode(data: bytes) -> str:
    """Bytes as text, by their mark, without it.

    Raises:
        UnicodeDecodeError: they are in no known encoding.
    """
    encoding, mark = encoding_of(data[:4])
    return data[mark:].decode(encoding)


def encoding_of(head: bytes) -> tuple[str, int]:
    """The encoding of a file that begins with these four bytes, and the length of its mark."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    return _ZEROS.get(tuple(byte == 0 for byte in head), "utf-8"), 0  # type: ignore[arg-type]


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
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply for Python's JSON") from None


def lines(raw: io.BufferedReader, name: str) -> Iterator[bytes]:
    """The lines of an open file, unpacked, as UTF-8 without a mark; their bytes are not checked.

    Raises:
        Damaged: the file cannot be unpacked further.
    """
    stream: Any = unpacked(raw, name)
    if stream is not raw:
        stream = io.BufferedReader(stream, 1 << 20)
    try:
        encoding, mark = encoding_of(stream.peek(4)[:4])
        stream.read(mark)
        if encoding == "utf-8":
            yield from stream
            return
        # Halves of surrogate pairs pass: they are the fault of one line, not of the file.
        text = io.TextIOWrapper(stream, encoding, "surrogatepass", newline="\n")
        try:
            for line in text:
                yield line.encode("utf-8", "surrogatepass")
        finally:
            text.detach()  # it would close the file, which is not its own
    except (*FAULTS, UnicodeDecodeError) as error:
        raise Damaged(f"{name} is damaged or truncated ({error})") from None


# --- private -------------------------------------------------------------------------------------


def _read_bytes(path: Path | str) -> bytes:
    try:
        with open(path, "rb") as raw:
            stream = unpacked(raw, str(path))
            try:
                return stream.read()
            except FAULTS as error:
                raise Damaged(f"{path} is damaged or truncated ({error}).") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits
