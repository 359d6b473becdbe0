"""The report as one HTML page that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import climb_opt
from climb_opt.commands import typed_with
from climb_opt.reports import section as kinds
from climb_opt.reports.contents import Contents
from climb_opt.reports.draw import markup
from climb_opt.reports.draw.markup import Html
from climb_opt.reports.parts.sections import sections
from climb_opt.text import in_html, printable

STYLE = Path(__file__).with_name("style.css")
TITLE = " · mixture search"  # behind the study's name


@typed_with(None)
def render(contents: Contents) -> str:
    """The page, with the time of the report."""
    shown = sections(contents)
    name = printable(contents.snapshot.name)
    head = f"<header><h1>{in_html(name)}</h1>{_about(contents)}{_links(shown)}</header>"
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    foot = f"<footer>climb_opt {climb_opt.__version__} · {stamp}</footer>"
    main = f"<main>{''.join(map(draw, shown))}</main>"
    style = STYLE.read_text(encoding="utf-8")
    return markup.page(f"{name}{TITLE}", style, head + main + foot)


def draw(section: kinds.Section) -> Html:
    """One section with its anchor; the overview, which has no title, as it is."""
    inner = "".join(map(_block, section.blocks))
    return markup.section(section.id, section.title, inner) if section.title else Html(inner)


def _about(contents: Contents) -> str:
    snapshot, recipe = contents.snapshot, contents.snapshot.recipe
    text = f"{len(snapshot.space)} domains"
    if recipe is not None:
        text = f"Corpus {recipe.corpus_folder}, {text}, sampler {recipe.sampler.name}"
        for name, objective in recipe.objectives().items():
            better = "higher" if objective.direction == "maximize" else "lower"
            text += f", {name} of {', '.join(objective.coefficients())} ({better} is better)"
    return markup.paragraph(text + ".", "soft")


def _links(shown: Sequence[kinds.Section]) -> str:
    links = [f'<a href="#{s.id}">{in_html(s.title)}</a>' for s in shown if s.title]
    return f"<nav>{''.join(links)}</nav>" if links else ""


def _block(block: kinds.Block) -> str:
    if isinstance(block, kinds.Words):
        return markup.paragraph(block.text, block.style)
    if isinstance(block, kinds.Facts):
        return markup.cards(block.pairs)
    if isinstance(block, kinds.Table):
        return _table(block)
    if isinstance(block, kinds.Figure):
        return markup.figure(block.svg, block.caption, markup.key(block.legend))
    if isinstance(block, kinds.Beside):
        return f'<div class="pair">{"".join(map(_block, block.figures))}</div>'
    assert isinstance(block, kinds.Verbatim)
    return markup.details(block.summary, markup.preformatted(block.text))


def _table(block: kinds.Table) -> str:
    rows = [[_cell(cell) for cell in row] for row in block.rows]
    title = f"<h3>{in_html(block.title)}</h3>" if block.title else ""
    if block.fold:
        return title + markup.details(block.fold, markup.table(block.head, rows, text=block.text))
    return title + markup.long_table(block.head, rows, text=block.text, few=block.few)


def _cell(cell: kinds.Cell) -> markup.Cell:
    if isinstance(cell, kinds.Name):
        return markup.name_cell(cell.text)
    if isinstance(cell, kinds.Bar):
        return markup.bar_cell(cell.weight, cell.mark, cell.largest)
    if isinstance(cell, kinds.Heat):
        return markup.heat_cell(cell.weight, cell.largest)
    return Html(f"<b>{in_html(cell.text)}</b>") if isinstance(cell, kinds.Sure) else cell
