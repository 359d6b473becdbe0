"""What is read and how: options, sources, and the record that a format's reader is.

A reader is one file that holds one `Reader`. Those of climb_opt are named in `climb_opt.lookup`,
others as an input `module:Name:where` (docs/own-reader.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from climb_opt.corpus.documents import Bad, Document
from climb_opt.corpus_recipe import CorpusRecipe
from climb_opt.text import storable

Record = Document | Bad
Row = tuple[int, Any]  # its number from 0, and its fields, a Bad, or a ready Document
EXAMPLES = 3
Progress = Callable[[int], None]  # told how many bytes of the input were consumed


@dataclass(frozen=True)
class ReadOptions:
    """Where the text, the id and further fields of a document are (see corpus/read/fields.py)."""

    text_field: str = CorpusRecipe.text_field
    id_field: str = CorpusRecipe.id_field
    fields: tuple[str, ...] = ()  # kept beside the text: for targets, scorers, labels
    detokenize: str | None = None  # the tokenizer, where the text field holds tokens


@dataclass(frozen=True)
class Source:
    """One input that is read by one process from start to end.

    `fields` are added to every one of its documents.
    """

    kind: str  # its reader: a name of `climb_opt.lookup`, or module:Name
    path: str
    name: str  # what its documents are called when they have no id, and messages call it
    bytes: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)  # what the kind's reader needs
    version: str = ""  # changes when the input changes

    def with_fields(self, fields: dict[str, Any]) -> Source:
        """The source whose documents have these fields too."""
        return replace(self, fields={**self.fields, **fields})


UNKNOWN = "of no known format"


@dataclass
class LeftOut:
    """What was left out of one input, by reason."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """One more file or folder."""
        self.found.setdefault(reason, []).append(storable(name))

    def line(self, name: str) -> str:
        """All of it in one line, with examples."""
        parts = [
            f"{len(names)} {reason} ({', '.join(sorted(names)[:EXAMPLES])}"
            f"{', ...' if len(names) > EXAMPLES else ''})"
            for reason, names in self.found.items()
        ]
        known = ", if its format is known: let texts (code, pages) end in .txt, or write a reader"
        known = f"{known} (docs/own-reader.md)" if UNKNOWN in self.found else ""
        rest = f"A file named by its own path is read{known}."
        return f"Left out of {name!r}: {'; '.join(parts)}. {rest}"


@dataclass(frozen=True)
class Reader:
    """How one format is found and read.

    Attributes:
        about: one line for lists.
        read: the rows of a source: a number from 0, and a mapping of fields with the text under
            `options.text_field`, or `Bad(reason, where)`. Raises `Damaged` where the rest of a file
            cannot be read.
        endings: of the files that hold the format, lower case, compression included.
        prefix: what an input begins with that is found by `sources`; of climb_opt's own only.
        sources: what `where` of such an input stands for; None: the file, folder or pattern. What
            it leaves out goes to its second argument.
        whole: a file is one document, so many files are one source: `extra["files"]`, below `path`.
        schema: a source's Arrow schema, where the fields are known without reading rows.
        rank: its files are left out of folders that hold files of a lower one: a table or a .json
            beside others is rather about the documents than one of them.
    """

    about: str
    read: Callable[[Source, ReadOptions, Progress], Iterator[Row]] | None = None
    endings: tuple[str, ...] = ()
    prefix: str = ""
    sources: Callable[[str, LeftOut], Iterator[Source]] | None = None
    whole: bool = False
    schema: Callable[[Source], Any] | None = None
    rank: int = 0
