"""Is a field named anywhere in a file of JSON? Answered by its bytes, without reading documents."""

from __future__ import annotations

import json
from collections.abc import Iterable

from climb_opt.corpus.read.source import Source
from climb_opt.errors import UserError
from climb_opt.streams import utf8

_PIECE = 1 << 20
_BLANK = 32  # bytes between a name and its colon


def named_in(source: Source, fields: Iterable[str]) -> set[str]:
    """The fields whose name stands before a colon somewhere in the file.

    That is so for every field that a document has; whether it really is one, reading tells.
    """
    forms = {field: _forms(field) for field in fields}
    keep = max((len(form) for some in forms.values() for form in some), default=0) + _BLANK
    found: set[str] = set()
    seen = b""
    try:
        with open(source.path, "rb") as raw:
            stream = utf8(raw, source.name)
            while len(found) < len(forms) and (piece := stream.read(_PIECE)):
                seen += piece
                found |= {
                    f for f in forms.keys() - found if any(_is_key(seen, n) for n in forms[f])
                }
                seen = seen[-keep:]
    except (
        UserError,
        OSError,
        EOFError,
        ValueError,
    ):  # damage: told, and counted, where it is read
        pass
    return found


def _forms(field: str) -> set[bytes]:
    """How JSON may write the last name of a field, in quotes."""
    parts = [part for part in field.split(".") if not part.isdecimal()]
    names = {field, *parts[-1:]}
    return {
        json.dumps(name, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
        for name in names
        for escaped in (True, False)
    }


def _is_key(text: bytes, name: bytes) -> bool:
    place = text.find(name)
    while place >= 0:
        end = place + len(name)
        if text[end : end + _BLANK].lstrip().startswith(b":"):
            return True
        place = text.find(name, end)
    return False
