"""The report as Markdown, for a pull request, an issue or the dashboard's note."""

from __future__ import annotations

from collections.abc import Sequence

from climb_opt.commands import typed_with
from climb_opt.reports import section as kinds
from climb_opt.reports.contents import Contents
from climb_opt.reports.parts.sections import sections
from climb_opt.text import in_markdown, percent

MOST = 30  # rows of a table, unless it says how many are enough


class _Bold(str):
    """The text of a cell that is shown in bold."""


@typed_with(None)
def render(contents: Contents) -> str:
    """The whole report in GitHub's Markdown."""
    parts = [f"# {in_markdown(contents.snapshot.name)}", *map(draw, sections(contents))]
    return "\n\n".join(part for part in parts if part) + "\n"


def draw(section: kinds.Section) -> str:
    """One section; empty where nothing of it can be shown without figures."""
    parts = [part for block in section.blocks if (part := _block(block))]
    heading = [f"## {in_markdown(section.title)}"] if section.title else []
    return "\n\n".join([*heading, *parts]) if parts else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = ()) -> str:
    """A Markdown table; cells are escaped.

    Args:
        text: columns, besides the first, that are aligned left.
    """

    def line(cells: Sequence[str]) -> str:
        shown = [f"**{in_markdown(c)}**" if isinstance(c, _Bold) else in_markdown(c) for c in cells]
        return f"| {' | '.join(shown)} |"

    sides = [":---" if k == 0 or k in text else "---:" for k in range(len(head))]
    rule = f"|{'|'.join(sides)}|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def _block(block: kinds.Block) -> str:
    if isinstance(block, kinds.Words) and block.page:
        return ""
    if isinstance(block, kinds.Words):
        words = in_markdown(block.text)
        if block.style.startswith("verdict"):
            return f"**{words}**"
        return f"*{words}*" if block.style == "caution" else words
    if isinstance(block, kinds.Facts):
        return "; ".join(f"{in_markdown(w)}: {in_markdown(v)}" for w, v in block.pairs) + "."
    return _table(block) if isinstance(block, kinds.Table) else ""


def _table(block: kinds.Table) -> str:
    most = MOST if block.brief is None else block.brief
    if not most or not block.rows:
        return ""
    drawn = [k for k, cell in enumerate(block.rows[0]) if not isinstance(cell, kinds.Bar)]
    text = [place for place, k in enumerate(drawn) if k in block.text]
    rows = [[_cell(row[k]) for k in drawn] for row in block.rows[:most]]
    title = f"### {in_markdown(block.title)}\n\n" if block.title else ""
    rest = len(block.rows) - most
    more = f"\n\n{rest} more in the HTML report." if rest > 0 else ""
    return title + table([block.head[k] for k in drawn], rows, text=text) + more


def _cell(cell: kinds.Cell) -> str:
    if isinstance(cell, kinds.Heat):
        return percent(cell.weight)
    if isinstance(cell, kinds.Name | kinds.Sure):
        return _Bold(cell.text) if isinstance(cell, kinds.Sure) else cell.text
    return "–" if cell is None else str(cell)
