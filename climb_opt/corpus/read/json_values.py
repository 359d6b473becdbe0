"""JSON values one after the other, in a list or not, without more than one of them in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from climb_opt.corpus.documents import Bad
from climb_opt.reading import integer, is_control
from climb_opt.streams import unpacking
from climb_opt.unpacking import Damaged

CONTROL = "a control character in a string"  # the reason of a document, where JSON has one escaped
LARGEST = 1 << 30  # characters of one value
_PIECE = 1 << 20
_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
_BETWEEN = re.compile(r"[ \t\r\n\ufeff,]*")  # in a list
_NEAR = 16  # characters: where a mistake so near to the end may be none, had one read on
_KEPT = "surrogateescape"  # bytes that are no UTF-8: the fault of one document
_STRICT = json.JSONDecoder(parse_int=integer)
_ANY_TEXT = json.JSONDecoder(parse_int=integer, strict=False)


class TooLong(Damaged):
    """One value is larger than `LARGEST`."""


def values(stream: IO[bytes], name: str) -> Iterator[Any]:
    """The values of a file; lists at the top are opened. A `Bad` for an element that cannot be.

    Args:
        stream: the file, unpacked, as UTF-8.

    Raises:
        Damaged: it is no JSON from some place on.
        TooLong: one value is larger than `LARGEST`.
    """
    text = _Text(stream, name)
    inside = False
    count = 0
    while text.skip(_BETWEEN if inside else _SPACE):
        sign = text.next
        if sign == ("]" if inside else "["):
            inside = not inside
            text.place += 1
            continue
        yield text.value(f"{name}:{count + 1}")
        count += 1
    if inside:
        raise Damaged(f"{name} is damaged or truncated (its list is not closed)")


class _Text:
    """The part of a file's text that is looked at."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        self._decoder = codecs.getincrementaldecoder("utf-8")(_KEPT)
        self._seen = ""
        self._before = 0  # characters that are behind
        self.place = 0

    @property
    def next(self) -> str:
        return self._seen[self.place]

    def skip(self, blank: re.Pattern[str]) -> bool:
        """Go on to what is not blank; whether there is any."""
        while True:
            found = blank.match(self._seen, self.place)
            assert found is not None  # nothing matches, too
            self.place = found.end()
            if self.place < len(self._seen):
                return True
            if not self._more():
                return False

    def value(self, where: str) -> Any:
        """The value that begins here."""
        decoder, bad = _STRICT, None
        while True:
            try:
                found, end = decoder.raw_decode(self._seen, self.place)
            except json.JSONDecodeError as error:
                if is_control(error):
                    byte = len(self._seen[self.place : error.pos].encode("utf-8", _KEPT)) + 1
                    decoder, bad = _ANY_TEXT, Bad(CONTROL, f"{where}, byte {byte}")
                    continue
                cut = error.msg.startswith("Unterminated") or error.pos + _NEAR >= len(self._seen)
                if cut and self._more():
                    continue
                place = f"character {self._before + error.pos + 1}"
                raise Damaged(
                    f"{self._name} is damaged or no JSON ({place}: {error.msg})"
                ) from None
            except RecursionError:
                raise Damaged(f"{where} is nested too deeply for Python's JSON") from None
            whole = end < len(self._seen) or isinstance(found, (str, list, dict))
            if whole or not self._more():  # a number may go on
                self.place = end
                return found if bad is None else bad

    def _more(self) -> bool:
        """Read on, twice as far each time, so that a long value costs no more than a few looks."""
        self._seen, self._before = self._seen[self.place :], self._before + self.place
        self.place = 0
        if len(self._seen) > LARGEST:
            raise TooLong(
                f"{self._name}: a value in it is longer than {LARGEST:,} characters; write a list "
                "as lines by: jq -cn --stream 'fromstream(1|truncate_stream(inputs))' FILE "
                "> NEW.jsonl (2 in place of 1 for a list in an object)"
            )
        with unpacking(self._name):
            piece = self._stream.read(max(_PIECE, len(self._seen)))
        self._seen += self._decoder.decode(piece, final=not piece)
        return bool(piece)
