"""What a report is made of, as data: sections of words, tables and figures.

Every section is written once (sections.py, mixture.py, ...) and drawn by whoever shows it: page.py
as a page, markdown.py for a pull request and the dashboard's note, terminal.py for a terminal. What
a renderer cannot show it leaves out: Markdown has no figures, and of a table the `brief` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FEW = 30  # rows of a long table that a page shows at once


@dataclass(frozen=True)
class Name:
    """A domain's name in a table, which may break where the line must."""

    text: str


@dataclass(frozen=True)
class Bar:
    """A weight as a bar with a tick at `mark` (the prior), on a scale up to `largest`."""

    weight: float
    mark: float | None
    largest: float


@dataclass(frozen=True)
class Heat:
    """A weight in per cent on a background as strong as it is large."""

    weight: float
    largest: float


@dataclass(frozen=True)
class Sure:
    """A figure that the data tells apart from nothing."""

    text: str


Cell = str | float | int | None | Name | Bar | Heat | Sure


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Args:
        style: "", "soft" (what to know), "caution", or "verdict" with "better" or "worse".
        page: whether it speaks of what only a page shows.
    """

    text: str
    style: str = ""
    page: bool = False


@dataclass(frozen=True)
class Facts:
    """Figures at a glance: (what, value)."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head; the first column is text, the others numbers.

    Args:
        text: further columns of text.
        fold: the line under which a page hides the whole table.
        few: rows that a page shows at once; the others open on demand.
        brief: rows that are enough where nothing folds; 0 for none of it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    text: Sequence[int] = ()
    title: str = ""
    fold: str = ""
    few: int = FEW
    brief: int | None = None


@dataclass(frozen=True)
class Figure:
    """A drawing (SVG), what it says, and its legend: (style, words)."""

    svg: str
    caption: str
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Beside:
    """Figures that stand side by side where there is room."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Verbatim:
    """Text with its line breaks, under a line that opens it."""

    summary: str
    text: str


Block = Words | Facts | Table | Figure | Beside | Verbatim


@dataclass(frozen=True)
class Section:
    """A part of a report. Without a title it is the overview, which stands first."""

    id: str
    title: str
    blocks: Sequence[Block]
