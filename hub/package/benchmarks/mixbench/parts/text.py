# Written by hub/build.py from climb_opt: change it there.
"""Names and numbers as a person reads them, and safe wherever they are printed.

A domain's name is whatever a corpus calls it: it may hold quotes, slashes, HTML, control characters
or emoji. Each place it is printed has one function here: a terminal, HTML, Markdown. What is no
text at all, as file names that are not UTF-8, is made text by `storable` before anything else.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# Characters that Markdown (GitHub's) gives a meaning inside a table cell.
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$<>&])")

LONGEST_NAME = 200  # bytes; file systems take 255, and endings are added

# Halves of surrogate pairs: JSON can spell them, and Python writes bytes that are no UTF-8 so.
_HALVES = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """`text` as text that any file takes: "caf\\xe9" for a byte that is no UTF-8.

    Text that is valid stays as it is.
    """
    return text if text.isascii() else _HALVES.sub(_escaped, text)


def escape_rest(error: UnicodeError) -> tuple[str, int]:
    """The error handler of a stream that takes less than all characters: what it lacks, escaped."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = storable(error.object[error.start : error.end])
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


def walked(data: Any, change: Callable[[Any], Any]) -> Any:
    """Plain data of which each value that is no mapping or list is changed, and each key."""
    if isinstance(data, Mapping):
        return {change(key): walked(value, change) for key, value in data.items()}
    return [walked(v, change) for v in data] if isinstance(data, (list, tuple)) else change(data)


def storable_value(data: Any) -> Any:
    """Plain data with every text in it, keys too, made `storable`."""
    return walked(data, lambda value: storable(value) if isinstance(value, str) else value)


def strict_json(data: Any) -> str:
    """`data` as JSON that any program reads: null for numbers that are not finite."""
    return json.dumps(walked(data, _finite), indent=1, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def same_name(name: str) -> str:
    """Equal for names that one file system or another takes for the same: case, composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that are the `same_name`: the first of each kind with every further one."""
    first: dict[str, str] = {}
    found = []
    for name in names:
        key = same_name(name)
        if key in first:
            found.append((first[key], name))
        first.setdefault(key, name)
    return found


def shortest_ends(paths: Sequence[Sequence[str]]) -> list[str]:
    """What different paths are called for short: the last part, or as many as tell one apart."""
    names = [storable(path[-1]) for path in paths]
    for count in range(2, max(map(len, paths), default=0) + 1):
        times = Counter(names)
        if len(times) == len(names):
            break
        ends = [storable("/".join(path[-count:])) for path in paths]
        names = [b if times[a] > 1 else a for a, b in zip(names, ends, strict=True)]
    return names


def file_name(name: str) -> str:
    """A name as that of one file or folder: as it is where that can be, else with a digest, so that
    no two names get the same one."""
    plain = storable(name).replace("/", "-")
    if plain == name and name.strip(".") and len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain[: LONGEST_NAME // 4]}-{digest[:8]}"


def printable(text: str) -> str:
    """`text` on one line, without control or invisible direction-changing characters."""
    return "".join(_visible(c) for c in storable(str(text)))


def in_html(text: str) -> str:
    """`text` for HTML or SVG content and for quoted attributes."""
    return html.escape(printable(text), quote=True)


def in_markdown(text: str) -> str:
    """`text` for a Markdown table cell or paragraph: shown as typed, never as markup."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def pipe_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table of plain cells."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows)]


def csv_text(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([head, *rows])
    return out.getvalue()


def counted(n: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def width(text: str) -> int:
    """Columns that `text` takes in a terminal: two for East Asian wide characters and emoji."""
    return sum(_columns(c) for c in text)


def shorten(text: str, limit: int) -> str:
    """`text` cut in the middle to at most `limit` columns: names differ at both ends."""
    text = printable(text)
    if width(text) <= limit:
        return text
    head, tail = "", ""
    while width(head) + width(tail) < limit - 2 and len(head) + len(tail) < len(text):
        head += text[len(head)]
        if width(head) + width(tail) < limit - 2:
            tail = text[-len(tail) - 1] + tail
    return f"{head}…{tail}"


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """`text` filled with spaces to `columns`."""
    fill = " " * max(0, columns - width(text))
    return fill + text if right else text + fill


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, and no exponent where one can do without."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 7 or size < -5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - size)}f}"


def score(value: float | None) -> str:
    """A score with the digits that people compare, or a dash."""
    return "-" if value is None else f"{value:.6g}"


def plus_minus(value: float | None, spread: float | None, *, sign: bool = False) -> str:
    """ "1.2104 ± 0.0041": the spread with two digits, the value as precise as the spread.

    Args:
        sign: print a plus too, for differences.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if spread is None or not math.isfinite(spread) or spread <= 0:
        return ("+" if sign and value > 0 else "") + number(value)
    decimals = min(12, max(0, 1 - math.floor(math.log10(spread))))
    return f"{value:{'+' if sign else ''}.{decimals}f} ± {spread:.{decimals}f}"


def unit_words(unit: str) -> str:
    """A unit to print after a number; a plain "score" has none."""
    return "" if unit == "score" else unit


def percent(weight: float) -> str:
    """A weight as a percentage: two digits that count, and "0" only for an exact zero."""
    if weight == 0:
        return "0"
    share = 100 * weight
    if share < 0.01:
        return "<0.01"
    return f"{share:.2f}" if share < 1 else f"{share:.1f}"


def times(value: float) -> str:
    """A factor, such as epochs: two digits that count, nothing finer than a hundredth."""
    if value == 0:
        return "0"
    return "<0.01" if value < 0.01 else number(value, 2)


def amount(value: float) -> str:
    """A large count with its unit: 262k, 1.3M, 40.0B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def powers(value: float) -> str:
    """A number that may be huge, with three digits that count: 40, 3.1e17."""
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{value:.3g}" if abs(value) < 1e4 else f"{float(digits):g}e{int(power)}"


def flops(value: float) -> str:
    """A number of FLOPs: 3.1e17 FLOPs."""
    return f"{powers(value)} FLOPs"


def hours_text(hours: float) -> str:
    """Hours with one digit after the point: <0.1, 3.1, 1,204.0; of 1e15 on with an exponent."""
    if hours < 0.1:
        return "<0.1"
    return f"{hours:,.1f}" if hours < 1e15 else powers(hours)


def duration(seconds: float) -> str:
    """Seconds as 41 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {s} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def _escaped(half: re.Match[str]) -> str:
    code = ord(half[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _visible(character: str) -> str:
    # Cc: control, Cf: format (direction overrides; the joiner inside emoji is one too and stays),
    # Zl/Zp: line separators.
    category = unicodedata.category(character)
    if character == "\u200d" or category not in ("Cc", "Cf", "Zl", "Zp"):
        return character
    return " " if character in "\t\n\r" or category in ("Zl", "Zp") else "\ufffd"


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


# user:secret@ in a URL. Greedy up to the last @ before a blank, so that an unescaped @ or / inside
# a password does not leak its tail.
_IN_URL = re.compile(r"(?P<head>://[^:/@\s'\"]*):[^\s'\"]*@")
_IN_QUERY = re.compile(r"(?P<head>\b(?:password|passwd|pwd|sslpassword)\s*=\s*)[^&\s'\"]+", re.I)


def redact(text: object, instead: str = "***") -> str:
    """The text with another word for every password in a URL or a `password=` setting."""
    hidden = _IN_URL.sub(rf"\g<head>:{instead}@", str(text))
    return _IN_QUERY.sub(rf"\g<head>{instead}", hidden)
