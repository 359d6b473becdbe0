"""A look at the first documents of the inputs: are the fields there that the options name?

A field that no document has would otherwise be found out after hours, or never.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from climb_opt import lookup
from climb_opt.corpus.documents import Bad, Document
from climb_opt.corpus.read.fields import ABSENT, column_names, columns_of, hint, names_in, value_at
from climb_opt.corpus.read.readers import reader_of
from climb_opt.corpus.read.records import rows_in
from climb_opt.corpus.read.source import ReadOptions, Source
from climb_opt.errors import UserError
from climb_opt.streams import utf8
from climb_opt.unpacking import Damaged

logger = logging.getLogger(__name__)

MOST_LOOKED = 1000  # documents of an input
LEAST_LOOKED = 10
LOOKED = 100_000  # documents of all inputs together
BYTES = 16_000_000  # of an input, whatever its documents' size
_PIECE = 1 << 20
_BLANK = 32  # bytes between a name and its colon

_JSON = ("jsonl", "json")


def check_fields(
    sources: Sequence[Source], options: ReadOptions, wanted: Mapping[str, str]
) -> None:
    """Look until every wanted field was seen once: at one document, as a rule.

    A field that none of the first documents has is searched for by its name in all of the JSON
    inputs, which takes a small part of the time of reading them; other formats say what they have.

    Args:
        wanted: field -> the option that names it, for the message.

    Raises:
        UserError: no document has a field, or it has no name.
    """
    if "" in wanted:
        raise UserError(f"{wanted['']}: the field's name is empty.")
    missing, there = dict(wanted), dict[str, None]()
    count = max(LEAST_LOOKED, min(MOST_LOOKED, LOOKED // max(1, len(sources))))
    looked = False
    for source in sources:
        given = {*source.fields, *source.extra.get("sides", {})}
        missing = {f: o for f, o in missing.items() if f not in given}
        for found, names in islice(_answers(source, options, list(missing)), count):
            missing = {f: o for f, o in missing.items() if f not in found}
            if not missing:
                return
            looked = True
            there |= dict.fromkeys(names)
    if not looked:  # nothing that can be read at all is another fault, told where it is read
        return
    logger.info("Looking for %s in all of the inputs.", ", ".join(map(repr, missing)))
    for source in sources:
        if source.kind in _JSON:
            late = named_in(source, missing)
            missing = {f: o for f, o in missing.items() if f not in late}
        if not missing:
            return
    field, option = next(iter(missing.items()))
    whole = all(s.kind in lookup.KINDS["reader"] and s.kind != "hub" for s in sources)
    of = "" if whole else f", of the first {count:,} of each input"
    raise UserError(f"{option}: no document has the field {field!r}{of}. {hint(field, there)}")


def _answers(
    source: Source, options: ReadOptions, fields: Sequence[str]
) -> Iterator[tuple[set[str], Iterable[str]]]:
    """Of one document after the other: which of the fields are there, and what there is."""
    try:
        if (schema_of := reader_of(source.kind).schema) is not None:
            schema = schema_of(source)
            yield {f for f in fields if columns_of(schema, [f], source.name)}, column_names(schema)
        else:
            for record in _records(source, options):
                there = {f for f in fields if value_at(record, f) is not ABSENT}
                yield there, names_in(record)
    except Damaged:  # told, and counted, where it is read
        return


def _records(source: Source, options: ReadOptions) -> Iterator[Mapping[str, Any]]:
    read = 0

    def progress(position: int) -> None:
        nonlocal read
        read = position

    for _, found in rows_in(source, options, progress):
        if isinstance(found, Document):
            found = {options.text_field: found.text, options.id_field: found.id, **found.fields}
        if isinstance(found, Mapping) and not isinstance(found, Bad):
            yield found
        if read > BYTES:
            return


def named_in(source: Source, fields: Iterable[str]) -> set[str]:
    """The fields whose name stands before a colon somewhere in the file.

    That is so for every field that a document has; whether it really is one, reading tells.
    """
    forms = {field: _forms(field) for field in fields}
    keep = max((len(form) for some in forms.values() for form in some), default=0) + _BLANK
    found: set[str] = set()
    seen = b""
    # Damage is told, and counted, where it is read.
    with suppress(OSError, EOFError, ValueError), open(source.path, "rb") as raw:
        stream = utf8(raw, source.name)
        while len(found) < len(forms) and (piece := stream.read(_PIECE)):
            seen += piece
            found |= {f for f in forms.keys() - found if any(_is_key(seen, n) for n in forms[f])}
            seen = seen[-keep:]
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
