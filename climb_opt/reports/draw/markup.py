"""The few HTML shapes a report is made of. Everything that is not `Html` is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from climb_opt.text import in_html, percent


class Html(str):
    """Markup made here, as opposed to text from a study, which is escaped."""


Cell = str | float | int | None


def escape(value: Cell) -> str:
    """Markup as it is, anything else as escaped text."""
    return value if isinstance(value, Html) else in_html("–" if value is None else str(value))


def table(
    head: Sequence[Cell], rows: Iterable[Sequence[Cell]], *, text: Sequence[int] = ()
) -> Html:
    """A table that scrolls sideways when the screen is narrow.

    Args:
        text: columns, besides the first, that hold text and are aligned left.
    """

    def cell(tag: str, place: int, value: Cell) -> str:
        if isinstance(value, Html) and value.startswith("<td"):
            return value
        css = ' class="text"' if place in text else ""
        return f"<{tag}{css}>{escape(value)}</{tag}>"

    def row(tag: str, cells: Sequence[Cell]) -> str:
        return "<tr>" + "".join(cell(tag, i, c) for i, c in enumerate(cells)) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return Html(
        f'<div class="scroll"><table><thead>{row("th", head)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def long_table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], *, text: Sequence[int] = (), few: int
) -> Html:
    """A table of which the first `few` rows show; the others open on demand."""
    if len(rows) <= few + 5:
        return table(head, rows, text=text)
    rest = table(head, rows[few:], text=text)
    return Html(
        table(head, rows[:few], text=text) + details(f"The other {len(rows) - few} rows", rest)
    )


def name_cell(name: str) -> Html:
    """A domain's name, broken where the line must."""
    return Html(f'<td class="name">{in_html(name)}</td>')


def bar_cell(weight: float, mark: float | None, largest: float) -> Html:
    """A bar for a weight with a tick at `mark` (the prior), on a scale up to `largest`."""
    scale = 100 / (largest or 1.0)
    tick = "" if mark is None else f'<u style="left:{min(100.0, mark * scale):.1f}%"></u>'
    bar = f'<i style="width:{min(100.0, weight * scale):.1f}%"></i>'
    return Html(f'<td class="bar"><div class="track">{bar}{tick}</div></td>')


def heat_cell(weight: float, largest: float) -> Html:
    """A weight in per cent on a background as strong as it is large."""
    share = 0.0 if largest <= 0 else 70 * (weight / largest) ** 0.5
    return Html(f'<td class="heat" style="--h:{share:.0f}%">{in_html(percent(weight))}</td>')


def cards(pairs: Iterable[tuple[str, str]]) -> Html:
    """Figures at a glance: (what, value)."""
    items = "".join(
        f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for what, value in pairs
    )
    return Html(f'<ul class="cards">{items}</ul>')


def figure(svg: str, caption: Cell, key: str = "") -> Html:
    """A drawing with its legend and what it says."""
    return Html(f"<figure>{svg}{key}<figcaption>{escape(caption)}</figcaption></figure>")


def key(entries: Iterable[tuple[str, str]]) -> Html:
    """A legend: (style, text)."""
    items = "".join(f'<li><i class="{css}"></i>{escape(text)}</li>' for css, text in entries)
    return Html(f'<ul class="key">{items}</ul>' if items else "")


def paragraph(text: Cell, css: str = "") -> Html:
    """One paragraph."""
    return Html(f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>")


def section(name: str, heading: str, inner: str) -> Html:
    """A section with an anchor; empty when there is nothing in it."""
    whole = f'<section id="{name}"><h2>{escape(heading)}</h2>{inner}</section>'
    return Html(whole if inner else "")


def details(summary: str, *parts: str) -> Html:
    """A part that opens when asked for."""
    return Html(f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>")


def preformatted(text: str) -> Html:
    """Text with its line breaks kept."""
    return Html("<pre>" + "\n".join(in_html(line) for line in text.split("\n")) + "</pre>")


def page(title: str, style: str, body: str) -> str:
    """A whole document that loads nothing: a policy in it forbids scripts and the network."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
